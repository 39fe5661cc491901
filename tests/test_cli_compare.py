"""`sciml compare`: accuracy against cost."""

import json
from pathlib import Path

import pytest
from matplotlib.image import imread

from sciml.cli import main
from sciml.potentials import save_potential
from sciml.potentials.facet import Facet
from sciml.potentials.transip import TransIP


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run_folder(name, potential, error, **more):
    metadata = {"valid_forces_rmse": error, "valid_energy_per_atom_rmse": error / 10, "epoch": 2, **more}
    save_potential(potential, Path(name) / "best", metadata=metadata)


def test_the_front_is_found_and_plotted(capsys):
    run_folder("small", Facet(species=[1, 8], channels=2, lmax=1, num_layers=1), 0.2)
    run_folder("large", Facet(species=[1, 8], channels=16, num_layers=3), 0.1)
    run_folder("larger and worse", Facet(species=[1, 8], channels=32, lmax=3, num_layers=4), 0.3)
    assert main(["compare", "small", "large", "larger and worse", "--calls", "3", "--output", "out"]) == 0
    report = json.loads(Path("out/compare.json").read_text())
    assert {run["name"]: run["on_front"] for run in report["runs"]} == {
        "small": True, "large": True, "larger and worse": False
    }  # fmt: skip
    assert [run["validation"]["forces"] for run in report["runs"]] == [0.2, 0.1, 0.3]
    assert all(run["cost_ms"] > 0 for run in report["runs"])
    assert imread("out/compare.png")[:, :, :3].std() > 0.02
    out = capsys.readouterr().out
    assert out.count("★ ") == 2
    assert "larger and worse" in out


def test_molecules_and_shipped_weights(capsys):
    assert main(["compare", "tdn-acac", "facet-acac", "--structure", "tdn-acac", "--calls", "1"]) == 0
    report = json.loads(Path("compare/compare.json").read_text())
    assert report["structure"]["formula"] == "C5H8O2"
    run_folder("plain", TransIP(species=[1, 8], channels=24, num_heads=1, num_blocks=1), 0.2)
    assert main(["compare", "plain", "--calls", "1"]) == 2
    assert "takes no periodic structures" in capsys.readouterr().err
    assert main(["compare", "plain", "--structure", "H2O", "--calls", "1"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "arguments are required: runs"),
        (["nowhere"], "no shipped weights of that name"),
        (["water", "--structure", "CH4"], "not all runs know the elements of CH4: water lacks C"),
        (["water", "tdn-acac"], "water lacks C"),
        (["water", "silent"], "silent has no errors of forces"),
        (["water", "--calls", "0"], "calls"),
    ],
)
def test_bad_input_says_what_to_do(arguments, message, capsys):
    run_folder("water", Facet(species=[1, 8], channels=2, lmax=1, num_layers=1), 0.2)
    save_potential(Facet(species=[1, 8], channels=2, lmax=1, num_layers=1), Path("silent"))
    assert main(["compare", *arguments]) == 2
    assert message in capsys.readouterr().err
