import math

import pytest
import torch

from sciml.pde import metrics
from sciml.pde.grid import Grid
from sciml.pde.rollouts import persistence, rollout
from sciml.pde.shallow_water import ShallowWater


def fields(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_errors_of_known_fields():
    true = fields(4, 2, 3, 16, 16) + 1
    torch.testing.assert_close(metrics.scaled_l2(1.1 * true, true), torch.full((4, 2, 3), 0.1).double())
    mean = true.mean(dim=(-2, -1), keepdim=True).expand_as(true)
    torch.testing.assert_close(metrics.vrmse(mean, true), torch.ones(4, 2, 3).double())
    torch.testing.assert_close(metrics.nrmse(1.1 * true, true), torch.full((3,), 0.1).double())
    torch.testing.assert_close(metrics.correlation(3 - 2 * true, true), -torch.ones(4, 2, 3).double())
    with pytest.raises(ValueError, match="expected the same"):
        metrics.vrmse(true, true[:, :1])


@pytest.mark.parametrize("shape", [(16, 16), (15, 12), (8, 9)])
def test_spectra_sum_to_the_mean_square(shape):
    u = fields(3, *shape)
    wavenumbers, energies = metrics.spectrum(u)
    torch.testing.assert_close(energies.sum(dim=-1), u.square().mean(dim=(-2, -1)), rtol=1e-12, atol=0)
    assert len(wavenumbers) == energies.shape[-1]


def test_a_wave_is_in_its_bin():
    x, y = torch.meshgrid(*(torch.arange(32.0, dtype=torch.float64) / 32 for _ in range(2)), indexing="ij")
    _, energies = metrics.spectrum(torch.sin(2 * math.pi * (3 * x + 4 * y)))
    assert energies[5] == pytest.approx(0.5)
    assert energies.sum() == pytest.approx(0.5)
    # Of a longer box, of which it is a longer wave.
    wavenumbers, energies = metrics.spectrum(torch.sin(2 * math.pi * 3 * x), (2.0, 2.0))
    assert wavenumbers[energies.argmax()] == pytest.approx(1.5)


def test_correlation_time_is_the_first_frame_below():
    true = fields(2, 6, 1, 8, 8)
    predicted = true.clone()
    predicted[0, 3:] = fields(3, 1, 8, 8, seed=1)
    times = metrics.correlation_time(predicted, true, frame_time=0.5)
    assert times.tolist() == [2.0, math.inf]
    predicted[1, 1:] = torch.nan
    assert metrics.correlation_time(predicted, true)[1] == 2


def test_a_solver_rolls_out_as_it_runs():
    grid = Grid.square(16, 2 * math.pi)
    x, y = grid.nodes()
    start = torch.stack([1 + 0.1 * x.sin() * y.cos(), 0.1 * y.cos(), 0.1 * x.sin()])[None]
    solver = ShallowWater(grid, 0.02)
    start = solver(start)  # without the waves that would alias
    result = rollout(solver, start[:, None], 5)
    assert result.diverged_at.tolist() == [0]
    torch.testing.assert_close(result.frames, solver.run(start, 5)[:, 1:], rtol=0, atol=1e-13)
    frames = result.frames
    assert (metrics.drift(solver.energy(frames[0]))).abs().max() < 1e-8
    assert (metrics.scaled_l2(persistence(start[:, None], 5), frames) > 0).all()


def test_what_diverges_is_named_and_does_not_spoil_the_others():
    seen = []

    def step(u):
        seen.append(len(u))
        return 1.5 * u[:, -2:]

    history = torch.ones(3, 2, 2, 4, 4)
    history[1] = 1e-3
    history[2, -1] = torch.nan
    history[2, 0] = 1.0
    limited = rollout(step, history.nan_to_num(2.0), 4, bound=2.0)
    assert limited.diverged_at.tolist() == [2, 2, 2]
    assert limited.frames[:, 0].isfinite().all()
    assert limited.frames[:, 1:].isnan().all()
    assert seen == [3, 3]
    poisoned = rollout(lambda u: torch.where(u[:, -2:] > 0.5, torch.nan, u[:, -2:]), history.nan_to_num(0.1), 3)
    assert poisoned.diverged_at.tolist() == [1, 0, 0]
    assert poisoned.frames[1:].isfinite().all()
    with pytest.raises(ValueError, match="and at least one step"):
        rollout(step, history[0], 1)
    with pytest.raises(ValueError, match="got a frame of shape"):
        rollout(lambda u: u[:, :1], history.nan_to_num(1.0), 1)
