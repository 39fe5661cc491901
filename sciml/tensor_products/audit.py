"""What a tensor product can express, how equivariant it is, and what it costs: measured for a problem and a backend."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import torch
from e3nn.o3 import Irreps, spherical_harmonics, wigner_3j
from torch import Tensor

from sciml.tensor_products.backends import reachable, tensor_product
from sciml.tensor_products.bilinear import PointwiseProduct
from sciml.tensor_products.channels import blocks_of, join_blocks, split_blocks
from sciml.tensor_products.clebsch_gordan import ClebschGordan
from sciml.tensor_products.couplings import path_tensor
from sciml.tensor_products.gaunt_fourier import GauntFourier
from sciml.tensor_products.interface import TensorProduct
from sciml.tensor_products.problem import TensorProductProblem
from sciml.tensor_products.sphere import sphere_grid

# Couplings below this part of the largest are rounding: exact CP factors are exact to 1e-10.
_ZERO = 1e-6
# A singular value counts if it is larger than this part of the largest, and the first that does not must be this many
# times smaller than the last that does.
_RANK_TOLERANCE = 1e-9
_GAP = 1e4


@dataclass(frozen=True)
class Audit:
    """Findings of `audit`, which defines them.

    Attributes:
        backend: which product.
        problem: irreps and mode, in words.
        rank: points of a grid or terms of a sum; None for Clebsch-Gordan.
        reached: irreps of z that were audited.
        unreached: wanted irreps of z that the backend cannot reach, left out.
        span: linearly independent maps it can produce.
        expressivity: dimension of the set of maps of one channel.
        channels_to_span: fewest channels whose sums fill the span.
        gap: last counted singular value over the first not counted.
        interactability: (in1, in2, out) → whether the product couples them, for all that the selection rules allow.
        equivariance_error: relative rms, by dtype.
        flops: per sample, of the way that runs.
        flops_by_way: the same for all ways there are.
        bytes: per sample in float32: x, y, weights and z once.
        weight_numel: weights per sample.
    """

    backend: str
    problem: str
    rank: int | None
    reached: str
    unreached: str
    span: int
    expressivity: int
    channels_to_span: int
    gap: float
    interactability: dict[tuple[str, str, str], bool]
    equivariance_error: dict[str, float]
    flops: int
    flops_by_way: dict[str, int]
    bytes: int
    weight_numel: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: interactability as a list of {"in1", "in2", "out", "interacts"}, an infinite gap as None."""
        table = [
            {"in1": in1, "in2": in2, "out": out, "interacts": interacts}
            for (in1, in2, out), interacts in self.interactability.items()
        ]
        return {**asdict(self), "interactability": table, "gap": self.gap if math.isfinite(self.gap) else None}


class Couplings(NamedTuple):
    """The equivariant part of a product T with one channel for each block, T = Σ γ_abk C^{abk}.

    Attributes:
        strengths: γ, (blocks of x, blocks of y, blocks of z), float64; rounding is set to zero.
        irreps: irreps of x, y and z.
    """

    strengths: Tensor
    irreps: tuple[Irreps, Irreps, Irreps]


