"""Fluxes between two states of an ideal gas."""

import torch
from torch import Tensor


def hllc(left: Tensor, right: Tensor, gamma: float) -> Tensor:
    """Flux of mass, of momentum across and along the face, and of energy, between states beside a face.

    Three waves, the middle one of which carries contacts and shear, with the outer speeds of Einfeldt, for which
    densities and pressures stay positive at Courant numbers up to a half.

    Args:
        left: density, pressure, velocity across and along the face, (4, ...).
        right: likewise.
        gamma: ratio of specific heats.

    Returns:
        (4, ...): mass, momentum across, momentum along, energy.

    Source: E. F. Toro, Riemann Solvers and Numerical Methods for Fluid Dynamics (2009), sec. 10.4; B. Einfeldt et al.,
        J. Comput. Phys. 92, 273 (1991); P. Batten et al., SIAM J. Sci. Comput. 18, 1553 (1997).
    """
    sides = [_side(state, gamma) for state in (left, right)]
    (rho_l, p_l, u_l, _), (rho_r, p_r, u_r, _) = left, right
    energy_l, energy_r = sides[0][1], sides[1][1]
    root_l, root_r = rho_l.sqrt(), rho_r.sqrt()
    share = root_l / (root_l + root_r)
    u_roe = share * u_l + (1 - share) * u_r
    v_roe = share * left[3] + (1 - share) * right[3]
    enthalpy = share * (energy_l + p_l) / rho_l + (1 - share) * (energy_r + p_r) / rho_r
    sound = ((gamma - 1) * (enthalpy - 0.5 * (u_roe**2 + v_roe**2))).clamp_min(0).sqrt()
    slowest = torch.minimum(u_l - (gamma * p_l / rho_l).sqrt(), u_roe - sound)
    fastest = torch.maximum(u_r + (gamma * p_r / rho_r).sqrt(), u_roe + sound)
    mass_l, mass_r = rho_l * (slowest - u_l), rho_r * (fastest - u_r)
    middle = (p_r - p_l + mass_l * u_l - mass_r * u_r) / (mass_l - mass_r)
    of_left = _beside(left, sides[0], slowest, middle)
    of_right = _beside(right, sides[1], fastest, middle)
    flux = torch.where(middle >= 0, of_left, of_right)
    flux = torch.where(slowest >= 0, sides[0][0], flux)
    return torch.where(fastest <= 0, sides[1][0], flux)


def _side(state: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """Flux of a state, (4, ...), and its energy."""
    rho, p, u, v = state
    energy = p / (gamma - 1) + 0.5 * rho * (u**2 + v**2)
    return torch.stack([rho * u, rho * u**2 + p, rho * u * v, (energy + p) * u]), energy


def _beside(state: Tensor, side: tuple[Tensor, Tensor], speed: Tensor, middle: Tensor) -> Tensor:
    """F + S (U* − U) between the wave of `speed` S and the middle one."""
    rho, p, u, v = state
    flux, energy = side
    density = rho * (speed - u) / (speed - middle)
    star = density * torch.stack(
        [
            torch.ones_like(u),
            middle,
            v,
            energy / rho + (middle - u) * (middle + p / (rho * (speed - u))),
        ]
    )
    return flux + speed * (star - torch.stack([rho, rho * u, rho * v, energy]))
