"""Trainings that start with another one, and validations that are rare."""

import csv
from pathlib import Path

import pytest
import torch

from sciml.cli import main
from sciml.potentials import load_potential
from sciml.training import loop
from tests.test_cli_train import DATA, in_an_empty_folder, train, write_data  # noqa: F401 - a fixture

ESCAIP = (
    "{name: escaip, channels: 16, num_heads: 1, num_blocks: 1, num_radial: 8, radial_channels: 8, cutoff: 3.0, "
    "num_neighbours: null}"
)


def test_direct_forces_come_before_those_of_the_gradient(capsys):
    write_data("data.xyz")
    pretrain = "{model: {forces: direct}, max_epochs: 2, optimizer: {learning_rate: 0.001}}"
    options = ["--model", ESCAIP, "--pretrain", pretrain, "--max_epochs", "1", "--output", "run"]
    assert main(["train", *DATA, *options, "--device", "cpu"]) == 0, capsys.readouterr().err
    first, last = load_potential("run/pretrained/best"), load_potential("run/best")
    assert (first.conservative, last.conservative) == (False, True)
    assert len(list(csv.DictReader(Path("run/pretrained/metrics.csv").read_text().splitlines()))) == 2
    assert "left behind: " in Path("run/train.log").read_text()
    # It starts from what was learned: closer to it than a step of the optimizer apart.
    weights = dict(last.named_parameters())
    for name in ("energy_head.2.weight", "blocks.0.query.weight"):
        assert (weights[name] - first.get_parameter(name)).abs().max() < 0.05
    # The same command again finds both finished.
    assert main(["train", *DATA, *options, "--device", "cpu"]) == 0
    assert "nothing to do" in Path("run/pretrained/train.log").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--pretrain", "{max_epoch: 2}"], "did you mean max_epochs"),
        (["--pretrain", "{max_epochs: 2}", "--init_from", "x"], "got init_from and pretrain"),
    ],
)
def test_nonsense_before_a_training_is_refused(options, message, capsys):
    write_data("data.xyz")
    assert train("--output", "run", *options) == 2
    assert message in capsys.readouterr().err


def test_validations_can_be_rare():
    write_data("data.xyz")
    assert train("--output", "run", "--max_epochs", "5", "--valid_interval", "2") == 0
    rows = list(csv.DictReader(Path("run/metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["2", "4", "5"]


def test_files_may_begin_with_an_environment_variable(monkeypatch, tmp_path, capsys):
    (tmp_path / "there").mkdir()
    write_data("there/data.xyz")
    arguments = ["--output", "run", "--max_epochs", "1"]
    data = ["--train", "$SOME_DATA/data.xyz", *DATA[2:]]
    assert train(*arguments, data=data) == 2
    assert "the environment variable SOME_DATA is not set" in capsys.readouterr().err
    monkeypatch.setenv("SOME_DATA", str(tmp_path / "there"))
    assert train(*arguments, data=data) == 0


def test_gradient_checkpointing_changes_nothing_but_memory(capsys):
    write_data("data.xyz")
    for name, options in {"whole": [], "again": ["--gradient_checkpointing", "true"]}.items():
        options = [*options, "--model", ESCAIP, "--max_epochs", "2", "--dtype", "float64", "--output", name]
        assert main(["train", *DATA, *options, "--device", "cpu"]) == 0, capsys.readouterr().err
    whole, again = (load_potential(f"{name}/best").state_dict() for name in ("whole", "again"))
    for key, value in whole.items():
        torch.testing.assert_close(again[key], value, rtol=1e-9, atol=1e-12)
    options = ["--model", "{name: transip, channels: 24, num_heads: 1, num_blocks: 1}", "--output", "run"]
    assert main(["train", *DATA, *options, "--gradient_checkpointing", "true"]) == 2
    assert "no layers to evaluate anew" in capsys.readouterr().err


def test_rounding_to_tf32_ends_with_its_context():
    precisions = []
    with loop.rounding_to_tf32(True):
        precisions.append(torch.get_float32_matmul_precision())
    with loop.rounding_to_tf32(False):
        precisions.append(torch.get_float32_matmul_precision())
    assert precisions == ["high", "highest"]
    assert torch.get_float32_matmul_precision() == "highest"
