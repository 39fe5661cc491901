"""Incompressible flow in a periodic plane, by its vorticity in Fourier space."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.messages import check_not_negative, check_positive
from sciml.pde.grid import Grid
from sciml.pde.spectral import Waves, curl, integrating_factor_step, to_points, to_waves, waves
from sciml.pde.stepper import Field, Stepper, symmetries_of


@dataclass(frozen=True)
class KolmogorovForcing:
    """A force per mass F sin(k y) along x.

    Attributes:
        amplitude: F.
        waves: k in units of 2π / L_y, a whole number.
    """

    amplitude: float
    waves: int


class IncompressibleNavierStokes(Stepper):
    """∂v/∂t + (v·∇)v = −∇p + ν ∇²v − μ v + f,   ∇·v = 0,   ∂s/∂t + v·∇s = κ ∇²s

    in a doubly periodic plane. The vorticity ω = ∂_x v_y − ∂_y v_x and the scalar are stepped in Fourier space,

        ∂ω/∂t = −∇·(v ω) + ν ∇²ω − μ ω + ∂_x f_y − ∂_y f_x,        v = (∂_y, −∂_x) ∇⁻² (−ω) + mean of v,

    products at the points, with two thirds of the waves so that they do not alias; in time by
    `integrating_factor_step`, which takes viscosity, drag and what the mean velocity carries along exactly.

    Args:
        grid: periodic; fields are at its `nodes`.
        dt: time step.
        viscosity: ν, length² / time.
        drag: μ, 1 / time.
        forcing: f; None for none.
        scalar_diffusivity: κ, length² / time; None for no scalar.

    The channels are velocity_x, velocity_y, and scalar if there is one. Waves beyond two thirds, and divergence, are
    removed from the fields by the first step.

    Cost: 4 evaluations of 5 Fourier transforms, of 8 with a scalar, each step.

    Raises:
        ValueError: if the grid is not periodic, or a number is negative or no number.

    Source: C. Canuto et al., Spectral Methods (2007), sec. 3.3-3.5; S. A. Orszag, J. Atmos. Sci. 28, 1074 (1971) for
        the two thirds.
    """

    at = "nodes"

    def __init__(
        self,
        grid: Grid,
        dt: float,
        *,
        viscosity: float,
        drag: float = 0.0,
        forcing: KolmogorovForcing | None = None,
        scalar_diffusivity: float | None = None,
    ) -> None:
        check_positive({"dt": dt})
        check_not_negative({"viscosity": viscosity, "drag": drag, "scalar_diffusivity": scalar_diffusivity or 0.0})
        waves(grid, torch.float64, torch.device("cpu"))  # raises if the grid does not do
        self.grid, self.dt = grid, dt
        self.viscosity, self.drag, self.forcing, self.scalar_diffusivity = viscosity, drag, forcing, scalar_diffusivity
        self.fields = [Field("velocity_x", "L/T", 0), Field("velocity_y", "L/T", 1)]
        if forcing is None:
            self.symmetries = symmetries_of(grid)
        if scalar_diffusivity is not None:
            self.fields.append(Field("scalar"))
        self._decays: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def encode(self, u: Tensor) -> Tensor:
        """Coefficients of ω, of the scalar, and, in a channel of their own each, the mean velocities."""
        k = self._waves(u)
        v = to_waves(u)  # (batch, channels, waves)
        vorticity = curl(v[:, :2], k)
        means = torch.zeros_like(v[:, :2])
        means[:, :, 0, 0] = v[:, :2, 0, 0]
        return torch.cat([vorticity[:, None], v[:, 2:], means], dim=1) * k.kept

    def decode(self, state: Tensor) -> Tensor:
        """Velocities and scalar at the nodes."""
        return to_points(torch.cat([self._swirl(state) + state[:, -2:], state[:, 1:-2]], dim=1), self.grid)

    def advance(self, state: Tensor) -> Tensor:
        """One step of ω, scalar and mean."""
        first, second = self._halves(state)
        return integrating_factor_step(state, self._change, first=first, second=second, dt=self.dt)

    def largest_step(self, u: Tensor) -> float:
        """Where the fourth-order scheme stops being stable for advection: 2√2 / max (k_x |v_x| + k_y |v_y|)."""
        v = u[:, :2] - u[:, :2].mean(dim=(2, 3), keepdim=True)
        speeds = v.abs().amax(dim=(0, 2, 3)).tolist()
        rate = sum(
            speed * 2 * math.pi / length * size / 3
            for speed, length, size in zip(speeds, self.grid.lengths, self.grid.shape, strict=True)
        )
        return 2 * 2**0.5 / rate if rate > 0 else float("inf")

    def _change(self, state: Tensor) -> Tensor:
        """What advection by the velocity without its mean, and the force, do to ω and the scalar."""
        k = self._waves(state)
        carried = state[:, :-2]  # ω, scalar
        at_points = to_points(torch.cat([self._swirl(state), carried], dim=1), self.grid)
        v, carried_points = at_points[:, :2], at_points[:, 2:]
        flux_x, flux_y = to_waves(v[:, :1] * carried_points), to_waves(v[:, 1:] * carried_points)
        change = -1j * (k.k_x * flux_x + k.k_y * flux_y) * k.kept
        if self.forcing is not None:
            change = change + self._curl_of_force(state)
        return torch.cat([change, torch.zeros_like(state[:, -2:])], dim=1)

    def _curl_of_force(self, state: Tensor) -> Tensor:
        """Coefficients of −∂_y F sin(k y) for ω, zero for the scalar; (channels, waves)."""
        assert self.forcing is not None
        n, num_x, num_y = self.forcing.waves, *self.grid.shape
        force = torch.zeros_like(state[0, :-2])
        wavenumber = 2 * math.pi / self.grid.lengths[1] * n
        force[0, 0, n] = -0.5 * self.forcing.amplitude * wavenumber * num_x * num_y  # of −F k cos(k y)
        return force

    def _swirl(self, state: Tensor) -> Tensor:
        """Coefficients of both velocities without their means, (batch, 2, waves)."""
        k = self._waves(state)
        stream = state[:, 0] * k.inverse  # ψ with v = (∂_y ψ, −∂_x ψ)
        return torch.stack([1j * k.k_y * stream, -1j * k.k_x * stream], dim=1)

    def _halves(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Factors of both halves of a step, (batch, channels, waves): decay, and shift with the decaying mean."""
        k, decay = self._waves(state), self._decay(state)
        mean = state[:, -2:, 0, 0].real / (self.grid.shape[0] * self.grid.shape[1])  # (batch, 2)
        phase = k.k_x * mean[:, 0, None, None] + k.k_y * mean[:, 1, None, None]  # (batch, waves)
        first = -math.expm1(-self.drag * self.dt / 2) / self.drag if self.drag else self.dt / 2
        shifts = [
            torch.exp(-1j * phase * time)[:, None] for time in (first, first * math.exp(-self.drag * self.dt / 2))
        ]
        return decay * shifts[0], decay * shifts[1]

    def _decay(self, state: Tensor) -> Tensor:
        """Factors of half a step by viscosity and drag, (channels, waves)."""
        key = (state.real.dtype, state.device)
        if key not in self._decays:
            squared = waves(self.grid, torch.float64, torch.device("cpu")).squared
            rates = [-self.viscosity * squared - self.drag]
            if self.scalar_diffusivity is not None:
                rates.append(-self.scalar_diffusivity * squared)
            rates += [torch.full_like(squared, -self.drag)] * 2
            factors = (torch.stack(rates) * (self.dt / 2)).exp()
            self._decays[key] = factors.to(state.device, key[0])
        return self._decays[key]

    def _waves(self, state: Tensor) -> Waves:
        return waves(self.grid, state.real.dtype if state.is_complex() else state.dtype, state.device)
