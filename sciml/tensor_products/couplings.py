"""Coefficients of the paths of a product, and the dense float64 tensor that they define: the reference of all."""

import math
from collections.abc import Callable

import torch
from e3nn.o3 import Irreps, wigner_3j
from torch import Tensor

from sciml.tensor_products.problem import Path, TensorProductProblem

PathWeight = Callable[[int, int, int], float]


def every_path(l1: int, l2: int, l3: int) -> float:  # noqa: ARG001
    """1: the path weight of products that lose no path."""
    return 1.0


def summed_irreps(problem: TensorProductProblem, path_weight: PathWeight) -> Irreps:
    """Irreps of z if the paths into one irrep are summed: those of `problem.irreps_out` that have a path, sorted.

    In modes "uvu" and "uuu" an irrep has as many channels as its widest path; channels that cannot be are not stored.
    """
    channels: dict = {}
    for path in problem.paths:
        if path_weight(*problem.degrees(path)) != 0:
            channels[path.irrep_out] = max(channels.get(path.irrep_out, 0), problem.channels_out(path))
    return Irreps([(channels[ir], ir) for ir in sorted(channels)])


def summed_coefficients(problem: TensorProductProblem, path_weight: PathWeight) -> tuple[float, ...]:
    """c_p of z^{l3} = Σ_{p→l3} c_p C^p(x, y), in the order of `problem.paths`.

        c_p = γ_p sqrt((2 l3 + 1) / Σ_{q→l3} γ_q² n_q)

    with the path weights γ of the backend and n_q products in path q (`TensorProductProblem.num_elements`): for equal γ
    e3nn's "component"/"element" normalisation of paths into one output, for others the same variance.
    """
    weights = [path_weight(*problem.degrees(path)) for path in problem.paths]
    variance: dict = {}
    for path, weight in zip(problem.paths, weights, strict=True):
        variance[path.irrep_out] = variance.get(path.irrep_out, 0.0) + weight**2 * problem.num_elements(path)
    return tuple(
        weight * math.sqrt(path.irrep_out.dim / variance[path.irrep_out]) if weight else 0.0
        for path, weight in zip(problem.paths, weights, strict=True)
    )


def separate_coefficients(problem: TensorProductProblem) -> tuple[float, ...]:
    """α_p of e3nn's "component"/"element" normalisation if every path has an output of its own."""
    return tuple(math.sqrt(path.irrep_out.dim / problem.num_elements(path)) for path in problem.paths)


def coupling_tensor(problem: TensorProductProblem, coefficients: tuple[float, ...], irreps_out: Irreps) -> Tensor:
    """Σ_p c_p C^p as one tensor (d1, d2, d3), float64: rows of one channel of x, of y, and of each irrep of z once.

    Args:
        problem: its paths.
        coefficients: c_p of each path.
        irreps_out: irreps of the rows of z, in their order; multiplicities are ignored.
    """
    starts1, starts2 = _starts(problem.irreps_in1), _starts(problem.irreps_in2)
    starts3 = dict(zip((ir for _, ir in irreps_out), _starts(irreps_out), strict=True))
    tensor = torch.zeros(
        *(sum(ir.dim for _, ir in irreps) for irreps in (problem.irreps_in1, problem.irreps_in2, irreps_out)),
        dtype=torch.float64,
    )
    for path, coefficient in zip(problem.paths, coefficients, strict=True):
        if coefficient:
            i, j, k = starts1[path.block1], starts2[path.block2], starts3[path.irrep_out]
            block = coefficient * path_tensor(problem, path)
            tensor[i : i + block.shape[0], j : j + block.shape[1], k : k + block.shape[2]] += block
    return tensor


def path_tensor(problem: TensorProductProblem, path: Path) -> Tensor:
    """C^{l1 l2 l3} of a path, (2 l1 + 1, 2 l2 + 1, 2 l3 + 1), float64, of unit norm."""
    return wigner_3j(*problem.degrees(path), dtype=torch.float64)


def _starts(irreps: Irreps) -> list[int]:
    """First row of each block, one channel each."""
    return [sum(ir.dim for _, ir in irreps[:block]) for block in range(len(irreps))]