def audit(
    problem: TensorProductProblem,
    backend: str,
    *,
    rank: int | str | None = None,
    seed: int = 0,
    samples: int = 16,
) -> Audit:
    """Measure a backend on a problem, of which it gets the irreps that it can reach.

    Expressivity, span and interactability are those of one channel for each block: multiplicities change none of them.
    Of a product that is only nearly equivariant they are those of its equivariant part.

        couplings      γ_abk = <T_abk, C^{l_a l_b l_k}>  of the product's tensor in float64, evaluated on basis vectors
        span           dim span { Lin_Z ∘ T ∘ (Lin_X, Lin_Y) }: the paths that have a coupling
        expressivity   rank of the Jacobian of (Lin_X, Lin_Y, Lin_Z) → Lin_Z ∘ T ∘ (Lin_X, Lin_Y) at a generic point
        equivariance   rms |T(Dx, Dy) - D T(x, y)| / rms |T(x, y)|, x, y and weights normal, rotations and inversions

    Weights of T itself scale a block of x, a path or a channel, which Lin_X and Lin_Z do as well: they add nothing.

    Args:
        problem: what to compute.
        backend: a key of `BACKENDS`.
        rank: of the backend "cp".
        seed: of the generic point, the rotations, and the samples.
        samples: of the equivariance error, each with a rotation of its own.

    Raises:
        ValueError: for an unknown backend, an unfit rank, samples below 1, or a backend that reaches nothing.
        ArithmeticError: if the singular values of the Jacobian show no clear gap.

    Source: Xie et al., The Price of Freedom, arXiv:2506.13523.
    """
    if samples < 1:
        raise ValueError(f"got samples={samples}; expected at least 1")
    reached = reachable(problem, backend)
    if not reached:
        raise ValueError(
            f"{backend} reaches none of {problem.irreps_out} from {problem.irreps_in1} ⊗ {problem.irreps_in2}; "
            "use clebsch_gordan or cp, which reach all"
        )
    unreached = sorted({ir for _, ir in problem.irreps_out} - {ir for _, ir in reached})
    restricted = replace(problem, irreps_out=reached) if unreached else problem
    tp = tensor_product(restricted, backend, rank=rank)
    couplings = measure_couplings(restricted, backend, rank=rank)
    span, (dimension, gap) = couplings_span(couplings), expressivity(couplings, seed=seed)
    channels, filled = 1, dimension
    while filled < span:
        channels += 1
        filled, _ = expressivity(couplings, channels=channels, seed=seed)
    by_way = flops(tp)
    return Audit(
        backend=backend,
        problem=f"{problem.irreps_in1} ⊗ {problem.irreps_in2} → {problem.irreps_out} ({problem.mode})",
        rank=tp.num_points if isinstance(tp, PointwiseProduct) else None,
        reached=str(reached),
        unreached="+".join(map(str, unreached)),
        span=span,
        expressivity=dimension,
        channels_to_span=channels,
        gap=gap,
        interactability=interactability(problem, couplings),
        equivariance_error={
            str(dtype).removeprefix("torch."): equivariance_error(tp, dtype=dtype, seed=seed, samples=samples)
            for dtype in (torch.float64, torch.float32)
        },
        flops=by_way[tp.way] if isinstance(tp, ClebschGordan) else next(iter(by_way.values())),
        flops_by_way=by_way,
        bytes=4 * (problem.irreps_in1.dim + problem.irreps_in2.dim + tp.weight_numel + tp.irreps_out.dim),
        weight_numel=tp.weight_numel,
    )


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


