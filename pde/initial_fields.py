"""Random fields to start compressible and rotating shallow flow from."""

import math

import torch
from torch import Tensor

from sciml.pde.grid import Grid
from sciml.pde.spectral import to_points, waves

# Perturbations of density and pressure stay above this part of the mean.
_LEAST = 0.1


def random_gas(
    grid: Grid,
    batch: int,
    generator: torch.Generator,
    *,
    gamma: float = 5 / 3,
    mach: float = 0.1,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Gas of random density and temperature, stirred by long waves, (batch, 4, num_x, num_y).

    Density ρ₀ and temperature T₀ are uniform in (0.1, 10), pressure is ρ₀ T₀. All four fields get waves
    Σ |m|^(−1/2) sin(2π m·x / L + φ), 1 <= |m_x|, |m_y| <= 4, with random φ: those of the velocity have the mean speed
    mach · √(γ T₀), those of density and pressure a mean size of 0.01 to 0.2 of ρ₀ and ρ₀ T₀ (and leave a tenth of them
    at least). In one of two samples waves are inside a random rectangle only, with edges of 0.01 L.

    Args:
        grid: periodic; values are at the centres of cells.
        batch: number of samples.
        generator: on the CPU.
        gamma: γ, ratio of specific heats.
        mach: mean speed in units of the speed of sound at rest.
        dtype: of the fields.

    The channels are density, pressure, velocity_x, velocity_y.

    Source: M. Takamoto et al., PDEBench, arXiv:2210.07182, app. D.5, with the constants of arXiv:2403.19507.
    """
    x, y = [value / length for value, length in zip(grid.centers(), grid.lengths, strict=True)]  # in (0, 1)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(batch, *shape, generator=generator, dtype=torch.float64)

    density, temperature = uniform(0.1, 10)[:, None, None], uniform(0.1, 10)[:, None, None]
    numbers = [(m_x, m_y) for m_x in range(-4, 5) for m_y in range(-4, 5) if m_x * m_y]
    phases = uniform(0, 2 * math.pi, 4, len(numbers))
    sums = torch.zeros(batch, 4, *grid.shape, dtype=torch.float64)
    for number, (m_x, m_y) in enumerate(numbers):
        phase = 2 * math.pi * (m_x * x + m_y * y) + phases[:, :, number, None, None]
        sums += math.hypot(m_x, m_y) ** -0.5 * torch.sin(phase)
    speed = sums[:, 2:].norm(dim=1).mean(dim=(1, 2))[:, None, None, None]
    velocity = sums[:, 2:] / speed * (mach * (gamma * temperature).sqrt())[:, None]
    relative = sums[:, :2] / sums[:, :2].abs().mean(dim=(2, 3), keepdim=True) * uniform(0.01, 0.2, 2)[..., None, None]
    inside = _rectangles(x, y, uniform(0.1, 0.45, 2), uniform(0.55, 0.9, 2))
    window = torch.where(uniform(0, 1)[:, None, None] < 0.5, inside, 1)[:, None]
    relative = (1 + window * relative).clamp_min(_LEAST)
    means = torch.stack([density, density * temperature], dim=1)
    return torch.cat([means * relative, window * velocity], dim=1).to(dtype)


def _rectangles(x: Tensor, y: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """1 between `low` and `high` (batch, 2) along both axes, 0 outside, with smooth edges, (batch, num_x, num_y)."""
    result = torch.ones(len(low), *x.shape, dtype=x.dtype)
    for axis, coordinate in enumerate((x, y)):
        start, end = low[:, axis, None, None], high[:, axis, None, None]
        result = result * 0.5 * (torch.tanh((coordinate - start) / 0.01) - torch.tanh((coordinate - end) / 0.01))
    return result


def random_winds(
    grid: Grid,
    batch: int,
    generator: torch.Generator,
    *,
    gravity: float = 9.81,
    coriolis: float = 1e-4,
    depth: float = 1000.0,
    speed: float = 20.0,
    imbalance: float = 0.2,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Shallow water whose long waves are almost in geostrophic balance, (batch, 3, num_x, num_y).

    v = e_z × ∇ψ and h = H + f ψ / g, plus, for gravity waves to run, a second random height of `imbalance` times the
    first's size. The waves of ψ, |m| <= 5, are Gaussian with weights |m|⁻¹, so that all have the same part of
    the wind; its speed √(mean v²) is `speed`.

    Args:
        grid: periodic; values are at its nodes.
        batch: number of samples.
        generator: on the CPU.
        gravity: g.
        coriolis: f, not zero.
        depth: H, the mean height.
        speed: of the wind.
        imbalance: size of the unbalanced height over that of the balanced one.
        dtype: of the fields.

    The channels are height, velocity_x, velocity_y.

    Source: random waves in place of PDEArena's jets (arXiv:2209.15616, app. B.2), whose noise at single latitudes no
        grid resolves; G. K. Vallis, Atmospheric and Oceanic Fluid Dynamics (2017), sec. 3.3 for the balance.

    Raises:
        ValueError: if the height would reach the ground, or without rotation, when nothing balances the heights.
    """
    if coriolis == 0:
        raise ValueError("got coriolis=0; winds in balance with heights need rotation")
    k = waves(grid, torch.float64, torch.device("cpu"))
    unit = max(2 * math.pi / length for length in grid.lengths)
    weights = torch.where((k.squared > 0) & (k.squared <= (5.01 * unit) ** 2), k.inverse.sqrt() * unit, 0)
    white = torch.randn(2, batch, *grid.shape, generator=generator, dtype=torch.float64)
    smooth = torch.fft.rfft2(white) * weights
    stream, other = smooth[0], smooth[1]
    v = torch.stack([to_points(-1j * k.k_y * stream, grid), to_points(1j * k.k_x * stream, grid)], dim=1)
    scale = speed / v.square().sum(dim=1).mean(dim=(1, 2)).sqrt()[:, None, None]
    balanced = coriolis / gravity * scale * to_points(stream, grid)
    waving = to_points(other, grid)
    sizes = [part.square().mean(dim=(1, 2), keepdim=True).sqrt() for part in (balanced, waving)]
    height = depth + balanced + imbalance * sizes[0] / sizes[1] * waving
    if not bool((height > 0).all()):
        raise ValueError(
            f"got speed={speed} and depth={depth}: the height would reach {float(height.min()):.3g}; give slower "
            "winds, deeper water or a smaller box"
        )
    return torch.cat([height[:, None], scale[:, None] * v], dim=1).to(dtype)
