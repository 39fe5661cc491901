"""What a tensor product can express, how equivariant it is, and what it costs: measured for a problem and a backend."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from sciml.tensor_products.backends import reachable, tensor_product
from sciml.tensor_products.bilinear import PointwiseProduct
from sciml.tensor_products.clebsch_gordan import ClebschGordan
from sciml.tensor_products.costs import flops
from sciml.tensor_products.expressivity import couplings_span, expressivity, interactability, measure_couplings
from sciml.tensor_products.problem import TensorProductProblem
from sciml.tensor_products.rotations import equivariance_error


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


def audit(
    problem: TensorProductProblem,
    backend: str,
    *,
    rank: int | str | None = None,
    seed: int = 0,
    samples: int = 256,
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
