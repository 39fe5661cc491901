import csv
import json
import re
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
import yaml
from ase import Atoms
from ase.calculators.morse import MorsePotential

from sciml.cli import main
from sciml.graphs import graph_from_atoms
from sciml.potentials import load_potential
from sciml.potentials.training_domain import read_training_domain

MODEL = ["--model.channels", "4", "--model.lmax", "1", "--model.num_layers", "1", "--model.cutoff", "3.0"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # The dispatcher's console is as wide as the terminal; lines must not break within what the tests look for.
    monkeypatch.setenv("COLUMNS", "200")


def text(path):
    return Path(path).read_text(encoding="utf-8")


def write_data(name, *, number=14, symbols="OH2", seed=0, isolated=True):
    rng = np.random.default_rng(seed)
    frames = []
    if isolated:
        elements = dict.fromkeys(Atoms(symbols).get_chemical_symbols())
        frames += [Atoms(e, info={"config_type": "isolated_atom"}) for e in elements]
    for _ in range(number):
        positions = np.array([[0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]]) + 0.1 * rng.normal(size=(3, 3))
        frames.append(Atoms(symbols, positions=positions))
    for atoms in frames:
        atoms.calc = MorsePotential(epsilon=1.0, r0=1.0, rho0=3.0, rcut1=3.0, rcut2=4.0)
        atoms.info["ref_energy"] = atoms.get_potential_energy() - 10.0 * len(atoms)
        atoms.arrays["ref_forces"] = atoms.get_forces()
        atoms.calc = None
    ase.io.write(name, frames, format="extxyz")
    return name


KEYS = ["--keys.energy", "ref_energy", "--keys.forces", "ref_forces"]
DATA = ["--train", "data.xyz", "--valid_fraction", "0.2", *KEYS]


def train(*arguments, data=DATA, model=MODEL):
    return main(["train", *data, *model, "--batch_size", "4", "--device", "cpu", *arguments])


def test_a_run_folder_is_complete_and_its_checkpoint_loads(capsys):
    write_data("data.xyz")
    assert train("--output", "run", "--max_epochs", "2", "--loss.forces.weight", "7") == 0
    out = capsys.readouterr().out
    assert "11 structures, 3 for validation" in out
    assert "meV/Å" in out
    potential = load_potential("run/best")
    assert potential.species == (1, 8)
    config = json.loads(text("run/best/config.json"))
    assert config["dtype"] == "float32"
    assert config["metadata"]["valid_forces_mae"] > 0
    domain = read_training_domain("run/best")
    assert read_training_domain("run/last") == domain
    assert set(domain.shortest) == {(1, 1), (1, 8)}
    assert 0.6 < domain.shortest[1, 8] < 1
    assert domain.largest_force > 0
    written = yaml.safe_load(text("run/config.yaml"))
    assert written["loss"]["forces"] == {"weight": 7.0, "kind": "norm", "delta": 0.01, "second_weight": None}
    assert written["model"]["channels"] == 4
    rows = list(csv.DictReader(text("run/metrics.csv").splitlines()))
    assert len(rows) == 2
    assert "valid_stress_mae" not in rows[0]
    assert "epoch 2, step 6" in text("run/train.log")
    assert torch.load("run/last/training_state.pt", weights_only=True)["progress"]["stopped"] == "max_epochs"

    assert train("--output", "run", "--max_epochs", "2", "--loss.forces.weight", "7") == 0
    assert "finished" in text("run/train.log")


def test_yaml_of_a_run_repeats_it_and_other_settings_are_refused(capsys):
    write_data("data.xyz")
    assert train("--output", "a", "--max_epochs", "2") == 0
    assert main(["train", "--config", "a/config.yaml", "--output", "b"]) == 0
    assert text("a/metrics.csv") == text("b/metrics.csv")
    capsys.readouterr()
    assert train("--output", "a", "--max_epochs", "2", "--optimizer.learning_rate", "0.1") == 2
    assert "optimizer.learning_rate: 0.005 then, 0.1 now" in capsys.readouterr().err
    write_data("data.xyz", seed=1)
    assert train("--output", "a", "--max_epochs", "2") == 2
    assert "training data" in capsys.readouterr().err


def test_isolated_atoms_give_reference_energies_and_are_not_trained_on():
    write_data("data.xyz")
    write_data("valid.xyz", number=3, seed=1)
    assert train("--output", "run", "--valid", "valid.xyz", "--test", "valid.xyz", "--max_epochs", "1") == 0
    log = text("run/train.log")
    assert "H -10.000000, O -10.000000" in log
    assert "14 structures, 3 for validation" in log
    assert Path("run/test/parity.png").exists()
    assert json.loads(text("run/test/evaluation.json"))["num_structures"] == 3


def test_a_model_starts_at_the_mean_binding_energy():
    write_data("data.xyz")
    assert train("--output", "run", "--max_steps", "1", "--optimizer.learning_rate", "1e-12") == 0
    potential = load_potential("run/last")
    binding = [atoms.info["ref_energy"] + 10.0 * len(atoms) for atoms in ase.io.read("data.xyz@2:")]
    hydrogen, oxygen = potential.config["shifts"]
    assert hydrogen == pytest.approx(2 * oxygen, abs=2e-6)  # of the smallest norm, for H2O
    assert 2 * hydrogen + oxygen == pytest.approx(np.mean(binding), abs=0.1)
    np.testing.assert_allclose(potential.shifts.detach(), potential.config["shifts"], rtol=1e-5)

    given = [*MODEL, "--model.shifts", "[1.0, 2.0]"]
    assert train("--output", "b", "--max_steps", "1", model=given) == 0
    assert load_potential("b/last").config["shifts"] == [1.0, 2.0]


def test_the_equivariance_error_is_known_to_the_checkpoint_and_to_evaluate(capsys):
    write_data("data.xyz")
    assert train("--output", "exact", "--max_steps", "1") == 0
    assert "WARNING" not in text("exact/train.log")
    silu = [*MODEL, "--model.activation", "silu", "--model.lmax", "2"]
    assert train("--output", "silu", "--max_steps", "1", "--test", "data.xyz@:5", model=silu) == 0
    assert "model.activation = product is exact on its grid, this model has silu" in text("silu/train.log")
    assert "equivariance error of the model's sphere grids" in capsys.readouterr().out
    errors = [
        json.loads(text(f"{run}/best/config.json"))["metadata"]["equivariance_error"] for run in ("exact", "silu")
    ]
    assert 0 < errors[0] < 1e-12
    assert 1e-3 < errors[1] < 1
    assert json.loads(text("silu/test/evaluation.json"))["checkpoint"]["equivariance_error"] == errors[1]


def test_fine_tuning_starts_from_the_weights(capsys):
    write_data("data.xyz")
    assert train("--output", "a", "--max_epochs", "3") == 0
    fine = ["--output", "b", "--init_from", "a/best", "--max_epochs", "1", "--optimizer.learning_rate", "1e-12"]
    assert train(*fine, model=[]) == 0
    before, after = load_potential("a/best"), load_potential("b/last")
    for name, weight in before.named_parameters():
        torch.testing.assert_close(dict(after.named_parameters())[name], weight, rtol=0, atol=1e-9)
    assert before.config == after.config

    energies = ["--output", "c", "--reference_energies", '{"H": -1.0, "O": -2.0}']
    assert train(*fine, *energies, model=[]) == 0
    graph = graph_from_atoms(ase.io.read("data.xyz@5"), before.cutoff)
    difference = load_potential("c/last")(graph).energy - before(graph).energy
    assert difference.item() == pytest.approx(30.0 - 4.0, abs=1e-4)

    double = ["--dtype", "float64", "--max_epochs", "1", "--optimizer.learning_rate", "1e-12"]
    assert train("--output", "a64", *double) == 0
    assert train("--output", "c64", *double, *energies[2:], "--init_from", "a64/best", model=[]) == 0
    before, after = (dict(load_potential(name).named_parameters()) for name in ("a64/best", "c64/last"))
    for name, weight in before.items():
        torch.testing.assert_close(after[name], weight, rtol=0, atol=1e-10)  # not rounded to float32 on the way

    capsys.readouterr()
    assert train(*fine, "--output", "d", model=["--model.channels", "8"]) == 2
    assert "architecture" in capsys.readouterr().err
    write_data("data.xyz", symbols="NH2")
    assert train(*fine, "--output", "e", model=[]) == 2
    error = capsys.readouterr().err
    assert "contain N" in error
    assert "knows only H, O" in error


def test_validation_structures_that_are_trained_on_are_warned_about(capsys):
    write_data("data.xyz")
    data = ["--train", "data.xyz", "--valid", "data.xyz", *KEYS]
    assert train("--output", "run", "--max_epochs", "1", data=data) == 0
    assert "14 of 14 validation structures are also in the training set" in " ".join(text("run/train.log").split())


def test_a_check_can_be_switched_off_by_a_flag(capsys):
    write_data("data.xyz")
    frames = ase.io.read("data.xyz", ":")
    frames[5].arrays["ref_forces"][0] = np.nan
    ase.io.write("data.xyz", frames, format="extxyz")
    assert train("--output", "run", "--max_epochs", "1") == 2
    assert "set the check finite_labels to False" in capsys.readouterr().err
    assert train("--output", "run", "--max_epochs", "1", "--checks.finite_labels", "false") == 0


def test_an_element_that_only_the_validation_has_is_named(capsys):
    write_data("data.xyz")
    write_data("valid.xyz", symbols="NH2", isolated=False)
    assert train("--output", "run", "--valid", "valid.xyz") == 2
    assert "valid.xyz, frame 0: atom 0 is N, which this potential does not know" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.name", "faset"], "facet"),
        (["--model.chanels", "3"], "channels"),
        (["--device", "gpu"], "auto, cpu, cuda"),
        (["--threads", "0"], "threads"),
        (["--max_epochs", "0"], "max_epochs"),
        (["--loss.forces.kind", "l2"], "kind"),
        (["--optimizer.clip_norm", "-1"], "clip_norm"),
        (["--batch_size", "0"], "batch_size"),
        (["--reference_energies", "guess"], "guess"),
        (["--init_from", "nowhere"], "nowhere"),
        (["--loss.energy.weight", "0", "--loss.forces.weight", "0"], "weight"),
        (["--train", "missing.xyz"], "missing.xyz"),
    ],
)
def test_nonsense_is_refused_in_one_message(arguments, message, capsys):
    write_data("data.xyz")
    assert train("--output", "run", "--max_epochs", "1", *arguments) == 2
    error = capsys.readouterr().err
    assert re.match("sciml train: error: ", error)
    assert message in error
    assert "Traceback" not in error


