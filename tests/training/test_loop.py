import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from sciml.training import loop
from sciml.training.divergence import DivergenceError
from sciml.training.losses import LossTerm
from sciml.training.optimizers import OptimizerSettings

SCRIPT = Path(__file__).with_name("tiny_run.py")
ROOT = SCRIPT.parents[2]


def result(folder):
    """Everything that a run leaves and that must not depend on whether it was killed."""
    state = torch.load(folder / "last" / "training_state.pt", weights_only=True)
    state["progress"].pop("seconds")
    state["progress"].pop("seconds_per_epoch")
    texts = [(folder / name).read_text() for name in ("metrics.csv", "best/config.json", "last/config.json")]
    weights = [torch.load(folder / part / "weights.pt", weights_only=True) for part in ("best", "last")]
    return [state, texts, weights]


def assert_identical(a, b):
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_identical(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_identical(x, y)
    else:
        assert a == b


@pytest.fixture(scope="module")
def uninterrupted(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    tiny.tiny_run(folder, max_epochs=3, dropout=0.1)
    return folder


def test_metrics_are_complete_and_training_learns(tiny, tmp_path):
    _, progress = tiny.tiny_run(tmp_path, max_epochs=15, optimizer=OptimizerSettings(learning_rate=0.05))
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(1, 16))
    assert int(rows[-1]["step"]) == progress.step == 15 * 5
    assert float(rows[-1]["train_loss"]) < 0.8 * float(rows[0]["train_loss"])
    total = sum(term.weight * float(rows[3][f"train_{name}"]) for name, term in tiny.TERMS.items())
    assert float(rows[3]["train_loss"]) == pytest.approx(total, rel=1e-12)
    for name in tiny.TERMS:
        assert 0 < float(rows[0][f"valid_{name}_mae"]) <= float(rows[0][f"valid_{name}_rmse"])
    assert (tmp_path / "learning_curve.png").stat().st_size > 10_000


def test_batches_of_isolated_atoms_have_no_gradient_of_the_forces(tiny, tmp_path):
    train = tiny.clusters(15, seed=0)[::7] + tiny.clusters(3, seed=1)[2:]
    assert [graph.num_nodes for graph in train] == [1, 1, 1, 3]
    terms = {"forces": LossTerm(kind="norm")}
    _, progress = tiny.tiny_run(tmp_path, train=train, batch_size=1, terms=terms, max_epochs=1)
    assert progress.step == 4


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def test_killed_before_or_after_any_file_is_replaced(tiny, tmp_path, monkeypatch, uninterrupted):
    """Stop a run at each rename of a file, continue it, and compare bit by bit."""
    expected = result(uninterrupted)
    monkeypatch.setattr(loop, "plot_learning_curve", Mock())  # slow, and nothing reads it
    replace = os.replace
    for moment in range(100):
        folder = tmp_path / str(moment)
        count = 0

        def kill_at(source, target, moment=moment):
            nonlocal count
            if count == moment:
                raise Killed
            replace(source, target)
            count += 1

        monkeypatch.setattr(os, "replace", kill_at)
        try:
            tiny.tiny_run(folder, max_epochs=3, dropout=0.1)
        except Killed:
            monkeypatch.setattr(os, "replace", replace)
            tiny.tiny_run(folder, max_epochs=3, dropout=0.1)
            assert_identical(result(folder), expected)
            shutil.rmtree(folder)
        else:
            monkeypatch.setattr(os, "replace", replace)
            break
    assert moment > 12  # at least five files an epoch were replaced, one at a time


def test_killed_by_the_operating_system(tmp_path, uninterrupted):
    command = [sys.executable, SCRIPT, tmp_path / "run", "--max_epochs", "3", "--dropout", "0.1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TINY_DELAY": "0.1"}
    process = subprocess.Popen(command, env=environment)
    state = tmp_path / "run" / "last" / "training_state.pt"
    while not state.exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.15)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert torch.load(state, weights_only=True)["progress"]["epoch"] < 3
    subprocess.run(command, check=True, env={**environment, "TINY_DELAY": "0"})
    assert_identical(result(tmp_path / "run"), result(uninterrupted))


def test_a_finished_run_is_left_alone(tiny, tmp_path, uninterrupted, caplog):
    folder = shutil.copytree(uninterrupted, tmp_path / "copy")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with caplog.at_level("INFO"):
        _, progress = tiny.tiny_run(folder, max_epochs=3, dropout=0.1)
    assert progress.stopped == "max_epochs"
    assert "finished" in caplog.text
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_other_settings_are_refused(tiny, uninterrupted):
    with pytest.raises(ValueError, match=r"dropout: 0\.1 then, 0\.2 now"):
        tiny.tiny_run(uninterrupted, max_epochs=3, dropout=0.2)


