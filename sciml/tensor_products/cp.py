"""Canonical polyadic (CP) products: the Clebsch-Gordan tensor as a sum of R products of vectors."""

import torch
from e3nn.o3 import Irrep
from torch import Tensor

from sciml.tensor_products.bilinear import Bilinear, OrbitFactors
from sciml.tensor_products.couplings import every_path, summed_coefficients, summed_irreps
from sciml.tensor_products.cp_factors import cp_factors, output_rows
from sciml.tensor_products.gaunt import sector
from sciml.tensor_products.problem import TensorProductProblem

path_weight = every_path


class CP(Bilinear):
    """z = C [(Aᵀ x) ⊙ (Bᵀ y)] with factors of the Clebsch-Gordan tensor: all paths, which share their weights.

    With rank "exact" the factors reproduce the tensor to rounding. With fewer, as in Tensor Decomposition Networks
    (rank 7 L²), the product is in general equivariant only as well as the tensor is approximated: `error` says how
    well, and `sciml.tensor_products.audit` how equivariant that is. Rank 7 of 0e+1e with itself is the exception:
    equivariant to rounding, with path weights within 4 % of equal ones.

    Which tensor is decomposed depends on the parities:

    - x of one parity, y of one parity: the SO(3) tensor, of rank R;
    - x and y of irreps whose p(-1)^l is the same ("0e+1o+2e"): a tensor with outputs of both parities, of rank R;
    - else both parities of one degree can meet: with x± = x_e ± x_o, and likewise y and z, z± = x± ⊗ y± are two SO(3)
      products, of rank 2R.

    Args:
        problem: what to compute.
        layout: see `TensorProduct`.
        implementation: see `TensorProduct`.
        rank: R, or "exact".

    Attributes:
        weight_numel: one weight per channel, shared by all paths ("path-weight sharing"), see `PointwiseProduct`.
        rank: the length of the sum, R or 2R.
        error: relative Frobenius error of the decomposed tensor, with equal path weights.

    Raises:
        ValueError: for a rank that is neither "exact" nor a positive integer.

    Source: Lin et al., Tensor Decomposition Networks for fast machine-learning interatomic potential computations,
        arXiv:2507.01131.
    """

    def __init__(
        self,
        problem: TensorProductProblem,
        *,
        layout: str = "mul_ir",
        implementation: str = "auto",
        rank: int | str = "exact",
    ) -> None:
        irreps_out = summed_irreps(problem, path_weight)
        parities = [{ir.p for _, ir in irreps} for irreps in (problem.irreps_in1, problem.irreps_in2)]
        sectors = [{sector(ir.l, ir.p) for _, ir in irreps} for irreps in (problem.irreps_in1, problem.irreps_in2)]
        mixed = any(len(found) == 2 for found in parities)
        natural = mixed and all(len(found) == 1 for found in sectors)
        family, num = ("natural" if natural else "so3"), (2 if mixed and not natural else 1)
        degrees = (problem.irreps_in1.lmax, problem.irreps_in2.lmax, irreps_out.lmax)
        found = cp_factors(family, degrees, rank)
        if natural:
            # The rows of z are counted from the sector of x times that of y, which may be -1.
            (eta1,), (eta2,) = sectors
            key = {ir: (ir.l, sector(ir.l, ir.p) * eta1 * eta2) for _, ir in irreps_out}
        else:
            key = {ir: (ir.l, 0) for _, ir in irreps_out}
        rows_out, start = {}, 0
        for l, which in output_rows(family, degrees):
            rows_out[l, which] = slice(start, start + 2 * l + 1)
            start += 2 * l + 1
        scale = {
            path.irrep_out: c for path, c in zip(problem.paths, summed_coefficients(problem, path_weight), strict=True)
        }
        square = {
            ir: slice(ir.l**2, (ir.l + 1) ** 2)
            for irreps in (problem.irreps_in1, problem.irreps_in2)
            for _, ir in irreps
        }
        factor1 = torch.cat([_signed(found.in1[square[ir]], ir, num) for _, ir in problem.irreps_in1])
        factor2 = torch.cat([_signed(found.in2[square[ir]], ir, num) for _, ir in problem.irreps_in2])
        factor_out = torch.cat(
            [_signed(found.out[rows_out[key[ir]]] * (scale[ir] / num), ir, num) for _, ir in irreps_out]
        )
        factors = (factor1, factor2, factor_out.T)
        super().__init__(
            problem,
            factors,
            lambda: OrbitFactors(factors, num_terms=1, orbit_size=num),
            irreps_out=irreps_out,
            weights_per_block=False,
            layout=layout,
            implementation=implementation,
        )
        self.rank = self.num_points
        self.error = found.error


def _signed(rows: Tensor, irrep: Irrep, num: int) -> Tensor:
    """Rows of an irrep in the sum and in the difference of both parities."""
    return rows if num == 1 else torch.cat([rows, irrep.p * rows], dim=1)
