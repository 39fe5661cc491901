"""What is timed: settings of irreps, none of them empty, and the dense definition that every contender must meet."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
from e3nn.o3 import Irreps
from torch import Tensor

from sciml.tensor_products.backends import reachable, tensor_product
from sciml.tensor_products.couplings import (
    path_tensor,
    separate_coefficients,
    summed_coefficients,
    summed_irreps,
)
from sciml.tensor_products.problem import TensorProductProblem

Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]

# setting: what it is. Irreps of degree l have the parity (-1)^l; all outputs are kept that a product reaches.
SETTINGS = {
    "siso": "l ⊗ l → l, or l+1 where a product cannot reach l",
    "simo": "l ⊗ l → 0 … 2l",
    "mimo": "0 … l ⊗ 0 … l → 0 … 2l",
    "mimo_truncated": "0 … l ⊗ 0 … l → 0 … l",
    "uuu": "0 … l ⊗ 0 … l → 0 … l, only the paths of even l1+l2+l3",
    "uvu": "0 … l ⊗ 0 … l of one channel → 0 … l, as in a convolution",
}


@dataclass(frozen=True)
class Contender:
    """A product to be timed, and what it claims to compute.

    Attributes:
        name: how it is called in tables.
        product: (x, y, weights or None) → z.
        problem: irreps, mode and paths.
        coefficients: c_p of each path, z^p = c_p w C^p x y.
        summed: whether the paths into one irrep are summed; if not, z has a block per path.
        weight_rows: which row of the weights, (rows, channels), each path has.
        layout: of x, y and z.
        num_flops: least operations per sample and channel.
        expressivity_of: the backend with the same set of maps.
    """

    name: str
    product: Product
    problem: TensorProductProblem
    coefficients: tuple[float, ...]
    summed: bool
    weight_rows: tuple[int, ...]
    layout: str
    num_flops: float
    expressivity_of: str


def setting_problem(setting: str, degree: int, channels: int, backend: str) -> TensorProductProblem:
    """Irreps of a setting, with the outputs that a backend reaches.

    Where the suite of The Price of Freedom (arXiv:2506.13523) filtered outputs by p = (-1)^l for all products, which
    leaves nothing of l ⊗ l → l for odd l and halves the paths of Clebsch-Gordan, every product here keeps all the paths
    that it has, and "siso" goes to l+1 where the product has none to l: Gaunt for odd l, vector signals for even l.

    Args:
        setting: a key of `SETTINGS`.
        degree: l, at least 1.
        channels: multiplicity of each irrep.
        backend: whose paths count.

    Raises:
        ValueError: for an unknown setting, degrees or channels that are not positive, or if the backend has no path.
    """
    if setting not in SETTINGS:
        raise ValueError(f"got the setting {setting!r}; available: {', '.join(SETTINGS)}")
    if degree < 1 or channels < 1:
        raise ValueError(f"got degree={degree} and channels={channels}; both are at least 1")
    one = Irreps([(channels, (degree, (-1) ** degree))])
    many = Irreps([(channels, (l, (-1) ** l)) for l in range(degree + 1)])
    mode = "uvu" if setting == "uvu" else "uuu"
    if setting in ("siso", "simo"):
        problem = TensorProductProblem(one, one, mode=mode)
    elif setting == "uuu":
        problem = TensorProductProblem(many, many, many, mode=mode)
    else:
        other = Irreps([(1, ir) for _, ir in many]) if setting == "uvu" else many
        problem = TensorProductProblem(many, other, mode=mode)
    kept = [ir for _, ir in reachable(problem, backend)]
    if setting == "siso":
        kept = sorted((ir for ir in kept if ir.l in (degree, degree + 1)), key=lambda ir: ir.l)[:1]
    elif setting in ("mimo_truncated", "uvu"):
        kept = [ir for ir in kept if ir.l <= degree]
    if not kept:
        raise ValueError(f"{backend} has no path of {setting} ({SETTINGS[setting]})")
    return TensorProductProblem(
        problem.irreps_in1, problem.irreps_in2, Irreps([(channels, ir) for ir in kept]), mode=mode
    )


def backend_contender(
    backend: str,
    problem: TensorProductProblem,
    *,
    dtype: torch.dtype,
    device: str | torch.device,
    layout: str = "mul_ir",
    implementation: str = "auto",
) -> Contender:
    """One of the backends of this package."""
    product = tensor_product(problem, backend, layout=layout, implementation=implementation).to(device, dtype)
    summed = backend != "clebsch_gordan"
    path_weight = sys.modules[type(product).__module__].path_weight
    coefficients = summed_coefficients(problem, path_weight) if summed else separate_coefficients(problem)
    # Weights of a path, of a block of x, or of all: whatever their number says.
    channels = problem.irreps_in1[0].mul
    num_rows = product.weight_numel // channels
    if not summed:
        rows = tuple(range(len(problem.paths)))
    else:
        rows = tuple(path.block1 if num_rows > 1 else 0 for path in problem.paths)
    num_points = getattr(product, "num_points", None)
    return Contender(
        backend,
        product,
        problem,
        coefficients,
        summed,
        rows,
        layout,
        float(num_points) if num_points else 3.0 * num_nonzeros(problem),
        backend,
    )


def num_nonzeros(problem: TensorProductProblem) -> int:
    """Non-zero entries of the couplings of all paths, each worth two products and a sum."""
    return sum(int((path_tensor(problem, path).abs() > 1e-12).sum()) for path in problem.paths)


def definition(contender: Contender) -> Product:
    """z^p_uk = c_p w_u Σ_ij C_ijk x_ui y_uj in float64 by einsum, path by path: what the contender must reproduce."""
    problem, layout = contender.problem, contender.layout
    channels = problem.irreps_in1[0].mul
    irreps_out = summed_irreps(problem, lambda *_: 1.0)

    def product(x: Tensor, y: Tensor, weights: Tensor | None) -> Tensor:
        blocks1, blocks2 = _split(x, problem.irreps_in1, layout), _split(y, problem.irreps_in2, layout)
        w = None if weights is None else weights.reshape(*weights.shape[:-1], -1, channels)
        results: list[Tensor] = []
        for path, coefficient, row in zip(problem.paths, contender.coefficients, contender.weight_rows, strict=True):
            tensor = coefficient * path_tensor(problem, path).to(x.device)
            y_ = blocks2[path.block2].expand(-1, channels, -1)  # (samples, channels, 2 l2 + 1)
            z = torch.einsum("bui,buj,ijk->buk", blocks1[path.block1], y_, tensor)
            results.append(z if w is None else z * w[..., row, :, None])
        if contender.summed:
            totals = {ir: torch.zeros(()) for _, ir in irreps_out}
            for path, z in zip(problem.paths, results, strict=True):
                totals[path.irrep_out] = totals[path.irrep_out] + z
            results = list(totals.values())
        return torch.cat([(z.transpose(1, 2) if layout == "ir_mul" else z).flatten(1) for z in results], dim=1)

    return product


def _split(features: Tensor, irreps: Irreps, layout: str) -> list[Tensor]:
    """(samples, channels, 2l+1) for each block; written again, so that the gate shares no code with the products."""
    blocks = features.split([mul * ir.dim for mul, ir in irreps], dim=1)
    if layout == "ir_mul":
        return [b.unflatten(1, (ir.dim, mul)).transpose(1, 2) for b, (mul, ir) in zip(blocks, irreps, strict=True)]
    return [b.unflatten(1, (mul, ir.dim)) for b, (mul, ir) in zip(blocks, irreps, strict=True)]