def test_the_result_depends_on_the_seed_of_the_dropout(tiny, tmp_path, uninterrupted):
    tiny.tiny_run(tmp_path, max_epochs=3, dropout=0.1, seed=1)
    assert (tmp_path / "metrics.csv").read_text() != (uninterrupted / "metrics.csv").read_text()


def test_max_steps_ends_the_run_within_an_epoch_at_the_final_learning_rate(tiny, tmp_path):
    settings = OptimizerSettings(learning_rate=0.02, final_learning_rate=0.1)
    _, progress = tiny.tiny_run(tmp_path, max_epochs=50, max_steps=7, optimizer=settings)
    assert (progress.stopped, progress.step, progress.epoch) == ("max_steps", 7, 2)
    assert progress.rows[-1]["lr"] == pytest.approx(0.002)


def test_patience(tiny, tmp_path):
    settings = OptimizerSettings(learning_rate=1e-300)  # nothing changes, and equal is not better
    _, progress = tiny.tiny_run(tmp_path, max_epochs=50, patience=3, optimizer=settings)
    assert (progress.stopped, progress.best["epoch"], progress.epoch) == ("patience", 1, 4)


def test_max_time_stops_before_it_is_exceeded_and_more_time_continues(tiny, tmp_path, monkeypatch):
    clock = iter(range(0, 100_000, 10))
    monkeypatch.setattr(loop.time, "monotonic", lambda: float(next(clock)))
    _, progress = tiny.tiny_run(tmp_path / "a", max_epochs=4, max_time=25.0)
    assert (progress.stopped, progress.epoch) == ("max_time", 2)
    _, progress = tiny.tiny_run(tmp_path / "a", max_epochs=4, max_time=25.0)
    assert (progress.stopped, progress.epoch) == ("max_time", 2)
    _, progress = tiny.tiny_run(tmp_path / "a", max_epochs=4)
    assert (progress.stopped, progress.epoch) == ("max_epochs", 4)
    tiny.tiny_run(tmp_path / "b", max_epochs=4)
    assert_identical(result(tmp_path / "a"), result(tmp_path / "b"))


def test_the_learning_rate_falls_over_the_time_budget(tiny, tmp_path, monkeypatch):
    clock = iter(range(0, 100_000, 10))
    monkeypatch.setattr(loop.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(loop, "plot_learning_curve", Mock())  # slow, and nothing reads it
    settings = OptimizerSettings(learning_rate=1.0e-3, warmup=0.0, final_learning_rate=0.1)
    _, progress = tiny.tiny_run(tmp_path, max_epochs=10_000, time_budget=200.0, optimizer=settings)
    assert progress.stopped == "time_budget"
    rates = [row["lr"] for row in progress.rows]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(1e-4, rel=0.2)
    seconds = progress.seconds
    assert 190.0 <= seconds <= 210.0
    _, progress = tiny.tiny_run(tmp_path, max_epochs=10_000, time_budget=200.0, optimizer=settings)
    assert progress.seconds == seconds


def test_an_infinite_label_stops_the_run_and_is_named(tiny, tmp_path):
    train = tiny.clusters(23, seed=0)
    train[13].forces[2, 1] = torch.inf
    with pytest.raises(DivergenceError) as error:
        tiny.tiny_run(tmp_path, train=train, max_epochs=2)
    lines = str(error.value).splitlines()
    assert "epoch 1, step" in lines[0]
    assert "forces inf" in lines[0]
    assert lines[1] == "  cluster 13: loss inf"
    assert "learning_rate" in lines[-1]
    assert not (tmp_path / "last").exists()


def test_an_infinite_gradient_stops_the_run(tiny, tmp_path):
    model = tiny.PairPotential()
    model.outer.bias.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(DivergenceError, match="the norm of its gradient"):
        tiny.tiny_run(tmp_path, model=model, max_epochs=2)


def test_a_loss_that_runs_away_stops_the_run(tiny, tmp_path):
    settings = OptimizerSettings(learning_rate=1e7, clip_norm=None, warmup=0.9)
    with pytest.raises(DivergenceError, match=r"epoch \d+.*the training loss is"):
        tiny.tiny_run(tmp_path, max_epochs=20, optimizer=settings)


@pytest.mark.parametrize("name", ["max_epochs", "max_steps", "max_time", "time_budget", "patience"])
def test_nonsense_lengths_are_refused(name):
    with pytest.raises(ValueError, match=name):
        loop.LoopSettings(**{name: 0})
