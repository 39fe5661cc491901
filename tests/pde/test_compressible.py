import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from sciml.pde.compressible import CompressibleNavierStokes
from sciml.pde.grid import Grid
from sciml.pde.stepper import UnstableError
from sciml.testing import check_stepper

TUBE = ("wall", "periodic")


def shock_tube(x, t, left, right, gamma=1.4):
    """Density at x of the exact solution from a jump at 0; states are (density, pressure, velocity).

    E. F. Toro, Riemann Solvers and Numerical Methods for Fluid Dynamics (2009), ch. 4.
    """

    def speed(p, state):
        rho, p0, _ = state
        c = math.sqrt(gamma * p0 / rho)
        if p > p0:
            return (p - p0) * math.sqrt(2 / (rho * ((gamma + 1) * p + (gamma - 1) * p0)))
        return 2 * c / (gamma - 1) * ((p / p0) ** ((gamma - 1) / (2 * gamma)) - 1)

    p = brentq(lambda p: speed(p, left) + speed(p, right) + right[2] - left[2], 1e-12, 1e4, xtol=1e-14)
    v = 0.5 * (left[2] + right[2] + speed(p, right) - speed(p, left))
    out = np.empty_like(x)
    for state, sign in ((left, -1), (right, 1)):
        rho, p0, v0 = state
        c = math.sqrt(gamma * p0 / rho)
        xi = sign * (x / t)
        inside = xi > sign * v
        if p > p0:
            star = rho * ((gamma + 1) * p + (gamma - 1) * p0) / ((gamma - 1) * p + (gamma + 1) * p0)
            front = sign * v0 + c * math.sqrt((gamma + 1) / (2 * gamma) * p / p0 + (gamma - 1) / (2 * gamma))
            values = np.where(xi < front, star, rho)
        else:
            star = rho * (p / p0) ** (1 / gamma)
            tail, head = sign * v + c * (p / p0) ** ((gamma - 1) / (2 * gamma)), sign * v0 + c
            fan = rho * (2 / (gamma + 1) + (gamma - 1) / ((gamma + 1) * c) * (xi - sign * v0)).clip(1e-12) ** (
                2 / (gamma - 1)
            )
            values = np.where(xi < tail, star, np.where(xi < head, fan, rho))
        out[inside] = values[inside]
    return out