def test_a_diverging_run_names_file_and_frame(capsys):
    write_data("data.xyz")
    options = ["--optimizer.learning_rate", "1e30", "--optimizer.clip_norm", "null"]
    assert train("--output", "run", "--max_epochs", "5", *options) == 2
    error = capsys.readouterr().err
    assert "epoch" in error
    assert "smaller optimizer.learning_rate" in error
    assert "smaller optimizer.learning_rate" in text("run/train.log")


def test_a_potential_without_symmetry_reports_its_rotation_error(capsys):
    write_data("data.xyz")
    model = ["--model.name", "transip", "--model.channels", "24", "--model.num_heads", "2", "--model.num_blocks", "1"]
    options = ["--loss.equivariance.weight", "0.5", "--loss.equivariance.hidden", "8", "--augment_rotations", "true"]
    assert train("--output", "run", "--max_epochs", "2", "--test", "data.xyz@2:7", *options, model=model) == 0
    out, log = capsys.readouterr().out, text("run/train.log")
    assert "before training" in log
    assert "rotation error: forces" in out
    assert "turning a structure changes its forces by" in out
    metadata = json.loads(text("run/best/config.json"))["metadata"]
    assert metadata["rotation_error"]["forces"] > 0
    assert json.loads(text("run/test/evaluation.json"))["rotation_error"]["energy_per_atom"] > 0
    assert "valid_equivariance_rmse" in text("run/metrics.csv")
    assert yaml.safe_load(text("run/config.yaml"))["loss"]["equivariance"] == {
        "weight": 0.5,
        "network": "learned",
        "hidden": 8,
        "pooled": False,
    }
    assert train("--output", "facet", *options) == 2
    assert "Facet is invariant under O(3) by construction" in capsys.readouterr().err
