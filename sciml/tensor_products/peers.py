"""Tensor products of other libraries as contenders of the benchmark, each imported only if it is installed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from e3nn import o3
from torch import Tensor

from sciml.tensor_products.benchmark_settings import Contender, Product, num_nonzeros
from sciml.tensor_products.couplings import (
    path_tensor,
    separate_coefficients,
    summed_coefficients,
    summed_irreps,
)
from sciml.tensor_products.problem import TensorProductProblem

# peer: the module that has to be there
PEERS = {
    "e3nn": "e3nn",
    "cuequivariance": "cuequivariance_torch",
    "openequivariance": "openequivariance",
    "lunaequivariance": "LunaEquivariance",
}

WEIGHTS = ("none", "shared", "per_sample")


def installed_peers() -> list[str]:
    """Those of `PEERS` that can be imported."""
    return [name for name, module in PEERS.items() if find_spec(module) is not None]


def peer_contender(
    peer: str,
    problem: TensorProductProblem,
    *,
    dtype: torch.dtype,
    device: str | torch.device,
    summed: bool,
    weights: str = "none",
) -> Contender:
    """The Clebsch-Gordan product of a peer with the paths and the normalisation of `problem`.

    Args:
        peer: a key of `PEERS`.
        problem: irreps and mode, "uuu" or "uvu".
        dtype: of its inputs.
        device: where it runs.
        summed: whether the paths into one irrep are summed, or have outputs of their own as in this package.
        weights: "none", "shared" by all samples, or "per_sample".

    Raises:
        ValueError: for an unknown peer.
        ImportError: if it is not installed.
    """
    if peer not in PEERS:
        raise ValueError(f"got the peer {peer!r}; available: {', '.join(PEERS)}")
    coefficients = summed_coefficients(problem, _one) if summed else separate_coefficients(problem)
    product = _BUILDERS[peer](problem, coefficients, summed, weights, dtype, device)
    return Contender(
        peer,
        product,
        problem,
        coefficients,
        summed,
        tuple(range(len(problem.paths))),
        "ir_mul" if peer == "cuequivariance" else "mul_ir",
        3.0 * num_nonzeros(problem),
        # Without weights a sum over paths is one map, as that of CP; weights tell its paths apart.
        "cp" if summed and weights == "none" else "clebsch_gordan",
    )


def _one(l1: int, l2: int, l3: int) -> float:  # noqa: ARG001
    return 1.0


def _instructions(
    problem: TensorProductProblem, summed: bool, has_weight: bool
) -> tuple[o3.Irreps, list[tuple[int, int, int, str, bool]]]:
    """Irreps of z and e3nn's instructions, in the order of the paths."""
    if summed:
        irreps_out = summed_irreps(problem, _one)
        block = {ir: i for i, (_, ir) in enumerate(irreps_out)}
        blocks = [block[path.irrep_out] for path in problem.paths]
    else:
        irreps_out = o3.Irreps([(problem.channels_out(path), path.irrep_out) for path in problem.paths])
        blocks = list(range(len(problem.paths)))
    return irreps_out, [
        (path.block1, path.block2, block, problem.mode, has_weight)
        for path, block in zip(problem.paths, blocks, strict=True)
    ]


Coefficients = tuple[float, ...]
Device = str | torch.device


def _e3nn(
    problem: TensorProductProblem, _: Coefficients, summed: bool, weights: str, dtype: torch.dtype, device: Device
) -> Product:
    irreps_out, instructions = _instructions(problem, summed, weights != "none")
    with _default_dtype(dtype):  # of the coefficients, which would be rounded to float32 otherwise
        product = o3.TensorProduct(
            problem.irreps_in1,
            problem.irreps_in2,
            irreps_out,
            instructions,
            shared_weights=weights != "per_sample",
            internal_weights=False,
        )
    product = product.to(device, dtype)
    return product if weights != "none" else lambda x, y, _: product(x, y)


