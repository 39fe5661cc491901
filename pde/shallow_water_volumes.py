"""Shallow water over topography by finite volumes that keep a lake at rest, and wet and dry their ground."""

import torch
from torch import Tensor

from sciml.messages import check_positive
from sciml.pde.finite_volumes import FiniteVolumes, with_ends, with_slopes
from sciml.pde.grid import Grid
from sciml.pde.stepper import Field, symmetries_of


class ShallowWaterVolumes(FiniteVolumes):
    """∂h/∂t + ∇·(h v) = 0,   ∂(h v)/∂t + ∇·(h v v) + ∇(½ g h²) = −g h ∇b − f e_z × (h v)

    over the ground b. Averages over cells; limited linear functions of the surface h + b, of h and of v inside cells;
    at each face both sides stand on the higher ground (hydrostatic reconstruction), and the flux between them is that
    of two waves (HLL). A lake at rest, h + b uniform and v = 0, stays so exactly, dry ground too; heights never fall
    below zero. Heun's scheme, in as many steps as the Courant number wants, for each sample its own.

    Args:
        grid: of cells; walls are impermeable and free of friction.
        dt: time of a frame.
        ground: b at the centres of cells, grid.shape; None for a flat one.
        gravity: g.
        coriolis: f, 1 / time.
        limiter: a key of `sciml.pde.limiters.LIMITERS`.
        courant: largest Σ_axes (|v| + √(g h)) dt / spacing, at most 0.5 for positivity.

    The channels are height (of the water), velocity_x, velocity_y. Dry cells, h below 1e-10 of the largest height, have
    no velocity.

    Source: E. Audusse et al., SIAM J. Sci. Comput. 25, 2050 (2004), sec. 4; A. Harten, P. D. Lax and B. van Leer, SIAM
        Rev. 25, 35 (1983).

    Raises:
        ValueError: for numbers that are not positive where they must be, an unknown limiter, or ground of another
        shape.
    """

    def __init__(
        self,
        grid: Grid,
        dt: float,
        *,
        ground: Tensor | None = None,
        gravity: float = 1.0,
        coriolis: float = 0.0,
        limiter: str = "monotonised_central",
        courant: float = 0.4,
    ) -> None:
        super().__init__(grid, dt, limiter=limiter, courant=courant, positive="heights")
        check_positive({"gravity": gravity})
        if ground is not None and tuple(ground.shape) != grid.shape:
            raise ValueError(f"got ground of shape {tuple(ground.shape)}; expected that of the grid, {grid.shape}")
        self.gravity, self.coriolis = gravity, coriolis
        self.ground = torch.zeros(grid.shape, dtype=torch.float64) if ground is None else ground
        if ground is None:
            self.symmetries = symmetries_of(grid, turning=bool(coriolis))
        self.fields = [Field("height", "L"), Field("velocity_x", "L/T", 0), Field("velocity_y", "L/T", 1)]

    def check(self, u: Tensor) -> None:
        """Raise a ValueError if u does not fit, or has heights below zero."""
        super().check(u)
        if not bool((u[:, 0] >= 0).all()):
            raise ValueError(
                "got heights below zero, or no numbers; expected the channels height (of the water, not of its "
                "surface), velocity_x, velocity_y"
            )

    def encode(self, u: Tensor) -> Tensor:
        """Height and its products with the velocities."""
        return torch.cat([u[:, :1], u[:, :1] * u[:, 1:]], dim=1)

    def decode(self, state: Tensor) -> Tensor:
        """Height and velocities."""
        h = state[:, :1]
        wet = h > 1e-10 * h.amax(dim=(1, 2, 3), keepdim=True)
        return torch.cat([h, torch.where(wet, state[:, 1:] / torch.where(wet, h, 1), 0)], dim=1)

    def allowed_steps(self, u: Tensor) -> Tensor:
        """Longest step of each sample, (batch,)."""
        wave = (self.gravity * u[:, 0]).sqrt()
        d_x, d_y = self.grid.spacings
        rate = ((u[:, 1].abs() + wave) / d_x + (u[:, 2].abs() + wave) / d_y).amax(dim=(1, 2))
        return self.courant / rate.clamp_min(torch.finfo(u.dtype).tiny)

    def explicit_step(self, state: Tensor, dt: Tensor) -> Tensor:
        """Fluxes and ground, then the turn of the plane."""
        return self._turned(state + dt * self._change(state), dt)

    def _turned(self, state: Tensor, dt: Tensor) -> Tensor:
        """Momenta turned by −f dt, which is exact for the Coriolis force alone."""
        if not self.coriolis:
            return state
        angle = self.coriolis * dt[:, 0]
        cos, sin = torch.cos(angle), torch.sin(angle)
        h, m_x, m_y = state.unbind(1)
        return torch.stack([h, cos * m_x + sin * m_y, cos * m_y - sin * m_x], dim=1)

    def _change(self, state: Tensor) -> Tensor:
        """−∇· of the fluxes and the push of the ground, (batch, 3, *grid)."""
        u = self.decode(state)
        ground = self.ground.to(u)[None, None].expand(len(u), -1, -1, -1)
        total = torch.zeros_like(state)
        for axis in (0, 1):
            total = total + self._along(u, ground, axis)
        return total

    def _along(self, u: Tensor, ground: Tensor, axis: int) -> Tensor:
        dim = 2 + axis
        # Height, velocity across, velocity along, surface.
        order = (0, 1, 2) if axis == 0 else (0, 2, 1)
        cells = with_ends(torch.cat([u[:, order], u[:, :1] + ground], dim=1), self.grid, axis, 2, odd=(1,))
        cells, slope = with_slopes(cells, dim, self.limiter)
        count = cells.shape[dim]
        # Heights at both faces stay above zero.
        steepest = 2 * cells[:, :1]
        slope = torch.cat([torch.minimum(torch.maximum(slope[:, :1], -steepest), steepest), slope[:, 1:]], dim=1)
        low, high = cells - 0.5 * slope, cells + 0.5 * slope
        left, right = high.narrow(dim, 0, count - 1), low.narrow(dim, 1, count - 1)
        left_ground, right_ground = left[:, 3] - left[:, 0], right[:, 3] - right[:, 0]
        top = torch.maximum(left_ground, right_ground)
        h_left, h_right = (left[:, 3] - top).clamp_min(0), (right[:, 3] - top).clamp_min(0)
        flux = _hll(h_left, left[:, 1], left[:, 2], h_right, right[:, 1], right[:, 2], self.gravity)
        half_g = 0.5 * self.gravity
        # What the ground below the reconstructed heights takes of the pressure, on either side of a face.
        to_left = _pushed(flux, half_g * (left[:, 0] ** 2 - h_left**2))
        to_right = _pushed(flux, half_g * (right[:, 0] ** 2 - h_right**2))
        inside = count - 2
        inner_low, inner_high = low.narrow(dim, 1, inside), high.narrow(dim, 1, inside)
        ground_step = (inner_high[:, 3] - inner_high[:, 0]) - (inner_low[:, 3] - inner_low[:, 0])
        centred = -half_g * (inner_low[:, 0] + inner_high[:, 0]) * ground_step
        change = to_right.narrow(dim, 0, inside) - to_left.narrow(dim, 1, inside)
        change = _pushed(change, centred) / self.grid.spacings[axis]
        return change if axis == 0 else change[:, (0, 2, 1)]


