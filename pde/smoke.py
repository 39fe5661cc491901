"""Buoyant smoke in a closed box, on staggered velocities, as PDEArena's Navier-Stokes data have it."""

import math

import torch
from torch import Tensor

from sciml.messages import check_positive
from sciml.pde.grid import Grid
from sciml.pde.poisson import solve_closed
from sciml.pde.semi_lagrangian import look_up
from sciml.pde.stepper import Field, Stepper


class BuoyantSmoke(Stepper):
    """∂s/∂t + v·∇s = 0,   ∂v/∂t + v·∇v = −∇p + ν ∇²v + b s e_y,   ∇·v = 0,   v = 0 on and beyond the walls.

    A step takes, in this order, smoke along the old velocity (semi-Lagrangian, backward, bilinear), velocity along
    itself, explicit diffusion, buoyancy of the new smoke, and the projection onto fields without divergence. (PDEArena
    has diffusion after buoyancy; then uniform smoke, which pressure should hold in balance, moves at the walls.) The
    smoke is at the centres of cells; the component of the velocity along an axis is at the lower faces of cells across
    it. First order in time.

    Args:
        grid: two axes with walls.
        dt: time step.
        viscosity: ν, length² / time.
        buoyancy: b, length / time², per unit of smoke.

    The channels are smoke, velocity_x and velocity_y (these at lower faces: those at the walls of the box are zero, and
    those at its upper ends, zero as well, are left out).

    Raises:
        ValueError: if an axis has no walls, a number is not what it has to be, or diffusion would be unstable.

    Source: the set-up of PDEArena, arXiv:2209.15616, app. B.1 (viscosity 0.01, buoyancy 0.5, box of 32, steps of 1.5,
        frames 6 apart); J. Stam, Stable Fluids, SIGGRAPH 1999; F. H. Harlow and J. E. Welch, Phys. Fluids 8, 2182
        (1965) for the grid.
    """

    at = "faces"
    symmetries = frozenset({"reflection_x"})  # smoke rises along y

    def __init__(self, grid: Grid, dt: float = 1.5, *, viscosity: float = 0.01, buoyancy: float = 0.5) -> None:
        check_positive({"dt": dt})
        if grid.boundaries != ("wall", "wall"):
            raise ValueError(f"got the boundaries {grid.boundaries}; smoke is in a box with two axes, closed by walls")
        for name, value in {"viscosity": viscosity, "buoyancy": buoyancy}.items():
            if not math.isfinite(value) or (name == "viscosity" and value < 0):
                raise ValueError(f"got {name}={value}; it must be a number, and viscosity not negative")
        number = viscosity * dt * sum(spacing**-2 for spacing in grid.spacings)
        if number > 0.5:
            raise ValueError(
                f"explicit diffusion is unstable: viscosity · dt · Σ 1/spacing² is {number:.3g}, at most 0.5; give dt "
                f"<= {dt * 0.5 / number:.3g}, or a coarser grid"
            )
        self.grid, self.dt, self.viscosity, self.buoyancy = grid, dt, viscosity, buoyancy
        self.fields = [
            Field("smoke"),
            Field("velocity_x", "L/T", 0),
            Field("velocity_y", "L/T", 1),
        ]

    def advance(self, state: Tensor) -> Tensor:
        """One step of smoke and velocities at lower faces, (batch, 3, num_x, num_y)."""
        smoke, v_x, v_y = state[:, 0], _with_walls(state[:, 1], 0), _with_walls(state[:, 2], 1)
        advected = look_up(smoke, *self._departures(v_x, v_y, "centers"), outside="edge")
        along_x, along_y = self._departures(v_x, v_y, "faces_x"), self._departures(v_x, v_y, "faces_y")
        new_x = self._diffused(look_up(v_x, *along_x, outside="zero"))
        new_y = self._diffused(look_up(v_y, *along_y, outside="zero"))
        lift = self.dt * self.buoyancy * 0.5 * (advected[:, :, 1:] + advected[:, :, :-1])
        new_y = torch.cat([new_y[:, :, :1], new_y[:, :, 1:-1] + lift, new_y[:, :, -1:]], dim=2)
        new_x, new_y = self.without_divergence(new_x, new_y)
        return torch.stack([advected, new_x[:, :-1], new_y[:, :, :-1]], dim=1)

    def divergence(self, u: Tensor) -> Tensor:
        """∇·v of each cell, (batch, num_x, num_y), of fields (batch, 3, num_x, num_y)."""
        return self._divergence(_with_walls(u[:, 1], 0), _with_walls(u[:, 2], 1))

    def without_divergence(self, v_x: Tensor, v_y: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest velocities at all faces without divergence and through no wall.

        Args:
            v_x: (batch, num_x + 1, num_y).
            v_y: (batch, num_x, num_y + 1).
        """
        v_x, v_y = _closed(v_x, 1), _closed(v_y, 2)
        pressure = solve_closed(self._divergence(v_x, v_y), self.grid)
        d_x, d_y = self.grid.spacings
        v_x = v_x - torch.nn.functional.pad(pressure.diff(dim=1), (0, 0, 1, 1)) / d_x
        return v_x, v_y - torch.nn.functional.pad(pressure.diff(dim=2), (1, 1)) / d_y

    def _divergence(self, v_x: Tensor, v_y: Tensor) -> Tensor:
        d_x, d_y = self.grid.spacings
        return v_x.diff(dim=1) / d_x + v_y.diff(dim=2) / d_y

    def _diffused(self, v: Tensor) -> Tensor:
        """Velocities v + dt ν ∇²v, with v = 0 beyond the box."""
        padded = torch.nn.functional.pad(v, (1, 1, 1, 1))
        d_x, d_y = self.grid.spacings
        along_x = padded[:, 2:, 1:-1] - 2 * v + padded[:, :-2, 1:-1]
        along_y = padded[:, 1:-1, 2:] - 2 * v + padded[:, 1:-1, :-2]
        return v + self.dt * self.viscosity * (along_x / d_x**2 + along_y / d_y**2)

    def _departures(self, v_x: Tensor, v_y: Tensor, where: str) -> tuple[Tensor, Tensor]:
        """Where what arrives at points was a step ago, as places in the array of those points, each (batch, points)."""
        if where == "centers":
            at_x = 0.5 * (v_x[:, 1:] + v_x[:, :-1])
            at_y = 0.5 * (v_y[:, :, 1:] + v_y[:, :, :-1])
        elif where == "faces_x":
            at_x, at_y = v_x, _between(v_y, 1)
        else:
            at_x, at_y = _between(v_x, 2), v_y
        d_x, d_y = self.grid.spacings
        i = torch.arange(at_x.shape[1], dtype=at_x.dtype, device=at_x.device)[:, None]
        j = torch.arange(at_x.shape[2], dtype=at_x.dtype, device=at_x.device)[None, :]
        return i - self.dt / d_x * at_x, j - self.dt / d_y * at_y


def _with_walls(v: Tensor, axis: int) -> Tensor:
    """Append the upper wall, where nothing moves, to velocities at lower faces (batch, num_x, num_y)."""
    return torch.nn.functional.pad(v, (0, 0, 0, 1) if axis == 0 else (0, 1))


def _closed(v: Tensor, dim: int) -> Tensor:
    """Set what is at the walls to zero."""
    inside = v.narrow(dim, 1, v.shape[dim] - 2)
    return torch.nn.functional.pad(inside, (0, 0, 1, 1) if dim == 1 else (1, 1))


def _between(v: Tensor, dim: int) -> Tensor:
    """Velocities at faces across one axis at the faces across the other, whose positions lie between four of them.

    `dim` is the axis, of the result's faces; beyond the box velocities are zero.
    """
    other = 3 - dim
    along = 0.5 * (v.narrow(other, 1, v.shape[other] - 1) + v.narrow(other, 0, v.shape[other] - 1))
    padded = torch.nn.functional.pad(along, (0, 0, 1, 1) if dim == 1 else (1, 1))
    return 0.5 * (padded.narrow(dim, 1, padded.shape[dim] - 1) + padded.narrow(dim, 0, padded.shape[dim] - 1))


def smooth_noise(grid: Grid, batch: int, generator: torch.Generator, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """Smoke to start from: |g|, g noise of mean zero and variance one whose waves weigh (|m| 11/32)^(−12), m ≠ 0.

    Almost nothing but the longest waves are left. Returns (batch, num_x, num_y).

    Source: the initial fields of PDEArena, arXiv:2209.15616 (PhiFlow's Noise of smoothness 6 and scale 11).
    """
    num_x, num_y = grid.shape
    m_x = torch.fft.fftfreq(num_x, 1 / num_x, dtype=torch.float64)[:, None]
    m_y = torch.fft.fftfreq(num_y, 1 / num_y, dtype=torch.float64)[None, :]
    squared = m_x**2 + m_y**2
    squared[0, 0] = math.inf
    weights = (squared * (11 / 32) ** 2) ** -6.0
    parts = torch.randn(2, batch, num_x, num_y, generator=generator, dtype=torch.float64)
    noise = torch.fft.ifft2(torch.complex(parts[0], parts[1]) * weights).real
    noise = noise / noise.std(dim=(1, 2), keepdim=True, correction=0)
    return noise.abs().to(dtype)


def smoke_at_rest(grid: Grid, batch: int, generator: torch.Generator, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """Fields to start from, (batch, 3, num_x, num_y): `smooth_noise` and no motion."""
    smoke = smooth_noise(grid, batch, generator, dtype=dtype)
    return torch.stack([smoke, torch.zeros_like(smoke), torch.zeros_like(smoke)], dim=1)