def tube(num_x, left, right, time, **options):
    """Density after `time` and the exact one within 0.5 of the jump, where nothing has come from the ends yet."""
    grid = Grid((2 * num_x, 4), (2.0, 4 / num_x), TUBE)
    x, _ = grid.centers()
    columns = [torch.where(x < 1, l, r).double() for l, r in zip(left, right, strict=True)]
    u = torch.stack([columns[0], columns[1], columns[2], torch.zeros_like(x)])[None]
    after = CompressibleNavierStokes(grid, time, gamma=1.4, **options)(u)
    near = slice(num_x // 2, num_x // 2 + num_x)
    return after[0, 0, near, 0].numpy(), shock_tube(x[near, 0].numpy() - 1, time, left, right)


@pytest.mark.parametrize(
    ("left", "right", "time"),
    [
        ((1.0, 1.0, 0.0), (0.125, 0.1, 0.0), 0.2),  # Sod
        ((0.445, 3.528, 0.698), (0.5, 0.571, 0.0), 0.12),  # Lax
        ((1.0, 0.4, -2.0), (1.0, 0.4, 2.0), 0.15),  # "123": almost a vacuum in the middle
        ((1.0, 1000.0, 0.0), (1.0, 0.01, 0.0), 0.012),  # a strong shock
    ],
    ids=["sod", "lax", "123", "strong"],
)
def test_shock_tubes_converge_to_the_exact_solution(left, right, time):
    errors = []
    for num_x in (100, 200):
        density, exact = tube(num_x, left, right, time)
        errors.append(np.abs(density - exact).mean() / exact.max())
        assert density.min() > 0
    assert errors[1] < 0.02
    assert math.log2(errors[0] / errors[1]) > 0.6


def entropy_wave(grid, time, velocity=(1.0, 0.5)):
    """Cell averages of ρ = 1 + 0.2 sin(2π (x − v_x t) / L_x) at uniform pressure, which is only carried."""
    x, _ = grid.centers()
    k = 2 * math.pi / grid.lengths[0]
    smear = math.sin(k * grid.spacings[0] / 2) / (k * grid.spacings[0] / 2)
    rho = 1 + 0.2 * smear * torch.sin(k * (x - velocity[0] * time))
    ones = torch.ones_like(x)
    return torch.stack([rho, ones, velocity[0] * ones, velocity[1] * ones])[None]


@pytest.mark.parametrize(("limiter", "order"), [("unlimited", 2.0), ("monotonised_central", 1.9), ("van_leer", 1.95)])
def test_order_of_a_wave_that_is_carried(limiter, order):
    errors = []
    for num_x in (64, 128):
        grid = Grid((num_x, 4), (1.0, 4 / num_x))
        after = CompressibleNavierStokes(grid, 0.25, limiter=limiter)(entropy_wave(grid, 0.0))
        errors.append((after - entropy_wave(grid, 0.25))[:, 0].abs().mean())
    assert abs(math.log2(errors[0] / errors[1]) - order) < 0.15


def rough(boundary="periodic", batch=2):
    grid = Grid.square(16, 1.0, boundary)
    u = torch.rand(batch, 4, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.5
    return grid, u


@pytest.mark.parametrize("boundary", ["periodic", "wall"])
def test_mass_and_energy_are_conserved(boundary):
    grid, u = rough(boundary)
    solver = CompressibleNavierStokes(grid, 0.05, shear_viscosity=1e-3, bulk_viscosity=1e-3)
    before = solver.encode(u)
    change = (solver.advance(before) - before).mean(dim=(2, 3)).abs()
    conserved = [0, 1, 2, 3] if boundary == "periodic" else [0, 3]
    assert change[:, conserved].max() < 1e-14


def test_shear_decays_by_viscosity_and_heat_by_conduction():
    eta, time, k = 0.01, 0.2, 2 * math.pi
    for num_y, tolerance in ((16, 2e-2), (32, 5e-3)):
        grid = Grid((4, num_y), (4 / num_y, 1.0))
        _, y = grid.centers()
        ones = torch.ones_like(y)
        u = torch.stack([ones, 100 * ones, 1e-3 * torch.sin(k * y), 0 * y])[None]
        after = CompressibleNavierStokes(grid, time, shear_viscosity=eta)(u)
        rate = -math.log(after[0, 2].abs().max() / u[0, 2].abs().max()) / time
        assert abs(rate / (eta * k**2) - 1) < tolerance


def test_an_acoustic_wave_travels_at_the_speed_of_sound():
    errors = []
    for num_x in (32, 64):
        grid = Grid((num_x, 4), (1.0, 4 / num_x))
        x, _ = grid.centers()
        ones, a, c = torch.ones_like(x), 1e-5, math.sqrt(5 / 3)
        start, end = (a * torch.sin(2 * math.pi * (x - c * t)) for t in (0, 0.5))
        u = torch.stack([1 + start, 1 + 5 / 3 * start, c * start, 0 * ones])[None]
        after = CompressibleNavierStokes(grid, 0.5, limiter="unlimited")(u)
        errors.append(((after[0, 0] - 1 - end).abs().max() / a).item())
    assert errors[1] < 0.02
    assert abs(math.log2(errors[0] / errors[1]) - 2) < 0.15


@pytest.mark.parametrize("boundary", ["periodic", "wall"])
def test_laws(boundary):
    grid, u = rough(boundary)
    check_stepper(CompressibleNavierStokes(grid, 0.02, shear_viscosity=0.01), u)


def test_bad_input_says_what_to_do():
    grid, u = rough()
    with pytest.raises(ValueError, match="are not positive"):
        CompressibleNavierStokes(grid, 0.1)(-u)
    with pytest.raises(ValueError, match="did you mean van_leer"):
        CompressibleNavierStokes(grid, 0.1, limiter="vanleer")
    with pytest.raises(ValueError, match="need not stay positive"):
        CompressibleNavierStokes(grid, 0.1, courant=0.9)
    with pytest.raises(ValueError, match="it must be above 1"):
        CompressibleNavierStokes(grid, 0.1, gamma=1.0)
    with pytest.raises(UnstableError, match="fields are no numbers"):
        CompressibleNavierStokes(grid, 0.1).advance(u * torch.nan)
