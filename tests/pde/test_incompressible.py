import itertools
import math

import pytest
import torch

from sciml.pde.grid import Grid
from sciml.pde.incompressible import IncompressibleNavierStokes, KolmogorovForcing
from sciml.pde.spectral import to_points, to_waves, waves
from sciml.pde.stepper import UnstableError
from sciml.testing import check_stepper

GRID = Grid.square(32, 2 * math.pi)


def taylor_green(time, *, viscosity, mean=(0.0, 0.0)):
    """G. I. Taylor and A. E. Green, Proc. R. Soc. A 158, 499 (1937), in a plane, seen from a moving frame."""
    x, y = GRID.nodes()
    x, y = x - mean[0] * time, y - mean[1] * time
    decay = math.exp(-2 * viscosity * time)
    return torch.stack(
        [mean[0] + decay * x.sin() * y.cos(), mean[1] - decay * x.cos() * y.sin()]
    )[None]  # fmt: skip


def random_flow(num_x=48, batch=1, seed=0):
    """Smooth velocities of rms one without divergence, (batch, 2, num_x, num_x)."""
    grid = Grid.square(num_x, 2 * math.pi)
    k = waves(grid, torch.float64, torch.device("cpu"))
    noise = torch.randn(batch, num_x, num_x, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    stream = to_waves(noise) * (-k.squared / 15).exp() * k.inverse
    v = to_points(torch.stack([1j * k.k_y * stream, -1j * k.k_x * stream], dim=1), grid)
    return grid, v / v.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()


@pytest.mark.parametrize("mean", [(0.0, 0.0), (1.0, 0.5)])
def test_taylor_green_vortices_decay_and_drift_exactly(mean):
    solver = IncompressibleNavierStokes(GRID, 0.05, viscosity=0.01)
    after = solver.run(taylor_green(0.0, viscosity=0.01, mean=mean), 100, every=100)[0, -1]
    exact = taylor_green(5.0, viscosity=0.01, mean=mean)[0]
    assert (after - exact).norm() / exact.norm() < 1e-13


def test_the_mean_flow_slows_down_by_drag():
    """v → v e^(−μt), so that vortices drift by U (1 − e^(−μt)) / μ."""
    mu, time = 0.3, 2.0
    solver = IncompressibleNavierStokes(GRID, 0.05, viscosity=0.01, drag=mu)
    after = solver.run(taylor_green(0.0, viscosity=0.01, mean=(1.0, 0.5)), 40, every=40)[0, -1]
    slowed = (1 - math.exp(-mu * time)) / mu / time
    exact = taylor_green(time, viscosity=0.01, mean=(slowed, 0.5 * slowed))[0]
    mean = torch.tensor([1.0, 0.5], dtype=torch.float64)[:, None, None]
    exact = (exact + mean * (1 - slowed)) * math.exp(-mu * time)
    assert (after - exact).abs().max() < 1e-13


def test_order_four():
    grid, v = random_flow()
    ends = [IncompressibleNavierStokes(grid, 1 / n, viscosity=1e-3).run(v, n, every=n)[:, -1] for n in (40, 80, 160)]
    first, second = ((a - b).norm() for a, b in itertools.pairwise(ends))
    assert abs(math.log2(first / second) - 4) < 0.1


def test_without_viscosity_energy_and_enstrophy_stay():
    grid, v = random_flow()
    solver = IncompressibleNavierStokes(grid, 0.005, viscosity=0.0)
    v = solver(v)  # without the waves that would alias
    after = solver.run(v, 200, every=200)[:, -1]
    assert abs(after.square().sum() / v.square().sum() - 1) < 1e-8
    enstrophies = [to_points(solver.encode(u)[:, 0], grid).square().sum() for u in (v, after)]
    assert abs(enstrophies[1] / enstrophies[0] - 1) < 1e-6


def test_laminar_kolmogorov_flow_is_steady():
    """v_x = F sin(k y) / (ν k²)."""
    solver = IncompressibleNavierStokes(GRID, 0.01, viscosity=0.1, forcing=KolmogorovForcing(0.1, 2))
    _, y = GRID.nodes()
    flow = torch.stack([0.1 / (0.1 * 4) * torch.sin(2 * y), torch.zeros_like(y)])[None]
    assert (solver.run(flow, 100, every=100)[:, -1] - flow).abs().max() < 1e-10
    # At rest it starts as F t sin(k y), to first order.
    started = solver.run(torch.zeros_like(flow), 1)[0, -1, 0]
    assert (started - 0.1 * 0.01 * torch.sin(2 * y)).abs().max() < 1e-4 * 0.1


def test_a_scalar_is_carried_and_spreads():
    """With a uniform velocity: s = sin(x − U t) e^(−κ t)."""
    solver = IncompressibleNavierStokes(GRID, 0.1, viscosity=0.01, scalar_diffusivity=0.05)
    x, _ = GRID.nodes()
    u = torch.stack([torch.full_like(x, 0.7), torch.zeros_like(x), 2 + torch.sin(x)])[None]
    after = solver.run(u, 20, every=20)[0, -1, 2]
    assert (after - 2 - math.exp(-0.1) * torch.sin(x - 1.4)).abs().max() < 1e-13
    grid, v = random_flow()
    u = torch.cat([v, torch.rand(1, 1, 48, 48, dtype=torch.float64)], dim=1)
    after = IncompressibleNavierStokes(grid, 0.01, viscosity=0.01, scalar_diffusivity=0.01).run(u, 20, every=20)
    assert abs(after[0, -1, 2].mean() - u[0, 2].mean()) < 1e-14


def test_laws():
    grid, v = random_flow(24, batch=2)
    u = torch.cat([v, v[:, :1]], dim=1)
    check_stepper(IncompressibleNavierStokes(grid, 0.01, viscosity=0.01, scalar_diffusivity=0.01), u)
    check_stepper(IncompressibleNavierStokes(grid, 0.01, viscosity=0.01, forcing=KolmogorovForcing(1.0, 2)), v)


def test_bad_input_says_what_to_do():
    grid, v = random_flow(24)
    with pytest.raises(ValueError, match="need two periodic axes"):
        IncompressibleNavierStokes(Grid.square(24, 1.0, "wall"), 0.1, viscosity=0.1)
    with pytest.raises(ValueError, match="viscosity=-1"):
        IncompressibleNavierStokes(grid, 0.1, viscosity=-1)
    with pytest.raises(ValueError, match=r"expected \(batch, 2, 24, 24\) with the channels velocity_x, velocity_y"):
        IncompressibleNavierStokes(grid, 0.1, viscosity=0.1)(v[:, :1])
    with pytest.raises(ValueError, match=r"expected float32 or float64"):
        IncompressibleNavierStokes(grid, 0.1, viscosity=0.1)(v.half())
    with pytest.raises(UnstableError, match="give a smaller dt"):
        IncompressibleNavierStokes(grid, 1.0, viscosity=0.1).run(v, 1)
    with pytest.raises(UnstableError, match="no numbers after step 1"):
        IncompressibleNavierStokes(grid, 0.01, viscosity=0.1).run(v * torch.nan, 1)
    for arguments, message in (
        (((3, 8), (1.0, 1.0)), "at least 4"),
        (((8, 8), (1.0, -1.0)), "must be positive"),
        (((8, 8), (1.0,)), "as many of each"),
        (((8, 8), (1.0, 1.0), ("periodic", "open")), "available: periodic, wall"),
    ):
        with pytest.raises(ValueError, match=message):
            Grid(*arguments)
