"""What a tensor product can express: which irreps interact, and how many independent maps its weights reach."""

import math
from typing import NamedTuple

import torch
from e3nn.o3 import Irreps, wigner_3j
from torch import Tensor

from sciml.tensor_products.backends import tensor_product
from sciml.tensor_products.problem import TensorProductProblem

# Couplings below this part of the largest are rounding: exact CP factors are exact to 1e-10.
_ZERO = 1e-6
# A singular value counts if it is larger than this part of the largest, and the first that does not must be this many
# times smaller than the last that does.
_RANK_TOLERANCE = 1e-9
_GAP = 1e4


class Couplings(NamedTuple):
    """The equivariant part of a product T with one channel for each block, T = Σ γ_abk C^{abk}.

    Attributes:
        strengths: γ, (blocks of x, blocks of y, blocks of z), float64; rounding is set to zero.
        irreps: irreps of x, y and z.
    """

    strengths: Tensor
    irreps: tuple[Irreps, Irreps, Irreps]


def measure_couplings(problem: TensorProductProblem, backend: str, *, rank: int | str | None = None) -> Couplings:
    """γ of the product, from its values on all pairs of basis vectors, in float64."""
    in1, in2, out = (
        Irreps([(1, ir) for _, ir in i]) for i in (problem.irreps_in1, problem.irreps_in2, problem.irreps_out)
    )
    tp = tensor_product(TensorProductProblem(in1, in2, out, mode="uuu"), backend, rank=rank).double()
    eye1, eye2 = torch.eye(in1.dim, dtype=torch.float64), torch.eye(in2.dim, dtype=torch.float64)
    tensor = torch.stack([tp(row.expand(in2.dim, -1), eye2) for row in eye1])  # (d1, d2, d3)
    strengths = torch.zeros(len(in1), len(in2), len(tp.irreps_out), dtype=torch.float64)
    slices1, slices2, slices3 = in1.slices(), in2.slices(), tp.irreps_out.slices()
    for a, (_, ir1) in enumerate(in1):
        for b, (_, ir2) in enumerate(in2):
            allowed = set(ir1 * ir2)
            for k, (_, ir3) in enumerate(tp.irreps_out):
                if ir3 in allowed:
                    coupling = wigner_3j(ir1.l, ir2.l, ir3.l, dtype=torch.float64)
                    strengths[a, b, k] = (tensor[slices1[a], slices2[b], slices3[k]] * coupling).sum()
    strengths[strengths.abs() < _ZERO * strengths.abs().max()] = 0
    return Couplings(strengths, (in1, in2, tp.irreps_out))


def interactability(problem: TensorProductProblem, couplings: Couplings) -> dict[tuple[str, str, str], bool]:
    """Whether irreps meet: (in1, in2, out) → γ ≠ 0, for all paths of `problem`, also to irreps that are not reached."""
    irs1, irs2, irs3 = ([ir for _, ir in irreps] for irreps in couplings.irreps)
    found = {(irs1[a], irs2[b], irs3[k]) for a, b, k in couplings.strengths.nonzero().tolist()}
    wanted = dict.fromkeys(
        (problem.irreps_in1[path.block1].ir, problem.irreps_in2[path.block2].ir, path.irrep_out)
        for path in problem.paths
    )
    return {(str(ir1), str(ir2), str(ir3)): (ir1, ir2, ir3) in found for ir1, ir2, ir3 in sorted(wanted)}


def couplings_span(couplings: Couplings) -> int:
    """Dimension of the span of Lin_Z ∘ T ∘ (Lin_X, Lin_Y): triples (block of x, block of y, irrep of z) that interact.

    Lin_X, Lin_Y and Lin_Z mix blocks of equal irreps, so that all of them interact if one does.
    """
    same1, same2 = _equal(couplings.irreps[0]).double(), _equal(couplings.irreps[1]).double()
    outs = _to_outputs(couplings.irreps[2]).double()
    return int((torch.einsum("aA,bB,ABk,ko->abo", same1, same2, couplings.strengths.abs(), outs) > 0).sum())


def expressivity(couplings: Couplings, *, channels: int = 1, seed: int = 0) -> tuple[int, float]:
    """Rank of the Jacobian of the map's couplings by the weights of Lin_X, Lin_Y and Lin_Z, and the spectral gap.

        m_abo = Σ_c Σ_{a' b' k} X_aa' Y_bb' γ_a'b'k Z_ko    (sum over channels c, each with its own X, Y and Z)

    is linear in each of X, Y and Z, so that a column of the Jacobian is m with one of them replaced by a unit matrix
    element. Since the C^{abo} are orthogonal, this is the rank in the space of all bilinear maps. By Terracini's lemma
    the columns of several channels at independent generic points stand side by side.

    Args:
        couplings: γ and the irreps.
        channels: number of channels that are summed.
        seed: of the generic point.

    Raises:
        ArithmeticError: if the singular values show no clear gap.
    """
    generator = torch.Generator().manual_seed(seed)
    irreps1, irreps2, irreps3 = couplings.irreps
    masks = [_equal(irreps1), _equal(irreps2), _to_outputs(irreps3)]
    bases = [_unit_elements(mask) for mask in masks]
    columns = []
    for _ in range(channels):
        x, y, z = (
            mask * (0.5 + torch.rand(mask.shape, generator=generator, dtype=torch.float64)) * _signs(mask, generator)
            for mask in masks
        )
        # Z first where X or Y vary, and γ with X and Y first where Z varies: it may have hundreds of rows, one a path.
        left = torch.einsum("ABk,ko->ABo", couplings.strengths, z)
        columns += [
            torch.einsum("naA,bB,ABo->nabo", bases[0], y, left).flatten(1),
            torch.einsum("aA,nbB,ABo->nabo", x, bases[1], left).flatten(1),
            torch.einsum("abk,nko->nabo", torch.einsum("aA,bB,ABk->abk", x, y, couplings.strengths), bases[2]).flatten(
                1
            ),
        ]
    jacobian = torch.cat(columns)
    jacobian = jacobian[:, jacobian.any(dim=0)]  # (weights, couplings that can be)
    values = torch.linalg.svdvals(jacobian)
    dimension = int((values > _RANK_TOLERANCE * values[0]).sum())
    gap = float(values[dimension - 1] / values[dimension]) if dimension < len(values) else math.inf
    if gap < _GAP:
        raise ArithmeticError(f"the singular values {values.tolist()} of the Jacobian show no gap; try another seed")
    return dimension, gap


def _equal(irreps: Irreps) -> Tensor:
    """(blocks, blocks): whether a linear equivariant map may mix them."""
    return torch.tensor([[ir == other for _, other in irreps] for _, ir in irreps])


def _to_outputs(irreps: Irreps) -> Tensor:
    """(blocks of z, irreps of z each once)."""
    each = list(dict.fromkeys(ir for _, ir in irreps))
    return torch.tensor([[ir == other for other in each] for _, ir in irreps])


def _unit_elements(mask: Tensor) -> Tensor:
    """Matrices with a one at one place where the mask is true, (places, *mask.shape)."""
    places = mask.flatten().nonzero()[:, 0]
    return torch.eye(mask.numel(), dtype=torch.float64)[places].unflatten(1, mask.shape)


def _signs(mask: Tensor, generator: torch.Generator) -> Tensor:
    return 2.0 * torch.randint(2, mask.shape, generator=generator) - 1