def _pushed(flux: Tensor, push: Tensor) -> Tensor:
    """Add to the momentum across the faces."""
    return torch.cat([flux[:, :1], flux[:, 1:2] + push[:, None], flux[:, 2:]], dim=1)


def _hll(h_l: Tensor, u_l: Tensor, v_l: Tensor, h_r: Tensor, u_r: Tensor, v_r: Tensor, gravity: float) -> Tensor:
    """Flux of height and momenta across and along a face, (batch, 3, ...)."""
    c_l, c_r = (gravity * h_l).sqrt(), (gravity * h_r).sqrt()
    slowest = torch.minimum(u_l - c_l, u_r - c_r).clamp_max(0)
    fastest = torch.maximum(u_l + c_l, u_r + c_r).clamp_min(0)
    width = fastest - slowest
    still = width <= 0  # dry on both sides
    width = torch.where(still, 1, width)
    q_l, q_r = h_l * u_l, h_r * u_r
    states_l, states_r = (h_l, q_l, h_l * v_l), (h_r, q_r, h_r * v_r)
    fluxes_l = (q_l, q_l * u_l + 0.5 * gravity * h_l**2, q_l * v_l)
    fluxes_r = (q_r, q_r * u_r + 0.5 * gravity * h_r**2, q_r * v_r)
    parts = [
        (fastest * f_l - slowest * f_r + fastest * slowest * (s_r - s_l)) / width
        for s_l, s_r, f_l, f_r in zip(states_l, states_r, fluxes_l, fluxes_r, strict=True)
    ]
    # What moves along the face is carried by the mass that crosses it.
    parts[2] = parts[0] * torch.where(parts[0] > 0, v_l, v_r)
    return torch.where(still[:, None], 0, torch.stack(parts, dim=1))
