import math

import pytest
import torch

from sciml.pde.compressible import CompressibleNavierStokes
from sciml.pde.evaluation import one_step_errors, rollout_errors
from sciml.pde.field_data import Trajectories
from sciml.pde.grid import Grid
from sciml.pde.invariants import invariants
from sciml.pde.metrics import scaled_l2
from sciml.pde.shallow_water import ShallowWater
from sciml.pde.smoke import BuoyantSmoke, smoke_at_rest
from tests.pde.tiny_fields import trajectories


def solver():
    return ShallowWater(Grid.square(16, 2 * math.pi), 0.1, viscosity=0.1)


def two_steps(u):
    one = solver()
    return one(one(u))


def test_the_solver_of_the_data_has_no_error_in_the_place_of_a_surrogate():
    data = trajectories(3)
    single = one_step_errors(two_steps, data)
    assert max(single.scaled_l2 + single.nrmse + single.vrmse) < 1e-5
    assert single.persistence == pytest.approx(
        scaled_l2(data.frames[:, :-1], data.frames[:, 1:]).mean(dim=(0, 1)).tolist(), rel=1e-4
    )
    errors, frames = rollout_errors(two_steps, data, batch_size=2)
    assert frames.shape == data.frames[:, 1:].shape
    assert errors.mean_scaled_l2 < 1e-5
    assert errors.survivors == [3] * 6
    assert errors.correlation_time == pytest.approx(6 * data.frame_time)
    assert errors.decorrelated == 0
    assert errors.spectrum_true[0] == pytest.approx(errors.spectrum_predicted[0], abs=1e-6)
    assert max(errors.drift_predicted["mass"]) < 1e-6
    assert errors.drift_predicted["energy"] == pytest.approx(errors.drift_true["energy"], abs=1e-4)


def test_errors_are_those_of_the_formulas():
    data = trajectories(3)
    errors, frames = rollout_errors(lambda u: 1.01 * u[:, -3:], data, history=2)
    true = data.frames[:, 2:]
    torch.testing.assert_close(frames[:, 0], 1.01 * data.frames[:, 1])
    expected = scaled_l2(frames, true).mean(0)
    torch.testing.assert_close(torch.tensor(errors.scaled_l2), expected)
    assert errors.mean_scaled_l2 == pytest.approx(float(expected.mean()))
    # Parseval: the spectral error of the last frame sums to its mean square.
    total = (frames[:, -1] - true[:, -1]).square().mean(dim=(-2, -1)).mean(0)
    torch.testing.assert_close(torch.tensor(errors.spectral_error).sum(1), total, rtol=1e-4, atol=1e-9)
    with pytest.raises(ValueError, match="at most 5 can be compared"):
        rollout_errors(two_steps, data, history=2, steps=6)


def test_what_diverges_is_reported_with_its_step():
    data = trajectories(3)
    start = data.frames[1, 0]

    def step(u):
        wild = (u[:, 0] - start[0]).flatten(1).norm(dim=1) < 1e-3
        return torch.where(wild[:, None, None, None], torch.nan, two_steps(u.double()).float())

    errors, _ = rollout_errors(step, data)
    assert errors.diverged == {"trajectory 1": 1}
    assert errors.survivors == [2] * 6
    assert errors.mean_scaled_l2 is None
    assert all(math.isfinite(value) for row in errors.scaled_l2 for value in row)
    with pytest.raises(ValueError, match=r"trajectory 1, frames 0 to 1: the prediction of a single step is no number"):
        one_step_errors(step, data)


def test_invariants_of_known_flows():
    grid = Grid.square(64, 2 * math.pi)
    solver = ShallowWater(grid, 0.1)
    x, y = grid.nodes()
    u = torch.stack([1 + 0 * x, torch.sin(y), torch.cos(x)])
    found = invariants(u, fields=solver.fields, grid=grid, at="nodes")
    area = (2 * math.pi) ** 2
    assert float(found["mass"]) == pytest.approx(area)
    assert float(found["energy"]) == pytest.approx(area / 2)
    assert float(found["enstrophy"]) == pytest.approx(area / 2, rel=0.01)
    assert float(found["divergence"]) < 1e-12
    assert (
        float(invariants(torch.stack([u[0], torch.sin(x), u[2]]), fields=solver.fields, grid=grid)["divergence"]) > 0.5
    )
    heavy = CompressibleNavierStokes(grid, 0.1)
    state = torch.stack([2 + 0 * x, 0 * x, torch.sin(y), torch.cos(x)])
    assert float(invariants(state, fields=heavy.fields, grid=grid)["energy"]) == pytest.approx(area)
    assert list(invariants(u[None, None], fields=solver.fields, grid=grid)["mass"].shape) == [1, 1]


def test_smoke_has_no_divergence_on_its_faces():
    grid = Grid.square(16, 8.0, "wall")
    smoke = BuoyantSmoke(grid)
    frames = smoke.run(smoke_at_rest(grid, 2, torch.Generator().manual_seed(0)), 4)
    found = invariants(frames, fields=smoke.fields, grid=grid, at=smoke.at)
    assert found["divergence"].shape == (2, 5)
    assert found["divergence"].max() < 1e-12
    assert invariants(frames, fields=smoke.fields, grid=grid)["divergence"].max() > 1e-3
    data = Trajectories(frames, smoke.fields, grid, 1.5, at=smoke.at)
    errors, _ = rollout_errors(smoke, data)
    assert errors.mean_scaled_l2 < 1e-4
