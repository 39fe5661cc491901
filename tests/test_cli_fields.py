"""The jobs on surrogates: which job a word means, and what each leaves behind."""

import json

import numpy as np
import pytest

from sciml.cli import evaluate_fields, main, rollout, train_fields
from sciml.cli.other_job import of_surrogates
from sciml.pde.checkpoint import load_surrogate, save_surrogate
from tests.pde.test_surrogate import surrogate
from tests.pde.tiny_fields import trajectories


@pytest.fixture
def data(monkeypatch):
    found = trajectories(3)
    for job in (train_fields, evaluate_fields, rollout):
        monkeypatch.setattr(job, "read_trajectories", lambda _: found)
    return found


@pytest.fixture
def checkpoint(tmp_path):
    save_surrogate(surrogate(delta=True), tmp_path / "best")
    return tmp_path / "best"


def test_the_model_says_which_job_is_meant(tmp_path, checkpoint):
    file = tmp_path / "train.yaml"
    file.write_text("model: {name: unet, width: 8}\n")
    for arguments, expected in (
        (["--model.name", "sinenet"], True),
        (["--model.name=sinenet", "--output", "x"], True),
        (["--model", "{name: fno}"], True),
        (["--config", str(file)], True),
        (["--config", str(file), "--model.name", "facet"], False),
        (["--model.name", "facet", "--config", str(file)], True),
        (["--config", str(tmp_path / "missing.yaml")], False),
        (["--model.name"], False),
        (["--help"], False),
        ([], False),
    ):
        assert of_surrogates(arguments, "model.name") == expected, arguments
    assert of_surrogates(["--checkpoint", str(checkpoint)], "checkpoint")
    assert not of_surrogates(["--checkpoint", "tdn-acac"], "checkpoint")
    assert not of_surrogates(["--checkpoint", str(tmp_path)], "checkpoint")


def test_help_of_train_names_surrogates(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["train", "--help"])
    assert "--model.name sinenet --help" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(SystemExit, match="0"):
        main(["train", "--model.name", "sinenet", "--help"])
    assert "--unroll.pushforward" in capsys.readouterr().out


def test_train_evaluate_roll_out(tmp_path, data, capsys):
    run = tmp_path / "run"
    flags = ["--model.name", "sinenet", "--model.num_waves", "1", "--model.widths", "[4,4,4,4,4]", "--max_epochs", "1"]
    assert main(["train", "--train", "a", "--output", str(run), "--test", "b", "--history", "2", *flags]) == 0
    assert {"best", "last", "test", "train.log", "metrics.csv"} <= {path.name for path in run.iterdir()}
    report = json.loads((run / "test" / "evaluation.json").read_text())
    assert report["fields"] == ["height", "velocity_x", "velocity_y"]
    assert len(report["rollout"]["scaled_l2"]) == 5
    assert load_surrogate(run / "best").frame_time == data.frame_time

    output = tmp_path / "out"
    assert main(["rollout", str(run / "best"), "--data", "b", "--output", str(output), "--trajectories", "2"]) == 0
    names = {path.name for path in output.iterdir()}
    assert {"rollout.npz", "evaluation.json", "errors.png", "spectra.png", "invariants.png"} <= names
    assert names & {"rollout.gif", "rollout.mp4"}
    with np.load(output / "rollout.npz", allow_pickle=False) as arrays:
        assert arrays["predicted"].shape == arrays["true"].shape == (2, 5, 3, 16, 16)
    assert "scaled L2 in physical units" in capsys.readouterr().out


def test_a_rollout_that_diverges_says_when(tmp_path, data, checkpoint, capsys):
    model = load_surrogate(checkpoint)
    model.network.project.bias.data.fill_(4e4)
    save_surrogate(model, checkpoint)
    output = tmp_path / "out"
    assert main(["rollout", str(checkpoint), "--data", "b", "--output", str(output), "--trajectories", "null"]) == 0
    report = json.loads((output / "evaluation.json").read_text())
    assert report["rollout"]["mean_scaled_l2"] is None
    step = report["rollout"]["diverged"]["trajectory 0"]
    assert 1 < step <= 5
    assert f"diverged at step {step}: trajectory 0" in capsys.readouterr().out
    assert report["rollout"]["scaled_l2"][0][0] is not None


def test_mistakes_get_one_line(tmp_path, data, checkpoint, capsys):
    assert main(["rollout", str(checkpoint), "--data", "b", "--shown", "7"]) == 2
    assert "there are the trajectories 0 to 2" in capsys.readouterr().err
    assert main(["evaluate", "--checkpoint", str(checkpoint), "--data", "b", "--steps", "99"]) == 2
    assert "at most 5 can be compared" in capsys.readouterr().err
    assert main(["rollout", "tdn-acac", "--data", "b"]) == 2
    assert "no checkpoint folder 'tdn-acac'" in capsys.readouterr().err
