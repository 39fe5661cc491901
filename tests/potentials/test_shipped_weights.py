"""Weights that travel with the package, and how they get there."""

import json

import numpy as np
import pytest
from ase import units
from ase.build import molecule
from ase.io import write
from ase.md.verlet import VelocityVerlet

from sciml.cli import main
from sciml.potentials import PotentialCalculator, checkpoint, load_potential, save_potential, shipped_structure
from sciml.potentials.checkpoint import WEIGHTS, available_weights, read_config
from sciml.potentials.facet import Facet
from sciml.potentials.ship import ship

TEXTS = {"data": "water, made up", "licence": "MIT", "limits": "nothing but tests"}


@pytest.mark.parametrize("name", available_weights())
def test_shipped_weights_drive_molecular_dynamics(name):
    atoms = shipped_structure(name)
    atoms.calc = PotentialCalculator.from_checkpoint(name, dtype="float64")
    assert np.abs(atoms.get_forces()).max() < 0.01
    atoms.rattle(0.02, seed=0)
    start = atoms.get_total_energy()
    VelocityVerlet(atoms, 0.25 * units.fs).run(20)  # its error falls as the square of the step
    assert atoms.get_kinetic_energy() > 0.01
    assert abs(atoms.get_total_energy() - start) < 2e-3


@pytest.mark.parametrize("name", available_weights())
def test_cards_tell_the_truth(name, capsys):
    folder = WEIGHTS / name
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "config.json", "model.safetensors", "structure.xyz"
    ]  # fmt: skip
    assert (folder / "model.safetensors").stat().st_size < 5e6
    card = read_config(folder)["metadata"]["card"]
    assert card["num_weights"] == sum(parameter.numel() for parameter in load_potential(name).parameters())
    assert card["validation"]["forces"] < 0.1
    assert main(["models", name]) == 0
    shown = capsys.readouterr().out
    assert card["licence"] in shown
    assert f"{1e3 * card['validation']['forces']:.4g}" in shown


def test_a_run_becomes_weights(tmp_path, monkeypatch, capsys):
    save_potential(
        Facet(species=[1, 8], channels=4, cutoff=3.0),
        tmp_path / "run" / "best",
        metadata={"valid_forces_rmse": 0.05, "valid_energy_per_atom_rmse": 0.002, "epoch": 3},
    )
    write(tmp_path / "water.xyz", molecule("H2O"))
    arguments = {**TEXTS, "structure": str(tmp_path / "water.xyz"), "weights": tmp_path / "weights"}
    folder = ship(str(tmp_path / "run"), "water-facet", **arguments)
    monkeypatch.setattr(checkpoint, "WEIGHTS", tmp_path / "weights")
    assert available_weights() == ["water-facet"]
    assert len(shipped_structure("water-facet")) == 3
    assert str(tmp_path) not in (folder / "config.json").read_text() + (folder / "README.md").read_text()
    assert json.loads((folder / "config.json").read_text())["metadata"]["card"]["limits"] == TEXTS["limits"]
    assert main(["models"]) == 0
    assert "water-facet" in capsys.readouterr().out
    with pytest.raises(ValueError, match="exists; give --replace"):
        ship(str(tmp_path / "run"), "water-facet", **arguments)
    with pytest.raises(ValueError, match="expected small letters"):
        ship(str(tmp_path / "run"), "Water", **arguments)
    with pytest.raises(ValueError, match="got an empty licence"):
        ship(str(tmp_path / "run"), "water", **(arguments | {"licence": " "}))
    save_potential(Facet(species=[1, 8], channels=4, cutoff=3.0), tmp_path / "unknown")
    with pytest.raises(ValueError, match="has no errors of validation or test"):
        ship(str(tmp_path / "unknown"), "water", **arguments)


def test_unknown_names_are_told_apart(capsys):
    assert main(["models", "facets"]) == 2
    assert "did you mean facet" in capsys.readouterr().err
    with pytest.raises(ValueError, match="no shipped weights of that name"):
        shipped_structure("atlantis")