def equivariance_error(
    tp: TensorProduct, *, dtype: torch.dtype = torch.float64, seed: int = 0, samples: int = 16
) -> float:
    """Rms |T(Dx, Dy) - D T(x, y)| / rms |T(x, y)| for rotations, half of them with inversion.

    The matrices D are exact to rounding and applied in float64, so that the error is that of the product alone.

    Args:
        tp: the product; converted to `dtype` and left as it was found.
        dtype: which the product computes in.
        seed: of samples, weights and rotations.
        samples: number of x and y, each with its own rotation.
    """
    generator = torch.Generator().manual_seed(seed)
    previous = next(tp.buffers()).dtype
    tp.to(dtype)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x, y, weights = (
        normal(samples, tp.problem.irreps_in1.dim),
        normal(samples, tp.problem.irreps_in2.dim),
        normal(tp.weight_numel),
    )
    rotations = torch.linalg.qr(normal(samples, 3, 3)).Q
    rotations = rotations * torch.linalg.det(rotations)[:, None, None]
    inverted = torch.arange(samples) % 2 == 1

    def product(x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            return tp(x.to(dtype), y.to(dtype), weights.to(dtype)).double()

    def turned(features: Tensor, irreps: Irreps) -> Tensor:
        blocks = split_blocks(features, blocks_of(irreps), tp.layout)
        turned_blocks = []
        for (_, ir), block in zip(irreps, blocks, strict=True):
            signs = torch.where(inverted, ir.p, 1)[:, None, None]
            turned_blocks.append(signs * torch.einsum("bij,bmj->bmi", wigner_d(ir.l, rotations), block))
        return join_blocks(turned_blocks, tp.layout)

    z = product(x, y)
    difference = product(turned(x, tp.problem.irreps_in1), turned(y, tp.problem.irreps_in2)) - turned(z, tp.irreps_out)
    tp.to(previous)
    return float(difference.norm() / z.norm())


def wigner_d(l: int, rotations: Tensor) -> Tensor:
    """D^l(R)_ij = ∫ Y_i(R n) Y_j(n) dΩ by exact quadrature, (rotations, 2l+1, 2l+1), float64.

    e3nn's `wigner_D` is a representation only to 1e-7 as long as torch's default dtype is float32.
    """
    grid = sphere_grid(2 * l)
    original = spherical_harmonics(l, grid.points, False, normalization="integral")
    turned = spherical_harmonics(l, grid.points @ rotations.transpose(1, 2), False, normalization="integral")
    return torch.einsum("g,rgi,gj->rij", grid.weights, turned, original)


def flops(tp: TensorProduct) -> dict[str, int]:
    """Floating-point operations per sample of the forward product with weights, by the way it is computed.

    With d1, d2, d3 components of one channel, U, V, W channels of x, y and z, (n1, n2, n12, n3) channels of x and of y
    that are brought to the R points, are multiplied there, and are brought back, which are

        "uuu":  (C, C, C, C), C = min(U, V)      "uvu":  (U V, V, U V, U)      "uvw":  (V W, V, V W, W),

    and P pairs of channels that a path multiplies (as in `TensorProductProblem.num_elements` for each channel of z):

        clebsch_gordan   channelwise   2 d1 d2 K + 2 d1 K U + K U,  K = Σ_p (2 l3 + 1)
                         dense         Σ_pairs of blocks P (2 l1 + 1)(2 l2 + 1)(1 + 2 Σ_p (2 l3 + 1)) + weights
                         sparse        3 P non-zeros of C^p, summed over p, + weights
                         weights       Σ_p (2 l3 + 1)·(P in "uuu", 2 P in "uvu", 2 P W in "uvw")
        bilinear         2 R (d1 n1 + d2 n2 + d3 n3) + R n12 + weights; sums over y's channels count as R n12 more
        Fourier          the same with 4 (L+1)² N_θ + 5/2 N log2 N (a real FFT), N = N_θ N_φ, instead of 2 R d for each
                         signal, and 2 d (L+1)² that place the components of irreps into it

    Raises:
        ValueError: for a product of another kind.
    """
    if isinstance(tp, ClebschGordan):
        return _flops_clebsch_gordan(tp)
    if isinstance(tp, PointwiseProduct):
        name = "fourier" if isinstance(tp, GauntFourier) else "bilinear"
        return {name: _flops_pointwise(tp)}
    raise ValueError(f"got a {type(tp).__name__}; its operations are not known here")


def _flops_clebsch_gordan(tp: ClebschGordan) -> dict[str, int]:
    problem = tp.problem
    blocks1, blocks2 = problem.irreps_in1, problem.irreps_in2
    dense = sparse = weights = 0
    pairs: dict[tuple[int, int], int] = {}
    for path in tp.paths:
        mul1, mul2, dim = blocks1[path.block1].mul, blocks2[path.block2].mul, path.irrep_out.dim
        met = min(mul1, mul2) if problem.mode == "uuu" else mul1 * mul2
        per_element = {"uuu": 1, "uvu": 2, "uvw": 2 * problem.channels_out(path)}[problem.mode]
        weights += dim * met * per_element
        sparse += 3 * met * int((path_tensor(problem, path).abs() > 1e-12).sum())
        products = met * blocks1[path.block1].ir.dim * blocks2[path.block2].ir.dim
        dense += 2 * products * dim
        pairs[path.block1, path.block2] = products
    found = {"dense": dense + sum(pairs.values()) + weights, "sparse": sparse + weights}
    if tp.way == "channelwise":
        rows, dim1 = sum(path.irrep_out.dim for path in tp.paths), blocks1.dim // tp.channels
        found["channelwise"] = rows * (2 * dim1 * blocks2.dim + 2 * dim1 * tp.channels + tp.channels)
    return found


def _flops_pointwise(tp: PointwiseProduct) -> int:
    mode, points = tp.problem.mode, tp.num_points
    in1, in2, out = tp.num_channels1, tp.arrays2.num_channels, tp.num_channels_out
    d1, d2, d3 = (arrays.num_components for arrays in (tp.arrays1, tp.arrays2, tp.arrays_out))
    n1, n2, n3 = {"uuu": (in1, in1, in1), "uvu": (in1 * in2, in2, in1), "uvw": (in2 * out, in2, out)}[mode]
    weights = {"uuu": d1 * in1, "uvu": d1 * in1 * in2, "uvw": 2 * d1 * in1 * in2 * out}[mode]
    multiply = points * n1 * (1 if in2 == 1 or mode == "uuu" else 2)
    if not isinstance(tp, GauntFourier):
        return 2 * points * (d1 * n1 + d2 * n2 + d3 * n3) + multiply + weights
    moved = 0.0
    for dim, number, transform in (
        (d1, n1, tp.transform1),
        (d2, n2, tp.transform2),
        (d3, n3, tp.transform_out),
    ):
        degrees, (polar, azimuthal) = (transform.lmax + 1) ** 2, transform.size
        fft = 2.5 * polar * azimuthal * math.log2(polar * azimuthal)
        moved += number * tp.num_signals * (2 * dim * degrees + 4 * degrees * polar + fft)
    return round(moved) + multiply + weights
