"""Surrogates on the shared training loop."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sciml.cli.train_fields import Config, read_data
from sciml.cli.train_fields_setup import check_alike, prepare, symmetries
from sciml.pde.checkpoint import load_surrogate
from sciml.pde.grid import Grid
from sciml.training.optimizers import OptimizerSettings
from tests.pde.tiny_fields import config, tiny_run, trajectories

SCRIPT = Path(__file__).with_name("tiny_fields.py")
ROOT = SCRIPT.parents[2]


def state(folder):
    return torch.load(folder / "last" / "training_state.pt", weights_only=True)


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def assert_same(one, two):
    for kind in ("model", "average"):
        for name, weight in one[kind].items():
            torch.testing.assert_close(two[kind][name], weight, rtol=0, atol=0)
    assert one["progress"]["rows"] == two["progress"]["rows"]


def test_a_run_learns_and_leaves_a_checkpoint_that_predicts(tmp_path):
    progress = tiny_run(tmp_path / "run", max_epochs=12, delta=True)
    losses = [row["valid_loss"] for row in progress.rows]
    assert losses[-1] < 0.8 * losses[0]
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        *("best", "last", "config.yaml", "metrics.csv", "learning_curve.png")
    }
    assert {"train_height", "valid_velocity_x_rmse"} <= set(rows(tmp_path / "run")[0])
    surrogate = load_surrogate(tmp_path / "run" / "best")
    data = trajectories(2, seed=1)
    predicted = surrogate(data.frames[:, :2].flatten(1, 2))
    error = (predicted - data.frames[:, 2]).norm() / (data.frames[:, 1] - data.frames[:, 2]).norm()
    assert error < 1


@pytest.mark.parametrize("options", [{"unroll": {"steps": 2, "noise": 0.01}, "augment": ["all"]}])
def test_a_run_that_is_continued_is_the_run_that_was_not(tmp_path, options):
    from sciml.pde.objective import Unrolling

    options = {**options, "unroll": Unrolling(**options["unroll"])}
    optimizer = OptimizerSettings(learning_rate=3e-3, schedule="plateau", ema_decay=0.9, warmup=0.0)
    tiny_run(tmp_path / "whole", max_epochs=3, optimizer=optimizer, **options)

    class KilledError(Exception):
        pass

    from sciml.training import loop

    saved = loop.save_training_state
    calls = []

    def save_and_die(*arguments):
        saved(*arguments)
        calls.append(1)
        if len(calls) == 2:
            raise KilledError

    loop.save_training_state = save_and_die
    try:
        with pytest.raises(KilledError):
            tiny_run(tmp_path / "parts", max_epochs=3, optimizer=optimizer, **options)
    finally:
        loop.save_training_state = saved
    tiny_run(tmp_path / "parts", max_epochs=3, optimizer=optimizer, **options)
    assert_same(state(tmp_path / "whole"), state(tmp_path / "parts"))
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")
    with pytest.raises(ValueError, match=r"unroll\.steps: 2 then, 1 now"):
        tiny_run(tmp_path / "parts", max_epochs=3, optimizer=optimizer, augment=["all"])


@pytest.mark.slow
def test_two_processes_give_the_result_of_one(tmp_path):
    """30 windows in batches of 5: shares of 2 and 3."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(SCRIPT)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(tmp_path / "two")], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    tiny_run(tmp_path / "one", dtype="float64")
    one, two = state(tmp_path / "one"), state(tmp_path / "two")
    assert one["progress"]["step"] == two["progress"]["step"] == 12
    for kind in ("model", "average"):
        for name, weight in one[kind].items():
            torch.testing.assert_close(two[kind][name], weight, rtol=1e-8, atol=1e-10)
    for row, other in zip(one["progress"]["rows"], two["progress"]["rows"], strict=True):
        assert other == pytest.approx(row, rel=1e-8)


def test_channels_last_and_bfloat16_change_rounding_only(tmp_path):
    from sciml.cli.launch import launch

    plain = tiny_run(tmp_path / "plain").rows[-1]["valid_loss"]
    last = tiny_run(tmp_path / "last", channels_last=True).rows[-1]["valid_loss"]
    assert last == pytest.approx(plain, rel=1e-3)
    rounded = tiny_run(tmp_path / "bf16", fabric=launch("cpu", bfloat16=True), precision="bfloat16")
    assert rounded.rows[-1]["valid_loss"] == pytest.approx(plain, rel=0.05)
    assert state(tmp_path / "bf16")["model"]["network.lift.weight"].dtype == torch.float32


