"""Wavenumbers of periodic boxes, and what is done with them: derivatives, projections, dealiasing."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from sciml.pde.grid import Grid


class Waves(NamedTuple):
    """Wavenumbers of a periodic plane, in the layout of `torch.fft.rfft2`; all (num_x, num_y // 2 + 1).

    Attributes:
        k_x: wavenumber along x; zero where it stands for waves both ways, which have no derivative.
        k_y: wavenumber along y, likewise.
        squared: |k|², with all waves.
        inverse: 1 / |k|², zero for the mean.
        kept: 1 for waves that a quadratic term may have without aliasing, else 0 (two thirds along each axis).
    """

    k_x: Tensor
    k_y: Tensor
    squared: Tensor
    inverse: Tensor
    kept: Tensor


@lru_cache(maxsize=32)
def waves(grid: Grid, dtype: torch.dtype, device: torch.device) -> Waves:
    """Of a grid whose axes are all periodic.

    Raises:
        ValueError: if one is not.
    """
    if not grid.periodic or len(grid.shape) != 2:
        raise ValueError(f"got {grid}; spectral solvers need two periodic axes")
    (num_x, num_y), (length_x, length_y) = grid.shape, grid.lengths
    n_x = torch.fft.fftfreq(num_x, 1 / num_x, dtype=torch.float64)[:, None]
    n_y = torch.arange(num_y // 2 + 1, dtype=torch.float64)[None, :]
    k_x, k_y = n_x * (2 * math.pi / length_x), n_y * (2 * math.pi / length_y)
    squared = k_x**2 + k_y**2
    inverse = torch.where(squared > 0, 1 / squared.clamp_min(torch.finfo(torch.float64).tiny), 0)
    kept = ((n_x.abs() < num_x / 3) & (n_y < num_y / 3)).double()
    both_ways_x, both_ways_y = n_x.abs() * 2 == num_x, n_y * 2 == num_y
    parts = (
        torch.where(both_ways_x, 0, k_x).expand_as(squared),
        torch.where(both_ways_y, 0, k_y).expand_as(squared),
        squared,
        inverse,
        kept,
    )
    return Waves(*(part.to(device, dtype).contiguous() for part in parts))


def to_waves(u: Tensor) -> Tensor:
    """Fourier coefficients of real fields (..., num_x, num_y)."""
    return torch.fft.rfft2(u)


def to_points(coefficients: Tensor, grid: Grid) -> Tensor:
    """Real fields (..., num_x, num_y) of their coefficients."""
    return torch.fft.irfft2(coefficients, s=grid.shape)


def curl(v: Tensor, k: Waves) -> Tensor:
    """Coefficients of ∂_x v_y − ∂_y v_x, (batch, waves), of those of v, (batch, 2, waves)."""
    return 1j * (k.k_x * v[:, 1] - k.k_y * v[:, 0])


def integrating_factor_step(
    state: Tensor, change: Callable[[Tensor], Tensor], *, first: Tensor, second: Tensor, dt: float
) -> Tensor:
    """One step of dc/dt = λ(t) c + N(c) by the classical Runge-Kutta scheme of fourth order for e^(−∫λ) c.

    It is exact where N vanishes, and as stable as the scheme is for N alone.

    Args:
        state: c.
        change: N.
        first: exp(∫λ) over the first half of the step; it broadcasts with c.
        second: the same over the second half.
        dt: the step.

    Source: L. N. Trefethen, Spectral Methods in MATLAB (2000), ch. 10.
    """
    a = change(state)
    b = change(first * (state + 0.5 * dt * a))
    c = change(first * state + 0.5 * dt * b)
    d = change(second * (first * state + dt * c))
    return second * (first * (state + dt / 6 * a) + dt / 3 * (b + c)) + dt / 6 * d
