"""Rotating shallow water in a periodic plane, in Fourier space."""

import math

import torch
from torch import Tensor

from sciml.messages import check_not_negative, check_positive
from sciml.pde.grid import Grid
from sciml.pde.spectral import curl, integrating_factor_step, to_points, to_waves, waves
from sciml.pde.stepper import Field, Stepper, symmetries_of


class ShallowWater(Stepper):
    """∂v/∂t = −(ζ + f) e_z × v − ∇(g h + ½ v²) + D v,   ∂h/∂t = −∇·(h v) + D (h − H),   D = ν ∇² − ν₄ ∇⁴

    with ζ = ∂_x v_y − ∂_y v_x, over a flat bottom in a plane that turns by f/2. Products of two fields at the points,
    with two thirds of the waves, so that they do not alias; in time `integrating_factor_step`, which takes D exactly.
    For smooth flow; bores and dry ground need `ShallowWaterVolumes`.

    Args:
        grid: periodic; fields are at its `nodes`.
        dt: time step.
        gravity: g.
        coriolis: f, 1 / time.
        viscosity: ν, length² / time.
        hyperviscosity: ν₄, length⁴ / time.

    The channels are height, velocity_x, velocity_y. The volume ∫h is constant to rounding.

    Cost: 4 evaluations of 11 Fourier transforms each step.

    Raises:
        ValueError: if the grid is not periodic, or a number is not what it has to be.

    Source: G. K. Vallis, Atmospheric and Oceanic Fluid Dynamics (2017), sec. 3.1 (vector-invariant form).
    """

    at = "nodes"

    def __init__(
        self,
        grid: Grid,
        dt: float,
        *,
        gravity: float = 1.0,
        coriolis: float = 0.0,
        viscosity: float = 0.0,
        hyperviscosity: float = 0.0,
    ) -> None:
        check_positive({"dt": dt, "gravity": gravity})
        check_not_negative({"viscosity": viscosity, "hyperviscosity": hyperviscosity})
        waves(grid, torch.float64, torch.device("cpu"))  # raises if the grid does not do
        self.grid, self.dt, self.gravity, self.coriolis = grid, dt, gravity, coriolis
        self.viscosity, self.hyperviscosity = viscosity, hyperviscosity
        self.symmetries = symmetries_of(grid, turning=bool(coriolis))
        self.fields = [Field("height", "L"), Field("velocity_x", "L/T", 0), Field("velocity_y", "L/T", 1)]

    def check(self, u: Tensor) -> None:
        """Raise a ValueError if u does not fit, or there is no water somewhere."""
        super().check(u)
        if not bool((u[:, 0] > 0).all()):
            raise ValueError("got heights that are not positive, or no numbers; where ground may fall dry, use "
                             "ShallowWaterVolumes")  # fmt: skip

    def encode(self, u: Tensor) -> Tensor:
        """Coefficients of the fields, without those that would alias."""
        return to_waves(u) * waves(self.grid, u.dtype, u.device).kept

    def decode(self, state: Tensor) -> Tensor:
        """Fields at the nodes."""
        return to_points(state, self.grid)

    def advance(self, state: Tensor) -> Tensor:
        """One step of the coefficients."""
        squared = waves(self.grid, state.real.dtype, state.device).squared
        half = torch.exp(-(self.viscosity * squared + self.hyperviscosity * squared**2) * (self.dt / 2))
        return integrating_factor_step(state, self._change, first=half, second=half, dt=self.dt)

    def largest_step(self, u: Tensor) -> float:
        """Where the fourth-order scheme stops being stable: 2√2 / (|f| + Σ_axes k_max (|v| + √(g h)))."""
        gravity_wave = (self.gravity * u[:, 0].amax()).sqrt().item()
        rate = abs(self.coriolis)
        for axis in (0, 1):
            k_max = 2 * math.pi / self.grid.lengths[axis] * self.grid.shape[axis] / 3
            rate += k_max * (u[:, 1 + axis].abs().amax().item() + gravity_wave)
        return 2 * 2**0.5 / rate

    def _change(self, state: Tensor) -> Tensor:
        k = waves(self.grid, state.real.dtype, state.device)
        vorticity = curl(state[:, 1:], k)
        h, v_x, v_y, zeta = to_points(torch.cat([state, vorticity[:, None]], dim=1), self.grid).unbind(1)
        turning = zeta + self.coriolis
        head = self.gravity * h + 0.5 * (v_x**2 + v_y**2)
        products = to_waves(torch.stack([h * v_x, h * v_y, turning * v_y, turning * v_x, head], dim=1))
        flux_x, flux_y, push_x, push_y, head = products.unbind(1)
        change = torch.stack(
            [-1j * (k.k_x * flux_x + k.k_y * flux_y), push_x - 1j * k.k_x * head, -push_y - 1j * k.k_y * head], dim=1
        )
        return change * k.kept

    def energy(self, u: Tensor) -> Tensor:
        """∫ ½ h v² + ½ g h², (batch,)."""
        h, v_x, v_y = u.unbind(1)
        return (0.5 * h * (v_x**2 + v_y**2) + 0.5 * self.gravity * h**2).sum(dim=(1, 2)) * self.grid.cell_volume

    def potential_enstrophy(self, u: Tensor) -> Tensor:
        """∫ ½ (ζ + f)² / h, (batch,)."""
        k = waves(self.grid, u.dtype, u.device)
        zeta = to_points(curl(to_waves(u[:, 1:]), k), self.grid)
        return (0.5 * (zeta + self.coriolis) ** 2 / u[:, 0]).sum(dim=(1, 2)) * self.grid.cell_volume
