import json

import pytest
import torch

from sciml.pde.checkpoint import build_network, load_surrogate, read_surrogate_config, save_surrogate
from sciml.pde.field_data import Trajectories, Windows, field_normalisation, parameter_normalisation
from sciml.pde.grid import Grid
from sciml.pde.rollouts import rollout
from sciml.pde.stepper import Field
from sciml.pde.surrogate import Normalisation, Surrogate
from sciml.potentials.checkpoint import WEIGHTS, load_potential
from tests.pde.tiny_fields import trajectories


def surrogate(*, history=2, bundle=1, delta=False, conditioning=None, data=None, **options):
    torch.manual_seed(0)
    data = data or trajectories(3, parameters=conditioning is not None)
    parameters = {} if conditioning is None else parameter_normalisation(data)
    known = {"num_parameters": len(parameters), "conditioning": conditioning} if parameters else {}
    channels = len(data.fields)
    network = build_network(
        "sinenet",
        {"channels_in": history * channels, "channels_out": bundle * channels, "num_waves": 1, "widths": [4] * 5,
         "padding": "circular", **known, **options}
    )  # fmt: skip
    return Surrogate(
        network, fields=data.fields, grid=data.grid, frame_time=data.frame_time, history=history, bundle=bundle,
        delta=delta, normalisation=field_normalisation(data), parameters=parameters, at=data.at, units=data.units
    ).eval()  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"delta": True, "bundle": 2}, {"conditioning": "adagn"}])
def test_checkpoints_bring_everything_back(tmp_path, options):
    model = surrogate(**options)
    save_surrogate(model, tmp_path / "best", metadata={"epoch": 3})
    again = load_surrogate(tmp_path / "best")
    data = trajectories(3)
    u = data.frames[:, :2].flatten(1, 2)
    parameters = torch.tensor([[0.5], [1.0], [1.5]]) if options.get("conditioning") else None
    torch.testing.assert_close(again(u, parameters), model(u, parameters), rtol=0, atol=0)
    assert again.description == model.description
    assert sorted(path.name for path in (tmp_path / "best").iterdir()) == ["config.json", "model.safetensors"]
    found = read_surrogate_config(tmp_path / "best")
    assert found["format_version"] == 1
    assert found["metadata"] == {"epoch": 3}
    assert found["grid"]["boundaries"] == ["periodic", "periodic"]
    assert found["fields"][1] == {"name": "velocity_x", "unit": "L/T", "component": 0}
    assert found["normalisation"]["height"]["mean"] == pytest.approx(1.0, abs=0.02)
    double = load_surrogate(tmp_path / "best", dtype="float64")
    wide = None if parameters is None else parameters.double()
    torch.testing.assert_close(double(u.double(), wide).float(), model(u, parameters), rtol=1e-4, atol=1e-4)


