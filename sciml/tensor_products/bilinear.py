"""Products of the form z = C [(Aᵀ x) ⊙ (Bᵀ y)]: to points, multiply there, and back. Written once; factors supplied."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from e3nn.o3 import Irreps
from torch import Tensor

from sciml.kernels.orbits import orbit_factor
from sciml.kernels.point_form import MOST_LINES, Form, Side, register_form
from sciml.nn.constants import at_least_float32
from sciml.tensor_products.channels import ChannelArrays
from sciml.tensor_products.interface import ConvolutionGraph, TensorProduct, as_batch, sum_over_edges
from sciml.tensor_products.problem import TensorProductProblem

# Rows of (samples · channels) whose values at the points stay in the cache of one CPU core, for products without
# derivatives: three arrays of 2^19 floats are 6 MB. Measured at L = 4 to 8: 1.7 to 2.1 times faster.
_CPU_ELEMENTS = 2**19


class PointwiseProduct(TensorProduct):
    """z = back( to_points1(x) ⊙ to_points2(y) ), channel by channel; the points may be of a grid or of a rank.

    Weights act on x before it goes to the points, so that z stays linear in what is summed over edges:

        "uuu":  z_u = back( to1(w_u x_u) ⊙ to2(y_u) )
        "uvu":  z_u = back( Σ_v to1(w_uv x_u) ⊙ to2(y_v) )
        "uvw":  z_w = back( Σ_v to1(Σ_u w_uvw x_u) ⊙ to2(y_v) )

    They depend on the block b of x, w^b, if `weights_per_block`; else one weight serves all the degrees of a channel.
    In `convolve`, `back` is applied after the sum over edges, which is exact by linearity.

    Args:
        problem: what to compute.
        irreps_out: irreps of z, each once.
        weights_per_block: see above.
        layout: see `TensorProduct`.
        implementation: see `TensorProduct`.

    Attributes:
        weight_numel: Σ_b U_b · (1, V, V·W) for ("uuu", "uvu", "uvw") by block, where U_b is the multiplicity of block
            b (at most V in "uuu"), or U · (1, V, V·W) with the largest multiplicities U, V, W otherwise.
    """

    def __init__(
        self,
        problem: TensorProductProblem,
        *,
        irreps_out: Irreps,
        weights_per_block: bool,
        layout: str = "mul_ir",
        implementation: str = "auto",
    ) -> None:
        super().__init__(problem, layout=layout, implementation=implementation)
        self.irreps_out = irreps_out
        self.arrays1 = ChannelArrays(problem.irreps_in1, layout)
        self.arrays2 = ChannelArrays(problem.irreps_in2, layout)
        self.arrays_out = ChannelArrays(irreps_out, layout)
        self.num_channels_out = self.arrays_out.num_channels
        in1, in2 = self.arrays1.num_channels, self.arrays2.num_channels
        if problem.mode == "uuu":
            self.num_channels1 = min(in1, in2)
            inner: tuple[int, ...] = ()
        else:
            self.num_channels1 = in1
            inner = (in2,) if problem.mode == "uvu" else (in2, self.num_channels_out)
        muls = [min(mul, self.num_channels1) for mul, _ in problem.irreps_in1] if weights_per_block else []
        self.weight_shapes = [(mul, *inner) for mul in (muls or [self.num_channels1])]
        self.weight_sizes = [torch.Size(shape).numel() for shape in self.weight_shapes]
        self.weight_numel = sum(self.weight_sizes)
        self.component_dims = [ir.dim for _, ir in problem.irreps_in1]

    @abstractmethod
    def to_points1(self, x: Tensor) -> Tensor:
        """(..., components of x) → (..., points)."""

    @abstractmethod
    def to_points2(self, y: Tensor) -> Tensor:
        """(..., components of y) → (..., points)."""

    @abstractmethod
    def back(self, values: Tensor) -> Tensor:
        """(..., points) → (..., components of z)."""

    def _product(self, x: Tensor, y: Tensor, weights: Tensor | None) -> Tensor:
        # Rows of 25 or 91 numbers (L = 4) are not aligned as a GPU's matrix products want; those of all samples are.
        x_, y_ = self.arrays1.pack(x, components_first=x.is_cuda), self.arrays2.pack(y, components_first=y.is_cuda)
        weights = as_batch(weights)
        size = self._samples_at_once(x_, y_, weights)
        if size >= x_.shape[0]:
            return self.arrays_out.unpack(self.back(self._values(x_, y_, weights)))
        shared = weights is None or weights.shape[0] == 1
        z = [
            self.back(self._values(x_[i : i + size], y_[i : i + size], weights if shared else weights[i : i + size]))  # type: ignore[index]
            for i in range(0, x_.shape[0], size)
        ]
        return self.arrays_out.unpack(torch.cat(z))

    def _convolve(self, x: Tensor, y: Tensor, weights: Tensor | None, graph: ConvolutionGraph) -> Tensor:
        senders = self.arrays1.pack(x.index_select(0, graph.senders))
        values = self._values(senders, self.arrays2.pack(y), as_batch(weights))  # (edges, channels, points)
        return self.arrays_out.unpack(self.back(sum_over_edges(values, graph)))

    def _values(self, x: Tensor, y: Tensor, weights: Tensor | None) -> Tensor:
        """Weighted product at the points, (batch, channels of z, points)."""
        mode = self.mode
        if mode == "uuu":
            x, y = x[:, : self.num_channels1], y[:, : self.num_channels1]
            if weights is not None:
                x = x * self._per_component(weights)
            return self.to_points1(x) * self.to_points2(y)
        if weights is None:  # ones: sum first
            y = y.sum(dim=1, keepdim=True)
            if mode == "uvw":
                x = x.sum(dim=1, keepdim=True).expand(-1, self.num_channels_out, -1)
            return self.to_points1(x) * self.to_points2(y)
        w = self._per_component(weights)  # (batch or 1, u, v, components) or (batch or 1, u, v, w, components)
        if mode == "uvu" and y.shape[1] == 1:
            return self.to_points1(x * w[:, :, 0]) * self.to_points2(y)
        if mode == "uvu":
            x = (x[:, :, None] * w).transpose(1, 2)  # (batch, v, u, components)
        else:
            x = torch.einsum("buc,buvwc->bvwc", x, w)
        return (self.to_points1(x) * self.to_points2(y)[:, :, None]).sum(dim=1)

    def _per_component(self, weights: Tensor) -> Tensor:
        """(batch, weight_numel) → (batch, u, ..., components), or 1 for components if all degrees share weights."""
        channels = self.num_channels1
        if len(self.weight_shapes) == 1:
            return weights.unflatten(1, self.weight_shapes[0]).unsqueeze(-1)
        parts = []
        for part, shape, dim in zip(
            weights.split(self.weight_sizes, 1), self.weight_shapes, self.component_dims, strict=True
        ):
            part = part.unflatten(1, shape)
            if shape[0] < channels:
                part = torch.nn.functional.pad(part, (0, 0) * (len(shape) - 1) + (0, channels - shape[0]))
            parts.append(part.unsqueeze(-1).expand(*part.shape, dim))
        return torch.cat(parts, dim=-1)

    def _samples_at_once(self, x: Tensor, y: Tensor, weights: Tensor | None) -> int:
        """All, unless derivatives are not asked for on a CPU, where values at the points then stay in its cache."""
        if torch.compiler.is_compiling() or x.device.type != "cpu":
            return x.shape[0]
        if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, y, weights)):
            return x.shape[0]
        per_sample = self.num_points * max(x.shape[1], self.num_channels_out)
        return max(_CPU_ELEMENTS // per_sample, 1)

    num_points: int


class OrbitFactors(NamedTuple):
    """Other factors of the same product for kernels: R = terms · orbit size · orbits, in this order.

    Attributes:
        factors: A (d1, R), B (d2, R) and C (R, d3), float64.
        num_terms: products added at each point.
        orbit_size: number of points with the same factors up to signs, see `sciml.kernels.orbits`.
        num_planes: orbits are planes times places on each, and factors their products.
    """

    factors: tuple[Tensor, Tensor, Tensor]
    num_terms: int
    orbit_size: int
    num_planes: int = 1


class Bilinear(PointwiseProduct):
    """z = C [(Aᵀ x) ⊙ (Bᵀ y)] with factor matrices.

    Cost per sample and channel: 2 R (d1 + d2 + d3) FLOP for rank R; the values at the points, R numbers each, are
    written and read. Kernels (modes "uuu", and "uvu" with one channel of y) keep them in registers and use the symmetry
    of the points, see `sciml.kernels.bilinear`.

    Args:
        problem: what to compute.
        factors: A (d1, R), B (d2, R) and C (R, d3), float64, for one channel of each block.
        orbits: makes the factors that kernels use, where they may be used; None if there are no kernels.
        irreps_out: irreps of the d3 rows of z, each once.
        weights_per_block: see `PointwiseProduct`.
        layout: see `TensorProduct`.
        implementation: see `TensorProduct`.
    """

    factor1: Tensor
    factor2: Tensor
    factor_out: Tensor

    def __init__(
        self,
        problem: TensorProductProblem,
        factors: tuple[Tensor, Tensor, Tensor],
        orbits: Callable[[], OrbitFactors] | None,
        *,
        irreps_out: Irreps,
        weights_per_block: bool,
        layout: str = "mul_ir",
        implementation: str = "auto",
    ) -> None:
        super().__init__(
            problem,
            irreps_out=irreps_out,
            weights_per_block=weights_per_block,
            layout=layout,
            implementation=implementation,
        )
        for name, factor in zip(("factor1", "factor2", "factor_out"), factors, strict=True):
            self.register_constant(name, factor)
        self.num_points = factors[0].shape[1]
        self._kernel_form: Form | None = None
        if self._may_use_kernels:
            form = None if orbits is None else self._form(orbits())
            self._choose_kernels(form, implementation)

    @staticmethod
    def no_kernels(problem: TensorProductProblem) -> str | None:
        """Why there are no kernels for a problem, or None if there are."""
        if problem.mode == "uuu" or (problem.mode == "uvu" and all(mul == 1 for mul, _ in problem.irreps_in2)):
            return None
        return "they take the mode 'uuu', and 'uvu' if y has one channel"

    def _form(self, orbits: OrbitFactors) -> Form:
        (factor1, factor2, factor_out), *_ = orbits
        sizes = {"num_terms": orbits.num_terms, "orbit_size": orbits.orbit_size, "num_planes": orbits.num_planes}
        sides = [
            Side(
                arrays.sizes,
                shared,
                orbit_factor(factor.numpy(), **sizes),
            )
            for arrays, shared, factor in (
                (self.arrays1, False, factor1),
                (self.arrays2, self.mode == "uvu", factor2),
                (self.arrays_out, False, factor_out.T),
            )
        ]
        muls = tuple(shape[0] for shape in self.weight_shapes)
        return Form(tuple(sides), orbits.orbit_size, self.layout, self.num_channels1, muls)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self._kernel_form is not None:  # perhaps in another process
            register_form(self._kernel_form)

    def _has_kernels(self) -> bool:
        return self._kernel_form is not None

    def _choose_kernels(self, form: Form | None, implementation: str) -> None:
        if form is not None and form.num_lines <= MOST_LINES:
            self._kernel_form, self._form_name = form, register_form(form)
            self.register_constant("kernel_heights", torch.from_numpy(form.heights()))
            return
        if implementation == "triton":
            raise ValueError(
                f"{type(self).__name__} has no kernels for this problem: they take dense factors and up to "
                f"{MOST_LINES} lines, and these are {'separable' if form is None else form.num_lines}; use 'torch'"
            )
        self.requested = "torch"

    def _heights(self) -> Tensor:
        return at_least_float32(self, "kernel_heights")

    def _product(self, x: Tensor, y: Tensor, weights: Tensor | None) -> Tensor:
        if not self._on_kernels(x):
            return super()._product(x, y, weights)
        from sciml.kernels.bilinear import bilinear_product

        return bilinear_product(x, y, as_batch(weights), self._heights(), self._form_name)

    def _convolve(self, x: Tensor, y: Tensor, weights: Tensor | None, graph: ConvolutionGraph) -> Tensor:
        if not self._on_kernels(x):
            return super()._convolve(x, y, weights, graph)
        graph = self._prepared(x, graph)
        from sciml.kernels.bilinear import bilinear_convolution

        indices = (graph.senders, graph.receivers, graph.receiver_starts, graph.sender_order, graph.sender_starts)
        return bilinear_convolution(x, y, as_batch(weights), indices, self._heights(), self._form_name)  # type: ignore[arg-type]

    def to_points1(self, x: Tensor) -> Tensor:
        """Aᵀ x."""
        return _multiply(x, self.factor1)

    def to_points2(self, y: Tensor) -> Tensor:
        """Bᵀ y."""
        return _multiply(y, self.factor2)

    def back(self, values: Tensor) -> Tensor:
        """C times the values."""
        return _multiply(values, self.factor_out)


def _multiply(values: Tensor, factor: Tensor) -> Tensor:
    """(..., n) times (n, m) → (..., m), whose memory has that axis first if it is not the last in that of `values`."""
    if values.stride(-1) == 1 or values.shape[-1] == 1:
        return values @ factor
    columns = values.movedim(-1, 0)
    return (factor.T @ columns.flatten(1)).unflatten(1, columns.shape[1:]).movedim(0, -1)
