"""The contract of a tensor product: laws, tolerances, and the check that runs them, in float64, on any backend."""

import copy
from collections.abc import Callable, Mapping

import numpy as np
import torch
from e3nn.o3 import Irreps
from torch import Tensor

from sciml.tensor_products.channels import blocks_of, join_blocks, split_blocks
from sciml.tensor_products.interface import RadialWeights, TensorProduct
from sciml.tensor_products.rotations import representation
from sciml.testing.report import LawReport, merged

TENSOR_PRODUCT_TOLERANCES: dict[str, float] = {
    "rotation": 1e-9,
    "inversion": 1e-9,
    "linearity": 1e-11,
    "convolution": 1e-11,
    "shared_weights": 1e-11,
    "gradient": 1e-6,
    "second_gradient": 1e-6,
    "float32": 1e-5,
}
"""Largest error of each law, relative to the root mean square of what is compared."""

BATCH = 4


def check_tensor_product(
    product: TensorProduct, *, tolerances: Mapping[str, float] | None = None, seed: int = 0
) -> LawReport:
    """Check that a tensor product obeys the laws of its interface and of O(3).

    Args:
        product: the product; the laws run on a copy in float64, on its device.
        tolerances: replaces some of `TENSOR_PRODUCT_TOLERANCES`, such as of rotations for "cp" of a low rank.
        seed: of the random inputs.

    Returns:
        The measured errors; its `str` is a table.

    Raises:
        AssertionError: if a law is broken, with the table.
        ValueError: if a tolerance names no law.

    >>> from sciml.tensor_products import TensorProductProblem, tensor_product
    >>> problem = TensorProductProblem("2x0e+2x1o", "0e+1o", "0e+1o")
    >>> check_tensor_product(tensor_product(problem, "gaunt_grid")).failed
    []
    """
    limits = merged(TENSOR_PRODUCT_TOLERANCES, tolerances)
    exact = copy.deepcopy(product).double()
    device = next(exact.buffers()).device
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device)

    x, y, weights = (normal(BATCH, n) for n in (exact.dim1, exact.dim2, exact.weight_numel))
    z = exact(x, y, weights)

    def turned(matrix: Tensor) -> float:
        problem = exact.problem
        d1, d2, d3 = (
            _in_layout(representation(irreps, matrix), irreps, exact.layout).to(device)
            for irreps in (problem.irreps_in1, problem.irreps_in2, exact.irreps_out)
        )
        return _relative(exact(x @ d1.T, y @ d2.T, weights), z @ d3.T)

    laws: dict[str, Callable[[], float]] = {
        "rotation": lambda: turned(_rotation(generator)),
        "inversion": lambda: turned(-torch.eye(3, dtype=torch.float64)),
        "linearity": lambda: _linearity_error(exact, [x, y, weights], normal),
        "convolution": lambda: _convolution_error(exact, x, normal),
        "shared_weights": lambda: _relative(exact(x, y, weights[0]), exact(x, y, weights[:1].expand(BATCH, -1))),
        "gradient": lambda: _gradient_error(exact, [x, y, weights], normal, order=1),
        "second_gradient": lambda: _gradient_error(exact, [x, y, weights], normal, order=2),
        "float32": lambda: _relative(copy.deepcopy(exact).float()(x.float(), y.float(), weights.float()).double(), z),
    }
    report = LawReport({name: float(law()) for name, law in laws.items()}, limits)
    if report.failed:
        raise AssertionError(f"{type(product).__name__} breaks {', '.join(report.failed)}:\n{report}")
    return report


def _relative(given: Tensor, expected: Tensor) -> float:
    scale = expected.square().mean().sqrt().clamp_min(1e-300)
    return ((given - expected).abs().max() / scale).item()


def _rotation(generator: torch.Generator) -> Tensor:
    matrix = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64)).Q
    return matrix * torch.linalg.det(matrix)


def _in_layout(matrix: Tensor, irreps: Irreps, layout: str) -> Tensor:
    """A matrix on features of layout mul_ir as one on features of this layout."""
    positions = torch.arange(irreps.dim)[None]
    order = join_blocks(split_blocks(positions, blocks_of(irreps), "mul_ir"), layout)[0]
    return matrix[order][:, order]


def _linearity_error(product: TensorProduct, inputs: list[Tensor], normal: Callable[..., Tensor]) -> float:
    errors = []
    for k, value in enumerate(inputs):
        other = normal(*value.shape)
        combined, second = list(inputs), list(inputs)
        combined[k], second[k] = 2 * value - 3 * other, other
        errors.append(_relative(product(*combined), 2 * product(*inputs) - 3 * product(*second)))
    return float(np.max(errors))  # np.max, unlike max, keeps a NaN


def _convolution_error(product: TensorProduct, x: Tensor, normal: Callable[..., Tensor]) -> float:
    """Against gather, product and scatter on a graph with a node that receives nothing."""
    senders = torch.tensor([1, 2, 0, 0, 1, 3], device=x.device)
    receivers = torch.tensor([0, 0, 1, 2, 2, 2], device=x.device)
    y, weights = normal(6, product.dim2), RadialWeights(normal(6, 3), normal(3, product.weight_numel))
    z = product.convolve(x, y, weights, product.prepare(senders, receivers, BATCH))
    expected = torch.zeros_like(z).index_add(0, receivers, product(x[senders], y, weights.dense()))
    return _relative(z, expected)


def _gradient_error(
    product: TensorProduct, inputs: list[Tensor], normal: Callable[..., Tensor], *, order: int
) -> float:
    """Directional derivatives of ½|z|², or of ½|gradient|², against central differences."""
    directions = [normal(*value.shape) for value in inputs]

    def energy(values: list[Tensor], *, graph: bool) -> Tensor:
        half = product(*values).square().sum() / 2
        if order == 1:
            return half
        gradients = torch.autograd.grad(half, values, create_graph=graph)
        return sum((g.square().sum() for g in gradients), half.new_zeros(())) / 2

    leaves = [value.detach().requires_grad_() for value in inputs]
    gradients = torch.autograd.grad(energy(leaves, graph=True), leaves)
    slope = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))
    step = 1e-5

    def displaced(sign: int) -> Tensor:
        moved = [(v + sign * step * d).detach().requires_grad_() for v, d in zip(inputs, directions, strict=True)]
        return energy(moved, graph=False).detach()

    difference = (displaced(1) - displaced(-1)) / (2 * step)
    return ((difference - slope) / slope).abs().item()
