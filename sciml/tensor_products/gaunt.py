"""The Gaunt couplings, and how signals of both parities share the points of a product on the sphere."""

import math
from functools import cache
from typing import NamedTuple

import torch
from e3nn.o3 import Irrep, Irreps
from sympy.physics.wigner import wigner_3j as exact_wigner_3j
from torch import Tensor

from sciml.tensor_products.couplings import PathWeight, summed_coefficients, summed_irreps
from sciml.tensor_products.problem import TensorProductProblem


@cache
def gaunt_coefficient(l1: int, l2: int, l3: int) -> float:
    """γ of ∫ Y_i Y_j Y_k dΩ = γ C_ijk, with e3nn's unit-norm C; zero for odd l1+l2+l3.

        γ = √((2 l1 + 1)(2 l2 + 1)(2 l3 + 1) / 4π) |(l1 l2 l3; 0 0 0)|

    Source: Gaunt, Phil. Trans. A 228, 151 (1929); in tensor products, Luo et al., arXiv:2401.10216.
    """
    if (l1 + l2 + l3) % 2:
        return 0.0
    size = (2 * l1 + 1) * (2 * l2 + 1) * (2 * l3 + 1)
    return math.sqrt(size / (4 * math.pi)) * abs(float(exact_wigner_3j(l1, l2, l3, 0, 0, 0)))


@cache
def vector_signal_coefficient(l1: int, l2: int, l3: int) -> float:
    """|γ| of ∫ n̂·(∇Y_i × ∇Y_j) Y_k dΩ = γ C_ijk, with e3nn's unit-norm C; zero for even l1+l2+l3.

        |γ| = √((2 l1 + 1)(2 l2 + 1)(2 l3 + 1) l1 (l1 + 1) l2 (l2 + 1) / 4π) |(l1 l2 l3; 1 -1 0)|

    Source: ∇Y_lm in spherical components has √(l(l+1)/2) times harmonics of spin ±1, whose triple integral is a
        product of two 3j symbols (Varshalovich et al., Quantum Theory of Angular Momentum (1988), ch. 5 and 7).
    """
    if (l1 + l2 + l3) % 2 == 0 or min(l1, l2) == 0:
        return 0.0
    size = (2 * l1 + 1) * (2 * l2 + 1) * (2 * l3 + 1) * l1 * (l1 + 1) * l2 * (l2 + 1)
    return math.sqrt(size / (4 * math.pi)) * abs(float(exact_wigner_3j(l1, l2, l3, 1, -1, 0)))


def sector(l: int, p: int) -> int:
    """P (-1)^l: 1 for irreps that are functions on the sphere, -1 for their pseudo counterparts."""
    return p * (-1) ** l


def num_sectors(irreps: Irreps) -> int:
    """1 if all blocks have the same p (-1)^l, else 2."""
    return len({sector(ir.l, ir.p) for _, ir in irreps})


def at_points(placement: Tensor, values: Tensor, num: int) -> Tensor:
    """From components to the values of the signals at points: (components, num points), of harmonics at the points."""
    return (placement.unflatten(1, (num, -1)) @ values.T).flatten(1)


class SphereSignals(NamedTuple):
    """How components of irreps enter the signals on the sphere that are multiplied, and leave them.

    With f± = f_natural ± f_pseudo, and likewise g, two products f±·g± hold all four couplings of sectors η = p (-1)^l:

        z_η3 = ½ (f₊ g₊ + σ f₋ g₋),   σ = η1 η2 = ±η3

    (plus where l1+l2+l3 is even, minus where it is odd). If neither x nor y has both sectors, one product does.

    Attributes:
        num: number of products, 1 or 2.
        degrees: (L1, L2, L3), the largest of x, y and z.
        placement1: (components of x, num (L1+1)²), float64, which makes the coefficients of f± from x.
        placement2: (components of y, num (L2+1)²).
        placement_out: (num (L3+1)², components of z), with the normalisation.
        irreps_out: irreps of z, each once.
    """

    num: int
    degrees: tuple[int, int, int]
    placement1: Tensor
    placement2: Tensor
    placement_out: Tensor
    irreps_out: Irreps

    def factors(self, values1: Tensor, values2: Tensor, values_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A, B, C of `Bilinear` for harmonics at points, (points, (L+1)²), of which the last have the weights."""
        return (
            at_points(self.placement1, values1, self.num),
            at_points(self.placement2, values2, self.num),
            at_points(self.placement_out.T, values_out, self.num).T,
        )


def sphere_signals(problem: TensorProductProblem, coefficient: PathWeight, *, odd: bool = False) -> SphereSignals:
    """Signals of a problem, normalised as e3nn normalises Σ_p γ_p C^p with these coefficients γ.

    Args:
        problem: irreps and mode.
        coefficient: γ of (l1, l2, l3).
        odd: whether the couplings have odd l1+l2+l3.

    Raises:
        ValueError: if no path has a coefficient.
    """
    irreps_out = summed_irreps(problem, coefficient)
    num = max(num_sectors(problem.irreps_in1), num_sectors(problem.irreps_in2))
    scale = {
        path.irrep_out: c / coefficient(*problem.degrees(path)) / num
        for path, c in zip(problem.paths, summed_coefficients(problem, coefficient), strict=True)
        if c
    }
    return SphereSignals(
        num,
        (problem.irreps_in1.lmax, problem.irreps_in2.lmax, irreps_out.lmax),
        placement(problem.irreps_in1, num),
        placement(problem.irreps_in2, num),
        placement(irreps_out, num, scale, flip=odd).T,
        irreps_out,
    )


def placement(irreps: Irreps, num: int, scale: dict[Irrep, float] | None = None, *, flip: bool = False) -> Tensor:
    """Matrix (components, num (L+1)²) from components to coefficients of signals, see `SphereSignals`."""
    size = (irreps.lmax + 1) ** 2
    rows = []
    for _, ir in irreps:
        block = torch.zeros(ir.dim, num, size, dtype=torch.float64)
        eye = torch.eye(ir.dim, dtype=torch.float64) * (1.0 if scale is None else scale[ir])
        block[:, 0, ir.l**2 : (ir.l + 1) ** 2] = eye
        if num == 2:
            eta = sector(ir.l, ir.p) * (-1 if flip else 1)
            block[:, 1, ir.l**2 : (ir.l + 1) ** 2] = eta * eye
        rows.append(block.flatten(1))
    return torch.cat(rows)
