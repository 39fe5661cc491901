"""Shipping a surrogate: its card says how good it is, and it is found by name and rolled out without data."""

import json

import pytest

from sciml.cli import main
from sciml.cli.field_files import made_trajectories
from sciml.model_folder import names_in
from sciml.pde import checkpoint
from sciml.pde.checkpoint import load_surrogate, read_surrogate_config, save_surrogate
from sciml.pde.evaluation import one_step_errors, rollout_errors
from sciml.pde.field_data import field_normalisation
from sciml.pde.ship import ship
from sciml.pde.sinenet import SineNet
from sciml.pde.surrogate import Surrogate

TEXTS = {"flow": "ins", "data": "smoke of the tests", "licence": "MIT", "limits": "tests"}
ERRORS = {
    "one_step": {"scaled_l2": [0.1, 0.2, 0.3], "persistence": [0.5, 0.6, 0.7], "vrmse": [0.1, 0.1, 0.1]},
    "rollout": {"scaled_l2": [[0.1, 0.2, 0.3]] * 2, "persistence": [[0.5, 0.6, 0.7]] * 2, "correlation_time": 12.0},
    "trajectories": 4,
}


@pytest.fixture
def run(tmp_path):
    data = made_trajectories("ins", 32, 1, seed=0)
    surrogate = Surrogate(
        SineNet(12, 3, num_waves=1, widths=[4, 4, 4, 4, 4]),
        fields=data.fields,
        grid=data.grid,
        frame_time=data.frame_time,
        normalisation=field_normalisation(data),
        history=4,
        at=data.at,
    )
    save_surrogate(surrogate, tmp_path / "run" / "best", metadata={"epoch": 3, "step": 30})
    (tmp_path / "run" / "config.yaml").write_text("train: [/some/where/data]\noutput: here\nhistory: 4\n")
    (tmp_path / "run" / "test").mkdir()
    (tmp_path / "run" / "test" / "evaluation.json").write_text(json.dumps(ERRORS))
    return tmp_path / "run"


def test_shipped_weights_are_listed_shown_and_rolled_out(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checkpoint, "WEIGHTS", tmp_path / "weights")
    monkeypatch.setattr("sciml.cli.rollout.WEIGHTS", tmp_path / "weights")
    ship(str(run), "smoke-tests", weights=tmp_path / "weights", **TEXTS)
    assert load_surrogate("smoke-tests").history == 4
    card = read_surrogate_config("smoke-tests")["metadata"]["card"]
    assert card["one_step"] == pytest.approx({"scaled_l2": 0.2, "persistence": 0.6, "vrmse": 0.1})
    assert card["settings"] == {"train": ["data"], "history": 4}
    assert main(["models"]) == 0
    assert "smoke-tests" in capsys.readouterr().out
    assert main(["models", "smoke-tests"]) == 0
    assert "one step ahead\n0.2000 (repeating the last frame: 0.6000)" in capsys.readouterr().out
    output = tmp_path / "rollout"
    assert main(["rollout", "smoke-tests", "--trajectories", "2", "--steps", "2", "--output", str(output)]) == 0
    assert (output / "rollout.gif").stat().st_size > 1000


def test_what_cannot_be_shipped_is_refused(run, tmp_path, capsys):
    weights = tmp_path / "weights"
    for name, changes, message in (
        ("sinenet", {}, "no architecture's name"),
        ("a", {"limits": " "}, "empty limits"),
    ):
        with pytest.raises(ValueError, match=message):
            ship(str(run), name, weights=weights, **TEXTS | changes)
    ship(str(run), "a", weights=weights, **TEXTS)
    with pytest.raises(ValueError, match="give --replace"):
        ship(str(run), "a", weights=weights, **TEXTS)
    ship(str(run), "a", weights=weights, replace=True, **TEXTS)
    (run / "test" / "evaluation.json").unlink()
    with pytest.raises(ValueError, match="sciml evaluate --checkpoint"):
        ship(str(run), "b", weights=weights, **TEXTS)
    assert main(["rollout", str(run / "best")]) == 2
    assert "give files with --data" in capsys.readouterr().err


@pytest.mark.parametrize("name", names_in(checkpoint.WEIGHTS))
def test_shipped_surrogates_beat_persistence(name):
    surrogate = load_surrogate(name)
    card = read_surrogate_config(name)["metadata"]["card"]
    data = made_trajectories(card["flow"], surrogate.grid.shape[0], 3, seed=1)
    single = one_step_errors(surrogate, data, history=surrogate.history)
    assert sum(single.scaled_l2) / 3 == pytest.approx(card["one_step"]["scaled_l2"], rel=0.35)
    rolled, _ = rollout_errors(surrogate, data, history=surrogate.history)
    for step, (errors, repeated) in enumerate(zip(rolled.scaled_l2, rolled.persistence, strict=True)):
        assert sum(errors) < sum(repeated), step