def test_parameters_and_bundles_are_trained(tmp_path):
    model = {"name": "sinenet", "num_waves": 1, "widths": [4] * 5, "conditioning": "adagn"}
    parts = {"train_data": trajectories(parameters=True), "valid_data": trajectories(2, seed=1, parameters=True)}
    tiny_run(tmp_path / "run", model=model, bundle=2, max_epochs=1, **parts)
    surrogate = load_surrogate(tmp_path / "run" / "best")
    assert list(surrogate.parameters_normalisation) == ["gravity"]
    u = torch.randn(1, 6, 16, 16)
    assert surrogate(u, torch.tensor([[1.0]])).shape == (1, 6, 16, 16)


def test_fine_tuning_starts_from_a_checkpoint(tmp_path):
    tiny_run(tmp_path / "first", max_epochs=3)
    progress = tiny_run(tmp_path / "second", init_from=str(tmp_path / "first" / "best"), max_epochs=1)
    best = rows(tmp_path / "first")[-1]["valid_loss"]
    assert progress.first_loss == pytest.approx(float(best), rel=1e-6)
    with pytest.raises(ValueError, match="got history=3, but the checkpoint"):
        tiny_run(tmp_path / "third", init_from=str(tmp_path / "first" / "best"), history=3)


def test_what_the_data_do_not_allow_is_refused(tmp_path):
    data = trajectories()
    data.symmetries = frozenset({"reflection_x"})
    with pytest.raises(ValueError, match="has no reflection_y"):
        symmetries(["reflection_x", "reflection_y"], data)
    assert symmetries(["all"], data) == ["reflection_x"]
    data.symmetries = None
    assert symmetries(["rotation"], data) == ["rotation"]
    with pytest.raises(ValueError, match="is not known; name those of its boundaries"):
        symmetries(["all"], data)
    with pytest.raises(ValueError, match="no parameter of the data varies; leave it out"):
        prepare(config(tmp_path, model={"name": "sinenet", "conditioning": "add"}), data)
    with pytest.raises(ValueError, match="it is slip, no_slip"):
        prepare(config(tmp_path, model={"name": "sinenet", "walls": "sticky"}), data)
    surrogate = prepare(config(tmp_path), data)
    other = trajectories()
    other.grid = Grid.square(16, 1.0)
    with pytest.raises(ValueError, match="the test data have size of cells"):
        check_alike(other, surrogate, "test")
    other = trajectories()
    other.fields = [other.fields[1], other.fields[0], other.fields[2]]
    with pytest.raises(ValueError, match="the test data have fields"):
        check_alike(other, surrogate, "test")
    other = trajectories()
    other.frame_time = 0.4
    with pytest.raises(ValueError, match=r"frame_time 0\.4, the surrogate has 0\.2"):
        check_alike(other, surrogate, "test")
    with pytest.raises(ValueError, match="these are convolutions"):
        Config(train=[], output="", optimizer=OptimizerSettings(name="normuon"))
    with pytest.raises(ValueError, match="got bundle=0"):
        Config(train=[], output="", bundle=0)


def test_the_last_trajectories_are_held_out(monkeypatch):
    from sciml.cli import train_fields

    data = trajectories(10)
    monkeypatch.setattr(train_fields, "read_trajectories", lambda _: data)
    train, valid = read_data(Config(train=["a"], output="", valid_fraction=0.2))
    torch.testing.assert_close(torch.cat([train.frames, valid.frames]), data.frames)
    assert valid.origins == ["trajectory 8", "trajectory 9"]
    with pytest.raises(ValueError, match="give more trajectories"):
        read_data(Config(train=["a"], output="", valid_fraction=0.99))


@pytest.mark.parametrize(
    "model",
    [
        {"name": "unet", "width": 4, "multipliers": [1, 2], "blocks": 1},
        {"name": "dilated_resnet", "width": 4, "blocks": 1},
        {"name": "fno", "width": 4, "modes": 6, "layers": 1},
    ],
    ids=lambda model: model["name"],
)
def test_every_baseline_is_trained_and_saved(tmp_path, model):
    if model["name"] == "fno":
        pytest.importorskip("neuralop")
    progress = tiny_run(tmp_path / "run", model=model, max_epochs=3, delta=True)
    assert progress.best["valid_loss"] < progress.first_loss
    surrogate = load_surrogate(tmp_path / "run" / "best")
    assert surrogate(torch.randn(1, 6, 16, 16)).shape == (1, 3, 16, 16)