def test_the_network_works_in_standard_deviations():
    model = surrogate()
    frames = trajectories(3).frames
    scaled = model.normalised(frames)
    torch.testing.assert_close(scaled.mean(dim=(0, 1, 3, 4)), torch.zeros(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(scaled.std(dim=(0, 1, 3, 4)), torch.ones(3), rtol=1e-3, atol=0)
    torch.testing.assert_close(model.physical(scaled), frames)
    u = frames[:, :2].flatten(1, 2)
    expected = model.physical(model.network(scaled[:, :2].flatten(1, 2)))
    torch.testing.assert_close(model(u), expected)


def test_changes_are_in_units_of_their_own_deviation():
    model = surrogate(delta=True)
    torch.nn.init.zeros_(model.network.project.weight)
    with torch.no_grad():
        model.network.project.bias.copy_(torch.tensor([1.0, 0.0, -2.0]))
    frames = trajectories(3).frames
    expected = frames[:, 1].clone()
    expected[:, 0] += model.delta_std[0]
    expected[:, 2] -= 2 * model.delta_std[2]
    torch.testing.assert_close(model(frames[:, :2].flatten(1, 2)), expected)


def test_bundles_are_rolled_out_frame_by_frame():
    model = surrogate(bundle=2)
    history = trajectories(3).frames[:, :2]
    long = rollout(model, history, 5)
    first = model(history.flatten(1, 2)).unflatten(1, (2, 3))
    second = model(first.flatten(1, 2)).unflatten(1, (2, 3))
    torch.testing.assert_close(long.frames[:, :4], torch.cat([first, second], dim=1), rtol=1e-5, atol=1e-6)
    assert long.diverged_at.tolist() == [0, 0, 0]


def test_parameters_follow_their_samples_in_a_rollout():
    model = surrogate(conditioning="add")
    torch.nn.init.normal_(model.network.waves[0].up[0].blocks[0].condition.linear.weight)
    history, parameters = trajectories(3).frames[:, :2], torch.tensor([[0.5], [1.0], [1.5]])
    together = rollout(model, history, 3, parameters=parameters).frames
    alone = torch.cat([rollout(model, h[None], 3, parameters=p[None]).frames
                       for h, p in zip(history, parameters, strict=True)])  # fmt: skip
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="expected \\(3, 1\\): gravity"):
        model(history.flatten(1, 2))


def test_what_does_not_fit_is_refused(tmp_path):
    model = surrogate()
    with pytest.raises(ValueError, match="2 frames, oldest first, of height, velocity_x, velocity_y"):
        model(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match="convert one of them"):
        model(torch.zeros(1, 6, 16, 16, dtype=torch.float64))
    box = trajectories(3)
    box.grid = Grid.square(16, 1.0, "wall")
    with pytest.raises(ValueError, match="'circular' along x, where the boundary is 'wall'; give mirror or zeros"):
        surrogate(data=box)
    with pytest.raises(ValueError, match="deviations must be positive"):
        Normalisation(0.0, 0.0)
    fields, grid = trajectories(3).fields, Grid.square(24, 1.0)
    with pytest.raises(ValueError, match="need multiples of 16"):
        Surrogate(model.network, fields=fields, grid=grid, frame_time=1.0, normalisation=model.normalisation, history=2)
    save_surrogate(model, tmp_path / "best")
    with pytest.raises(ValueError, match="not a potential"):
        load_potential(tmp_path / "best")
    path = tmp_path / "best" / "config.json"
    description = json.loads(path.read_text())
    path.write_text(json.dumps({**description, "format_version": 99}))
    with pytest.raises(ValueError, match="reads up to 1"):
        load_surrogate(tmp_path / "best")
    del description["normalisation"]
    path.write_text(json.dumps(description))
    with pytest.raises(ValueError, match="lacks normalisation"):
        load_surrogate(tmp_path / "best")
    with pytest.raises(ValueError, match="there is no checkpoint folder"):
        load_surrogate(tmp_path / "none")
    with pytest.raises(ValueError, match="is the potential 'tdn', not a surrogate"):
        load_surrogate(WEIGHTS / "tdn-acac")


# --- data -------------------------------------------------------------------------------------------------------------


def test_windows_are_consecutive_frames_of_one_trajectory():
    data = trajectories(3, 7, parameters=True)
    windows = Windows(data, 4, stride=2)
    assert windows.items == [(one, start) for one in range(3) for start in (0, 2)]
    batch = windows.collate([(2, 1), (0, 3)])
    torch.testing.assert_close(batch.frames, torch.stack([data.frames[2, 1:5], data.frames[0, 3:7]]))
    assert batch.parameters.tolist() == [[1.5], [0.5]]
    assert Windows(trajectories(1), 2).collate([(0, 0)]).parameters is None
    assert windows.describe(1) == "trajectory 0, frames 2 to 5"
    with pytest.raises(ValueError, match="trajectories of 7 frames; history and predicted frames need 8"):
        Windows(data, 8)


def test_statistics_are_those_of_the_numbers():
    data = trajectories(4)
    found = field_normalisation(data)
    frames = data.frames.double()
    for number, one in enumerate(found.values()):
        values = frames[:, :, number]
        assert one.mean == pytest.approx(float(values.mean()), rel=1e-9)
        assert one.std == pytest.approx(float(values.std(correction=0)), rel=1e-9)
        assert one.delta_std == pytest.approx(float(values.diff(dim=1).square().mean().sqrt()), rel=1e-9)


def test_bad_data_are_named():
    good = trajectories(2)
    frames = good.frames.clone()
    frames[1, 3, 2, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="trajectory 1: frame 3, field velocity_y has values that are no numbers"):
        Trajectories(frames, good.fields, good.grid, 0.2)
    with pytest.raises(ValueError, match=r"expected \(trajectories, frames, 3, 16, 16\)"):
        Trajectories(frames[:, :, :2], good.fields, good.grid, 0.2)
    with pytest.raises(ValueError, match="field dust is the same in all places"):
        field_normalisation(Trajectories(torch.zeros(1, 3, 1, 16, 16), [Field("dust")], good.grid, 0.2))
