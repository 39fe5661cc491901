"""The contract of a kernel: it computes what torch does in float64, with all derivatives that training needs."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from sciml.kernels.available import interpreted
from sciml.tensor_products.backends import tensor_product
from sciml.tensor_products.interface import ConvolutionGraph, RadialWeights, TensorProduct
from sciml.tensor_products.problem import TensorProductProblem
from sciml.testing.report import LawReport, merged

KERNEL_TOLERANCES: dict[torch.dtype, dict[str, float]] = {
    torch.float64: {"forward": 1e-12, "gradient": 1e-12, "second_gradient": 1e-11, "repeated": 0.0},
    torch.float32: {"forward": 2e-6, "gradient": 2e-6, "second_gradient": 5e-6, "repeated": 0.0},
    torch.bfloat16: {"forward": 2e-2, "gradient": 2e-2, "second_gradient": 5e-2, "repeated": 0.0},
}
"""Largest errors of kernels against torch in float64, each array relative to its norm. Runs repeat bit by bit."""


def check_backend(
    problem: TensorProductProblem,
    backend: str = "clebsch_gordan",
    *,
    dtype: torch.dtype = torch.float32,
    rank: int | str | None = None,
    num_nodes: int = 6,
    num_edges: int = 16,
    num_basis: int = 3,
    device: str | torch.device | None = None,
    tolerances: Mapping[str, float] | None = None,
    seed: int = 0,
) -> LawReport:
    """Check the kernels of a tensor product for your irreps: convolution, first and second derivatives.

    They are compared with torch in float64 on the same (rounded) inputs, with weights per edge and with radial weights.

    Args:
        problem: irreps and mode.
        backend: a key of `sciml.tensor_products.BACKENDS`.
        dtype: float32, float64 or bfloat16.
        rank: of the backend "cp".
        num_nodes: nodes of the random graph; the last one receives nothing.
        num_edges: its edges.
        num_basis: radial functions.
        device: where the kernels run; by default a CUDA device, or the CPU for Triton's interpreter.
        tolerances: replaces some of `KERNEL_TOLERANCES[dtype]`.
        seed: of graph and inputs.

    Returns:
        The measured errors; its `str` is a table.

    Raises:
        AssertionError: if an error is too large, with the table.
        ValueError: if there are no kernels for the problem or none can run here, with the reason.
    """
    limits = merged(KERNEL_TOLERANCES[dtype], tolerances)
    device = torch.device(device or ("cpu" if interpreted() and not torch.cuda.is_available() else "cuda"))
    exact, kernels = (
        tensor_product(problem, backend, implementation=name, rank=rank, layout="ir_mul")
        for name in ("torch", "triton")
    )
    exact, kernels = exact.to(device, torch.float64), kernels.to(device, dtype)
    generator = torch.Generator().manual_seed(seed)
    senders = torch.randint(num_nodes, (num_edges,), generator=generator)
    receivers = torch.randint(max(num_nodes - 1, 1), (num_edges,), generator=generator).sort().values
    senders, receivers = senders.to(device), receivers.to(device)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device, dtype)

    x, y = normal(num_nodes, exact.dim1), normal(num_edges, exact.dim2)
    radial = [normal(num_edges, num_basis), normal(num_basis, exact.weight_numel) / num_basis**0.5]
    errors = dict.fromkeys(limits, 0.0)
    for weights in ([normal(num_edges, exact.weight_numel)], radial):
        expected = _passes(exact, [x, y, *weights], exact.prepare(senders, receivers, num_nodes))
        graph = kernels.prepare(senders, receivers, num_nodes)
        found = _passes(kernels, [x, y, *weights], graph)
        again = _passes(kernels, [x, y, *weights], graph)
        for name, arrays in found.items():
            for got, wanted, repeated in zip(arrays, expected[name], again[name], strict=True):
                errors[name] = float(np.max([errors[name], _relative(got, wanted)]))  # np.max, unlike max, keeps a NaN
                errors["repeated"] = max(errors["repeated"], float(not torch.equal(got, repeated)))
    report = LawReport(errors, limits)
    if report.failed:
        raise AssertionError(f"the kernels of {backend} break {', '.join(report.failed)}:\n{report}")
    return report


def _passes(product: TensorProduct, inputs: list[Tensor], graph: ConvolutionGraph) -> dict[str, list[Tensor]]:
    """Convolution, the gradients of ½|z|² by all inputs, and those of half their squares."""
    dtype = next(product.buffers()).dtype
    x, y, *weights = leaves = [tensor.to(dtype).requires_grad_() for tensor in inputs]
    z = product.convolve(x, y, RadialWeights(*weights) if len(weights) == 2 else weights[0], graph)
    first = torch.autograd.grad(z.square().sum() / 2, leaves, create_graph=True)
    energy = torch.stack([gradient.square().sum() for gradient in first]).sum() / 2
    second = torch.autograd.grad(energy, leaves)
    return {"forward": [z.detach()], "gradient": [g.detach() for g in first], "second_gradient": list(second)}


def _relative(given: Tensor, expected: Tensor) -> float:
    return float((given.double() - expected).norm() / expected.norm().clamp_min(1e-300))
