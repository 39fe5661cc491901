"""Compressible flow of an ideal gas by finite volumes."""

import torch
from torch import Tensor

from sciml.messages import check_not_negative, check_positive
from sciml.pde.finite_volumes import FiniteVolumes, with_ends, with_slopes
from sciml.pde.grid import Grid
from sciml.pde.riemann import hllc
from sciml.pde.stepper import Field, symmetries_of


class CompressibleNavierStokes(FiniteVolumes):
    """∂ρ/∂t + ∇·(ρv) = 0,   ∂(ρv)/∂t + ∇·(ρ v v + p) = ∇·τ,   ∂E/∂t + ∇·((E + p) v) = ∇·(τ·v + κ ∇T)

    with E = p/(γ−1) + ½ρv², T = p/ρ, τ = η (∇v + ∇vᵀ) + (ζ − ⅔η) (∇·v), κ = η γ / ((γ−1) Pr).

    Averages over cells; linear functions inside cells with limited slopes of density, pressure and velocity (MUSCL),
    the flux `hllc` between them, central differences for τ and ∇T at faces, and Heun's scheme, a mean of explicit
    steps. A frame takes as many steps as its Courant number wants, each sample as long ones as its own fields allow.
    Where a step would leave a density or a pressure below zero, that sample repeats it without slopes, which keeps both
    positive: no trajectory is lost.

    Args:
        grid: of cells; walls are impermeable, free of friction and insulating.
        dt: time of a frame.
        gamma: γ, ratio of specific heats.
        shear_viscosity: η, dynamic.
        bulk_viscosity: ζ.
        prandtl: Pr.
        limiter: a key of `sciml.pde.limiters.LIMITERS`.
        courant: largest Σ_axes (|v| + c) dt / spacing of a step, at most 0.5 for positivity.

    The channels are density, pressure, velocity_x, velocity_y.

    Source: E. F. Toro, Riemann Solvers and Numerical Methods for Fluid Dynamics (2009), ch. 10, 13 and 14; C.-W. Shu
        and S. Osher, J. Comput. Phys. 77, 439 (1988) for Heun's scheme.

    Raises:
        ValueError: for numbers that are not positive where they must be, or an unknown limiter.
    """

    def __init__(
        self,
        grid: Grid,
        dt: float,
        *,
        gamma: float = 5 / 3,
        shear_viscosity: float = 0.0,
        bulk_viscosity: float = 0.0,
        prandtl: float = 0.7,
        limiter: str = "monotonised_central",
        courant: float = 0.4,
    ) -> None:
        super().__init__(grid, dt, limiter=limiter, courant=courant, positive="densities and pressures")
        check_positive({"prandtl": prandtl})
        if not gamma > 1:
            raise ValueError(f"got gamma={gamma}; it must be above 1")
        check_not_negative({"shear_viscosity": shear_viscosity, "bulk_viscosity": bulk_viscosity})
        self.gamma = gamma
        self.shear_viscosity, self.bulk_viscosity = shear_viscosity, bulk_viscosity
        self.conductivity = shear_viscosity * gamma / ((gamma - 1) * prandtl)
        self.symmetries = symmetries_of(grid)
        self.fields = [
            Field("density", "M/L²"),
            Field("pressure", "M/T²"),
            Field("velocity_x", "L/T", 0),
            Field("velocity_y", "L/T", 1),
        ]

    def check(self, u: Tensor) -> None:
        """Raise a ValueError if u does not fit, or has densities or pressures that are not positive."""
        super().check(u)
        if not bool((u[:, :2] > 0).all()):
            raise ValueError("got densities or pressures that are not positive, or no numbers; expected the channels "
                             "density, pressure, velocity_x, velocity_y")  # fmt: skip

    def encode(self, u: Tensor) -> Tensor:
        """Density, momenta and energy, (batch, 4, *grid)."""
        rho, p, v_x, v_y = u.unbind(1)
        energy = p / (self.gamma - 1) + 0.5 * rho * (v_x**2 + v_y**2)
        return torch.stack([rho, rho * v_x, rho * v_y, energy], dim=1)

    def decode(self, state: Tensor) -> Tensor:
        """Density, pressure and velocities."""
        rho, m_x, m_y, energy = state.unbind(1)
        v_x, v_y = m_x / rho, m_y / rho
        p = (self.gamma - 1) * (energy - 0.5 * rho * (v_x**2 + v_y**2))
        return torch.stack([rho, p, v_x, v_y], dim=1)

    def allowed_steps(self, u: Tensor) -> Tensor:
        """Longest step of each sample, (batch,), by waves and by viscosity."""
        rho, p, v_x, v_y = u.unbind(1)
        sound = (self.gamma * p / rho).sqrt()
        d_x, d_y = self.grid.spacings
        waves = ((v_x.abs() + sound) / d_x + (v_y.abs() + sound) / d_y).amax(dim=(1, 2))
        spread = max(4 / 3 * self.shear_viscosity + self.bulk_viscosity, self.conductivity * (self.gamma - 1))
        diffusion = spread / rho.amin(dim=(1, 2)) * 2 * (d_x**-2 + d_y**-2)
        return 1 / (waves / self.courant + diffusion / 0.5)

    def explicit_step(self, state: Tensor, dt: Tensor) -> Tensor:
        """One explicit step; without slopes for samples whose densities or pressures would not stay positive."""
        new = state - dt * self._divergence(state, self.limiter)
        bad = ~self._positive(new)
        if bool(bad.any()):
            without = state - dt * self._divergence(state, "first_order")
            new = torch.where(bad[:, None, None, None], without, new)
        return new

    def _positive(self, state: Tensor) -> Tensor:
        return (self.decode(state)[:, :2] > 0).flatten(1).all(dim=1)

    def _divergence(self, state: Tensor, limiter: str) -> Tensor:
        """∇· of all fluxes, (batch, 4, *grid)."""
        u = self.decode(state)
        total = torch.zeros_like(state)
        for axis in (0, 1):
            flux = self._inviscid(u, axis, limiter)
            if self.shear_viscosity or self.bulk_viscosity:
                flux = flux - self._viscous(u, axis)
            total = total + flux.diff(dim=2 + axis) / self.grid.spacings[axis]
        return total

    def _inviscid(self, u: Tensor, axis: int, limiter: str) -> Tensor:
        """Fluxes through all faces across an axis, (batch, 4, faces ...)."""
        dim = 2 + axis
        cells, slope = with_slopes(self._with_ends(u, axis, 2), dim, limiter)
        count = cells.shape[dim]
        half = 0.5 * slope
        # Slopes that reach below zero at a face are flattened.
        reach = (half[:, :2].abs() / cells[:, :2]).amax(dim=1, keepdim=True)
        half = half * (0.9 / reach.clamp_min(0.9))
        left, right = (cells + half).narrow(dim, 0, count - 1), (cells - half).narrow(dim, 1, count - 1)
        order = (0, 1, 2, 3) if axis == 0 else (0, 1, 3, 2)
        flux = hllc(left[:, order].transpose(0, 1), right[:, order].transpose(0, 1), self.gamma).transpose(0, 1)
        return flux if axis == 0 else flux[:, (0, 2, 1, 3)]

    def _viscous(self, u: Tensor, axis: int) -> Tensor:
        """τ and τ·v + κ ∇T through all faces across an axis."""
        dim, other = 2 + axis, 3 - axis
        spacings = self.grid.spacings
        padded = self._with_ends(self._with_ends(u, axis, 1), 1 - axis, 1)
        inside = padded.narrow(other, 1, u.shape[other])
        across = inside.diff(dim=dim) / spacings[axis]  # derivatives across the faces
        sides = (padded.narrow(other, 2, u.shape[other]) - padded.narrow(other, 0, u.shape[other])) / (
            2 * spacings[1 - axis]
        )
        count = sides.shape[dim] - 1
        along = 0.5 * (sides.narrow(dim, 0, count) + sides.narrow(dim, 1, count))
        at_face = 0.5 * (inside.narrow(dim, 0, count) + inside.narrow(dim, 1, count))
        normal, tangent = 2 + axis, 3 - axis
        divergence = across[:, normal] + along[:, tangent]
        bulk = (self.bulk_viscosity - 2 / 3 * self.shear_viscosity) * divergence
        tau_normal = 2 * self.shear_viscosity * across[:, normal] + bulk
        tau_tangent = self.shear_viscosity * (across[:, tangent] + along[:, normal])
        temperature = inside[:, 1] / inside[:, 0]
        heat = self.conductivity * temperature.diff(dim=dim - 1) / spacings[axis]
        work = tau_normal * at_face[:, normal] + tau_tangent * at_face[:, tangent]
        momenta = [tau_normal, tau_tangent] if axis == 0 else [tau_tangent, tau_normal]
        return torch.stack([torch.zeros_like(work), *momenta, work + heat], dim=1)

    def _with_ends(self, u: Tensor, axis: int, width: int) -> Tensor:
        return with_ends(u, self.grid, axis, width, odd=(2 + axis,))