def _cuequivariance(
    problem: TensorProductProblem,
    coefficients: Coefficients,
    summed: bool,
    weights: str,
    dtype: torch.dtype,
    device: Device,
) -> Product:
    """The polynomial Σ_p c_p C^p w x y with e3nn's C, by the fast method where there is a GPU."""
    cue, cuet = import_module("cuequivariance"), import_module("cuequivariance_torch")
    channels = problem.irreps_in1[0].mul
    y, y_shape = ("ju", (channels,)) if problem.mode == "uuu" else ("j", ())
    weighted = weights != "none"
    polynomial = cue.SegmentedTensorProduct.from_subscripts(f"{'u,' if weighted else ''}iu,{y},ku+ijk")
    first = 1 if weighted else 0
    for _, ir in problem.irreps_in1:
        polynomial.add_segment(first, (ir.dim, channels))
    for _, ir in problem.irreps_in2:
        polynomial.add_segment(first + 1, (ir.dim, *y_shape))
    irreps_out, instructions = _instructions(problem, summed, weighted)
    for _, ir in irreps_out:
        polynomial.add_segment(first + 2, (ir.dim, channels))
    for p, (path, coefficient, instruction) in enumerate(zip(problem.paths, coefficients, instructions, strict=True)):
        if weighted:
            polynomial.add_segment(0, (channels,))
        blocks = ([p] if weighted else []) + list(instruction[:3])
        polynomial.add_path(*blocks, c=coefficient * path_tensor(problem, path).numpy())
    # The kernels want the channels as their only mode: i, j and k are unrolled into segments.
    flat = polynomial.flatten_coefficient_modes()
    method = "uniform_1d" if torch.device(device).type == "cuda" else "naive"
    module = cuet.SegmentedPolynomial(
        cue.SegmentedPolynomial.eval_last_operand(flat), method=method, math_dtype=dtype
    ).to(device)

    def product(x: Tensor, y: Tensor, w: Tensor | None) -> Tensor:
        inputs = [x, y] if w is None else [w if w.dim() == 2 else w[None], x, y]
        return module(inputs)[0]

    return product


def _openequivariance(
    problem: TensorProductProblem, _: Coefficients, summed: bool, weights: str, dtype: torch.dtype, device: Device
) -> Product:
    if problem.mode != "uvu":
        raise ValueError("has kernels for uvu and uvw only")
    oeq = import_module("openequivariance")
    irreps_out, instructions = _instructions(problem, summed, has_weight=True)
    kind = {torch.float32: np.float32, torch.float64: np.float64}[dtype]
    product = oeq.TensorProduct(
        oeq.TPProblem(
            problem.irreps_in1,
            problem.irreps_in2,
            irreps_out,
            instructions,
            shared_weights=weights != "per_sample",
            internal_weights=False,
            irrep_dtype=kind,
            weight_dtype=kind,
        )
    )
    ones = torch.ones(product.weight_numel, dtype=dtype, device=device)  # it has no products without weights
    return lambda x, y, w: product(x, y, ones if w is None else w)


def _lunaequivariance(
    problem: TensorProductProblem, _: Coefficients, summed: bool, weights: str, dtype: torch.dtype, device: Device
) -> Product:
    luna = import_module("LunaEquivariance")
    # Only its uuu product goes without weights.
    has_weight = weights != "none" or problem.mode != "uuu"
    irreps_out, instructions = _instructions(problem, summed, has_weight)
    product = luna.TensorProduct(
        str(problem.irreps_in1),
        str(problem.irreps_in2),
        str(irreps_out),
        instructions,
        shared_weights=weights != "per_sample",
        internal_weights=False,
        dtype=dtype,
    ).to(device)
    ones = torch.ones(product.weight_numel, dtype=dtype, device=device) if has_weight else None
    return lambda x, y, w: product(x, y, ones if w is None else w)


_BUILDERS: dict[str, Callable[..., Any]] = {
    "e3nn": _e3nn,
    "cuequivariance": _cuequivariance,
    "openequivariance": _openequivariance,
    "lunaequivariance": _lunaequivariance,
}


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Set the default dtype of torch, for a library that takes it from nowhere else."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
