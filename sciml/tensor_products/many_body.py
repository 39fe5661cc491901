"""Many-body powers: a function on the sphere to the power ν, in one go instead of ν - 1 products."""

import math
from typing import Any

import torch
from e3nn.o3 import Irrep, Irreps
from torch import Tensor

from sciml.kernels.available import check_device, check_kernels
from sciml.kernels.orbits import orbit_factor
from sciml.kernels.point_form import MOST_LINES, Form, Side, register_form
from sciml.nn.constants import ConstantsModule, at_least_float32
from sciml.tensor_products.channels import ChannelArrays, join_blocks, split_blocks
from sciml.tensor_products.gaunt import at_points, num_sectors, placement
from sciml.tensor_products.interface import IMPLEMENTATIONS
from sciml.tensor_products.sphere import reflected_grid, sphere_grid
from sciml.tensor_products.torus import TorusTransform

TRANSFORMS = ("grid", "fourier")


class ManyBodyPower(ConstantsModule):
    """z^l = P_l[ f(n)^ν ],  f = Σ_b w_b x_b Y_b(n): all Gaunt couplings of ν copies of x, for every channel.

        grid:     z = C (A x)^ν, exact on the grid that integrates degree ν L + L_out
        fourier:  the same power on the torus of 2ν L + 1 frequencies in θ, ν L + L_out + 1 in φ

    One transform in, one out, and ν - 1 multiplications at each point, where each product of a Clebsch-Gordan chain (as
    in MACE, correlation ν) costs O(L⁵). x is scaled so that f has unit variance if x and w have, and z so that the mean
    of Σ_k z_k² is at most the number of components k. Any order of derivative; float32 and float64; CPU and CUDA.

    Args:
        irreps_in: irreps of x.
        irreps_out: irreps of z to keep; they take as many channels as x has.
        exponent: ν, at least 1.
        transform: "grid" or "fourier".
        layout: of x and z, see `TensorProduct`.
        implementation: "torch", "triton" or "auto", see `TensorProduct`. There are kernels for "grid".

    Attributes:
        irreps_out: irreps of z, sorted, each once.
        weight_numel: one weight per (block, channel) of x.

    Raises:
        ValueError: for blocks of different multiplicities, an exponent below 1, or irreps out that are not reached.

    Source: Luo et al., arXiv:2401.10216, section 3.4; grid of the power: exactness of Gauss-Legendre quadrature.

    >>> power = ManyBodyPower("8x0e+8x1o", "0e+1o+2e", exponent=3)
    >>> power(torch.randn(5, 32)).shape, power.irreps_out
    (torch.Size([5, 72]), 8x0e+8x1o+8x2e)
    """

    to_points: Tensor
    from_points: Tensor
    block_of_component: Tensor

    def __init__(
        self,
        irreps_in: Irreps | str,
        irreps_out: Irreps | str,
        *,
        exponent: int,
        transform: str = "grid",
        layout: str = "mul_ir",
        implementation: str = "auto",
    ) -> None:
        super().__init__()
        if implementation not in IMPLEMENTATIONS:
            raise ValueError(f"got the implementation {implementation!r}; available: {', '.join(IMPLEMENTATIONS)}")
        self.irreps_in = Irreps(irreps_in)
        if transform not in TRANSFORMS:
            raise ValueError(f"got the transform {transform!r}; available: {', '.join(TRANSFORMS)}")
        if exponent < 1:
            raise ValueError(f"got exponent={exponent}; expected at least 1")
        channels = {mul for mul, _ in self.irreps_in}
        if len(channels) != 1:
            raise ValueError(f"got {self.irreps_in}; all blocks must have the same number of channels")
        (self.num_channels,) = channels
        reached = powers_reach(self.irreps_in, exponent)
        wanted = sorted({ir for _, ir in Irreps(irreps_out)})
        missing = [str(ir) for ir in wanted if ir not in reached]
        if missing:
            raise ValueError(
                f"{', '.join(missing)} is no part of {self.irreps_in} to the power {exponent}; ask for irreps among "
                f"{', '.join(map(str, sorted(reached)))}"
            )
        self.irreps_out = Irreps([(self.num_channels, ir) for ir in wanted])
        self.exponent, self.transform = exponent, transform
        self.weight_numel = self.num_channels * len(self.irreps_in)
        self.arrays_in = ChannelArrays(self.irreps_in, layout)
        self.arrays_out = ChannelArrays(self.irreps_out, layout)
        num = self.num_signals = num_sectors(self.irreps_in)
        dim_in, dim_out = self.irreps_in.dim / self.num_channels, self.irreps_out.dim / self.num_channels
        lin, lout = self.irreps_in.lmax, self.irreps_out.lmax
        # E f² = Σ_b (2l+1) / 4π, and E f^2ν = (2ν-1)!! of a Gaussian f of unit variance
        moment = math.prod(range(2 * exponent - 1, 0, -2))
        inward = placement(self.irreps_in, num) / math.sqrt(dim_in / (4 * math.pi))
        scale = math.sqrt(dim_out / (4 * math.pi * moment)) / num
        outward = placement(self.irreps_out, num, {ir: scale for _, ir in self.irreps_out})
        if implementation == "triton":
            self._prepare_kernels(inward, outward, layout)
        if transform == "grid":
            grid = sphere_grid(exponent * lin + lout)
            inward = at_points(inward, grid.harmonics(lin), num)
            outward = at_points(outward, grid.harmonics(lout) * grid.weights[:, None], num)
        else:
            size = (2 * exponent * lin + 1, exponent * lin + lout + 1)
            self.torus_in, self.torus_out = TorusTransform(lin, size), TorusTransform(lout, size)
        self.requested = implementation
        self.register_constant("to_points", inward)
        self.register_constant("from_points", outward.T)
        self.register_buffer(
            "block_of_component",
            torch.tensor([b for b, (_, ir) in enumerate(self.irreps_in) for _ in range(ir.dim)]),
            persistent=False,
        )

    def _prepare_kernels(self, inward: Tensor, outward: Tensor, layout: str) -> None:
        form = self._form(inward, outward, layout) if self.transform == "grid" else None
        if form is None or form.num_lines > MOST_LINES:
            lacking = "they are for the transform 'grid'"
            if form is not None:
                lacking = f"they have up to {MOST_LINES} lines, and this needs {form.num_lines}"
            raise ValueError(f"{type(self).__name__} has no kernels for this problem: {lacking}")
        check_kernels()
        self._kernel_form, self._form_name = form, register_form(form)
        self.register_constant("kernel_heights", torch.from_numpy(form.heights()))

    def _form(self, inward: Tensor, outward: Tensor, layout: str) -> Form:
        lin, lout = self.irreps_in.lmax, self.irreps_out.lmax
        grid, places = reflected_grid(self.exponent * lin + lout)
        places = places.flatten()
        values_out = (grid.harmonics(lout) * grid.weights[:, None])[places]
        sizes = {"num_terms": 1, "orbit_size": 8 * self.num_signals, "num_planes": len(grid.heights) // 2}
        sides = tuple(
            Side(
                arrays.sizes,
                False,
                orbit_factor(at_points(matrix, values, self.num_signals).numpy(), **sizes),
            )
            for arrays, matrix, values in (
                (self.arrays_in, inward, grid.harmonics(lin)[places]),
                (self.arrays_out, outward, values_out),
            )
        )
        return Form(sides, sizes["orbit_size"], layout, self.num_channels, ())

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self.requested == "triton":  # perhaps in another process
            register_form(self._kernel_form)

    @property
    def implementation(self) -> str:
        """What runs where the module is now: "torch" or "triton"."""
        return "triton" if self._on_kernels(self.to_points) else "torch"

    def _on_kernels(self, x: Tensor) -> bool:
        if self.requested != "triton":
            return False  # "auto" as well: the kernels' times are not known yet
        check_device(x.device)
        return True

    def forward(self, x: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return z, (batch, irreps_out.dim).

        Args:
            x: (batch, irreps_in.dim).
            weights: (batch, weight_numel) or (weight_numel,), by block and channel; None for ones.
        """
        if self._on_kernels(x):
            from sciml.kernels.point_power import point_power

            return point_power(
                x if weights is None else self._weighted(x, weights),
                self.exponent,
                at_least_float32(self, "kernel_heights"),
                self._form_name,
            )
        array = self.arrays_in.pack(x)  # (batch, channels, components)
        if weights is not None:
            by_block = weights.unflatten(-1, (-1, self.num_channels)).transpose(-1, -2)
            array = array * by_block.index_select(-1, self.block_of_component)
        values = array @ self.to_points
        if self.transform == "fourier":
            values = self.torus_in.to_torus(values.unflatten(-1, (self.num_signals, -1)))
        power = values
        for _ in range(self.exponent - 1):
            power = power * values
        if self.transform == "fourier":
            power = self.torus_out.from_torus(power).flatten(-2)
        return self.arrays_out.unpack(power @ self.from_points)

    def _weighted(self, x: Tensor, weights: Tensor) -> Tensor:
        by_block = weights.unflatten(-1, (-1, self.num_channels))  # (..., blocks, channels)
        blocks = split_blocks(x, self.arrays_in.sizes, self.arrays_in.layout)
        weighted = [block * by_block[..., b, :, None] for b, block in enumerate(blocks)]
        return join_blocks(weighted, self.arrays_in.layout)


def powers_reach(irreps: Irreps, exponent: int) -> set[Irrep]:
    """Irreps that Gaunt couplings of `exponent` copies reach."""
    reached = single = {ir for _, ir in irreps}
    for _ in range(exponent - 1):
        reached = {ir for ir1 in reached for ir2 in single for ir in ir1 * ir2 if (ir1.l + ir2.l + ir.l) % 2 == 0}
    return reached
