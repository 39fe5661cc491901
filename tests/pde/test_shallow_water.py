import itertools
import math

import pytest
import torch
from scipy.optimize import brentq

from sciml.pde.grid import Grid
from sciml.pde.shallow_water import ShallowWater
from sciml.pde.shallow_water_volumes import ShallowWaterVolumes
from sciml.pde.stepper import UnstableError
from sciml.testing import check_stepper

F, G, H = 1.3, 2.0, 1.5


def eddies(num_x=48, batch=1):
    grid = Grid.square(num_x, 2 * math.pi)
    x, y = grid.nodes()
    u = torch.stack([1 + 0.1 * x.sin() * (2 * y).cos(), 0.2 * (y + 0.3).cos(), 0.2 * (2 * x).sin()])
    return grid, torch.stack([u, u.flip(1)][:batch])


def inertia_gravity_wave(grid, time, amplitude, k=(2, 1)):
    """η = a cos(k·x − ωt) with ω² = f² + g H k²; G. K. Vallis (2017), sec. 3.8."""
    x, y = grid.nodes()
    omega = math.sqrt(F**2 + G * H * (k[0] ** 2 + k[1] ** 2))
    phase, size = k[0] * x + k[1] * y - omega * time, G * amplitude / (omega**2 - F**2)
    return torch.stack(
        [
            H + amplitude * phase.cos(),
            size * (omega * k[0] * phase.cos() - F * k[1] * phase.sin()),
            size * (omega * k[1] * phase.cos() + F * k[0] * phase.sin()),
        ]
    )[None]


def test_inertia_gravity_waves_have_their_frequency():
    grid = Grid.square(16, 2 * math.pi)
    solver = ShallowWater(grid, 0.01, gravity=G, coriolis=F)
    after = solver.run(inertia_gravity_wave(grid, 0.0, 1e-6), 200, every=200)[:, -1]
    assert (after - inertia_gravity_wave(grid, 2.0, 1e-6)).abs().max() < 2e-5 * 1e-6 + 1e-11


def test_a_geostrophic_jet_is_steady():
    """v_x = −(g/f) ∂_y h."""
    grid = Grid.square(16, 2 * math.pi)
    _, y = grid.nodes()
    u = torch.stack([H + 0.1 * (2 * y).cos(), G / F * 0.2 * (2 * y).sin(), 0 * y])[None]
    after = ShallowWater(grid, 0.01, gravity=G, coriolis=F).run(u, 500, every=500)[:, -1]
    assert (after - u).abs().max() < 1e-13


def test_invariants_and_order():
    grid, u = eddies()
    ends = [ShallowWater(grid, 1 / n, coriolis=1.0).run(u, n, every=n)[:, -1] for n in (50, 100, 200)]
    first, second = ((a - b).norm() for a, b in itertools.pairwise(ends))
    assert abs(math.log2(first / second) - 4) < 0.1
    solver = ShallowWater(grid, 1 / 200, coriolis=1.0)
    assert abs(ends[-1][:, 0].mean() - u[:, 0].mean()) < 1e-14
    for of in (solver.energy, solver.potential_enstrophy):
        assert abs(of(ends[-1]) / of(u) - 1) < 1e-9


def bump(grid):
    x, y = grid.centers()
    return 1.2 * torch.exp(-40 * ((x - 0.5) ** 2 + (y - 0.4) ** 2))


@pytest.mark.parametrize("boundary", ["periodic", "wall"])
def test_a_lake_with_an_island_stays_at_rest(boundary):
    grid = Grid.square(24, 1.0, boundary)
    ground = bump(grid)
    h = (1 - ground).clamp_min(0)
    assert (h == 0).any()
    u = torch.stack([h, 0 * h, 0 * h])[None]
    after = ShallowWaterVolumes(grid, 1.0, ground=ground, gravity=9.81)(u)
    assert (after - u).abs().max() < 1e-13


def dam_break(x, time, high, low):
    """J. J. Stoker, Water Waves (1957), and, for low = 0, A. Ritter (1892); gravity one."""
    c = math.sqrt(high)
    fan = (2 * c - x / time) ** 2 / 9
    if low == 0:
        return torch.where(x < -c * time, high, torch.where(x > 2 * c * time, 0.0, fan))
    middle = brentq(
        lambda h: 2 * (c - math.sqrt(h)) - (h - low) * math.sqrt((h + low) / (2 * h * low)), low, high
    )  # fmt: skip
    v = 2 * (c - math.sqrt(middle))
    shock = middle * v / (middle - low)
    behind = torch.where(x < (v - math.sqrt(middle)) * time, fan, middle)
    return torch.where(x < -c * time, high, torch.where(x < shock * time, behind, low))


@pytest.mark.parametrize("low", [0.0, 0.2])
def test_dams_break_as_they_should(low):
    errors = []
    for num_x in (100, 200):
        grid = Grid((num_x, 4), (2.0, 8 / num_x), ("wall", "periodic"))
        x, _ = grid.centers()
        u = torch.stack([torch.where(x < 1, 1.0, low).double(), 0 * x, 0 * x])[None]
        h = ShallowWaterVolumes(grid, 0.25)(u)[0, 0]
        assert h.min() >= 0
        assert abs(h.mean() - u[0, 0].mean()) < 1e-14
        errors.append((h[:, 0] - dam_break(x[:, 0] - 1, 0.25, 1.0, low)).abs().mean())
    assert math.log2(errors[0] / errors[1]) > 0.85


def test_both_solvers_agree_on_smooth_flow():
    grid, u = eddies(64)
    spectral = ShallowWater(grid, 0.005, coriolis=1.0).run(u, 100, every=100)[:, -1]
    # Half a cell between nodes and centres is a shift of the whole picture.
    volumes = ShallowWaterVolumes(grid, 0.5, coriolis=1.0)(u)
    assert (volumes - spectral).abs().max() < 5e-3


def test_laws():
    grid, u = eddies(24, batch=2)
    check_stepper(ShallowWater(grid, 0.01, coriolis=1.0, hyperviscosity=1e-4), u)
    check_stepper(ShallowWater(grid, 0.01), u)
    check_stepper(ShallowWaterVolumes(grid, 0.05), u)
    check_stepper(ShallowWaterVolumes(grid, 0.05, coriolis=1.0), u)


def test_bad_input_says_what_to_do():
    grid, u = eddies(24)
    with pytest.raises(ValueError, match="use ShallowWaterVolumes"):
        ShallowWater(grid, 0.01)(u * 0)
    with pytest.raises(ValueError, match="heights below zero"):
        ShallowWaterVolumes(grid, 0.01)(-u)
    with pytest.raises(ValueError, match="got ground of shape"):
        ShallowWaterVolumes(grid, 0.01, ground=torch.zeros(3, 3))
    with pytest.raises(UnstableError, match="give a smaller dt"):
        ShallowWater(grid, 1.0).run(u, 1)
    with pytest.raises(UnstableError, match="no numbers"):
        ShallowWaterVolumes(grid, 0.01).advance(u * torch.nan)
