import pytest
import torch

from sciml.pde.grid import Grid
from sciml.pde.poisson import solve_closed
from sciml.pde.semi_lagrangian import look_up
from sciml.pde.smoke import BuoyantSmoke, smoke_at_rest, smooth_noise
from sciml.testing import check_stepper

GRID = Grid.square(32, 32.0, "wall")


def frames(num_x, batch, seed=0):
    """Those of PDEArena: every fourth of the steps 9 to 64, (batch, 14, 3, num_x, num_x)."""
    grid = Grid.square(num_x, 32.0, "wall")
    start = smoke_at_rest(grid, batch, torch.Generator().manual_seed(seed), dtype=torch.float32)
    return BuoyantSmoke(grid).run(start, 64)[:, 9:65:4]


def test_poisson_equation_is_solved_to_rounding():
    grid = Grid((12, 17), (1.0, 3.0), ("wall", "wall"))
    p = torch.randn(3, 12, 17, dtype=torch.float64)
    p -= p.mean(dim=(1, 2), keepdim=True)
    padded = torch.nn.functional.pad(p[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    laplacian = sum(
        torch.diff(torch.diff(padded, dim=1 + axis), dim=1 + axis).narrow(2 - axis, 1, p.shape[2 - axis])
        / grid.spacings[axis] ** 2
        for axis in (0, 1)
    )
    torch.testing.assert_close(solve_closed(laplacian, grid), p, rtol=0, atol=1e-12)


def test_there_is_no_divergence_and_no_flow_through_walls():
    solver = BuoyantSmoke(GRID)
    u = solver.run(smoke_at_rest(GRID, 2, torch.Generator().manual_seed(1)), 20, every=20)[:, -1]
    assert u[:, 1:].abs().max() > 0.1
    assert solver.divergence(u).abs().max() < 1e-12
    assert (u[:, 1, 0] == 0).all()
    assert (u[:, 2, :, 0] == 0).all()


def test_uniform_smoke_is_held_by_pressure():
    u = torch.zeros(1, 3, 32, 32, dtype=torch.float64)
    u[:, 0] = 0.8
    after = BuoyantSmoke(GRID).run(u, 20, every=20)[:, -1]
    assert after[:, 1:].abs().max() < 1e-12
    assert (after[:, 0] - 0.8).abs().max() < 1e-14


def test_no_smoke_is_thicker_than_it_was():
    u = smoke_at_rest(GRID, 4, torch.Generator().manual_seed(2))
    after = BuoyantSmoke(GRID).run(u, 30, every=30)[:, -1]
    assert after[:, 0].max() <= u[:, 0].max()
    assert after[:, 0].min() >= u[:, 0].min()


def test_looking_up_is_exact_for_linear_functions():
    x, y = torch.meshgrid(torch.arange(5.0), torch.arange(7.0), indexing="ij")
    values = (2 * x - 3 * y + 1)[None].double()
    at_x, at_y = 4 * torch.rand(1, 50).double(), 6 * torch.rand(1, 50).double()
    torch.testing.assert_close(look_up(values, at_x, at_y, outside="edge"), 2 * at_x - 3 * at_y + 1)
    far = torch.full_like(at_x, 9.0)
    torch.testing.assert_close(look_up(values, far, at_y, outside="edge"), 9 - 3 * at_y)
    assert (look_up(values, far, at_y, outside="zero") == 0).all()


def test_initial_smoke_has_the_longest_waves_only():
    smoke = smooth_noise(GRID, 50, torch.Generator().manual_seed(0))
    assert abs(smoke.square().mean() - 1) < 1e-12
    assert smoke.min() >= 0
    assert smoke.diff(dim=1).abs().max() < 4 * torch.pi / 32 * 2


def test_data_have_the_statistics_of_the_published_ones():
    """At 128² they are 0.717; 0.443, 0.439, 0.509 (code of arXiv:2403.19507), at 64² a little lower."""
    u = frames(64, 24)
    smoke, v_x, v_y = u.unbind(2)
    assert abs(smoke.mean() / 0.72 - 1) < 0.05
    for field, expected in ((smoke, 0.42), (v_x, 0.416), (v_y, 0.477)):
        assert abs(field.std() / expected - 1) < 0.08


def test_laws():
    check_stepper(BuoyantSmoke(GRID), smoke_at_rest(GRID, 2, torch.Generator().manual_seed(3)))


def test_bad_input_says_what_to_do():
    with pytest.raises(ValueError, match="closed by walls"):
        BuoyantSmoke(Grid.square(32, 32.0))
    with pytest.raises(ValueError, match=r"explicit diffusion is unstable.*give dt"):
        BuoyantSmoke(Grid.square(256, 32.0, "wall"))
    with pytest.raises(ValueError, match="buoyancy=nan"):
        BuoyantSmoke(GRID, buoyancy=float("nan"))
