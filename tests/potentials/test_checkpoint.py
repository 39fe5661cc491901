"""A checkpoint gives back the same potential, and anything else gives an error that says what is wrong."""

import json

import pytest
import torch
from ase.build import molecule

from sciml.graphs import graph_from_atoms
from sciml.potentials import checkpoint
from sciml.potentials.checkpoint import MODELS, build_potential, load_potential, read_config, save_potential
from tests.embedded_potential import Embedded


@pytest.fixture(autouse=True)
def _models(monkeypatch):
    monkeypatch.setitem(MODELS, "embedded", "tests.embedded_potential:Embedded")


@pytest.fixture
def folder(tmp_path):
    save_potential(trained(), tmp_path / "best", metadata={"epoch": 3})
    return tmp_path / "best"


def trained():
    potential = Embedded(width=0.7)
    with torch.no_grad():
        potential.charge += torch.rand(2)
    return potential


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_prediction_survives_to_the_last_bit(tmp_path, dtype):
    potential = trained().to(getattr(torch, dtype)).eval()
    save_potential(potential, tmp_path)
    loaded = load_potential(tmp_path)
    graph = graph_from_atoms(molecule("H2O"), potential.cutoff)
    assert not loaded.training
    for one, other in zip(potential(graph), loaded(graph), strict=True):
        assert torch.equal(one, other) or (one.isnan().all() and other.isnan().all())
    assert loaded.charge.dtype == getattr(torch, dtype)
    assert loaded.width == 0.7


def test_dtype_can_be_changed_but_references_stay_exact(folder):
    single, double = load_potential(folder, dtype="float32"), load_potential(folder, dtype=torch.float64)
    assert (single.charge.dtype, double.charge.dtype) == (torch.float32, torch.float64)
    assert single.reference.dtype == double.reference.dtype == torch.float64
    assert torch.equal(single.double().reference, double.reference)


def test_files_hold_no_code(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    description = read_config(folder)
    assert description["format_version"] == 1
    assert description["model"] == "embedded"
    assert description["dtype"] == "float32"
    assert description["metadata"] == {"epoch": 3}


def test_saving_twice_replaces(folder):
    changed = trained()
    save_potential(changed, folder)
    assert torch.equal(load_potential(folder).charge, changed.charge)


def test_shipped_weights_are_found_by_name(folder, monkeypatch):
    monkeypatch.setattr(checkpoint, "WEIGHTS", folder.parent)
    assert load_potential("best").width == 0.7
    with pytest.raises(ValueError, match=r"did you mean best.*shipped weights are best"):
        load_potential("bets")


def test_missing_checkpoint_names_what_exists(folder):
    with pytest.raises(ValueError, match="no shipped weights of that name"):
        load_potential("atlantis")
    with pytest.raises(ValueError, match=r"is not a checkpoint.*contains the checkpoints .*best"):
        load_potential(folder.parent)


def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "format version 2, this package reads up to 1; upgrade"),
        ({"format_version": None}, "has no format_version"),
        ({"model": "embeded"}, "no model 'embeded'; did you mean embedded"),
        ({"model": "os:system"}, "no model 'os:system'"),
        ({"config": {"widht": 1.0}}, "no argument 'widht'; did you mean width"),
        ({"config": {"species": [1, 6, 8]}}, "does not fit the model of its config.json .*charge"),
        ({"dtype": "float16"}, "got dtype 'float16'"),
    ],
)
def test_damaged_config(folder, changes, message):
    edit(folder, **changes)
    with pytest.raises(ValueError, match=message):
        load_potential(folder)


def test_damaged_files(folder):
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-3])
    with pytest.raises(ValueError, match="is damaged"):
        load_potential(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has no model\.safetensors"):
        load_potential(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        load_potential(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="has no format_version"):
        load_potential(folder)


def test_unknown_device(folder):
    with pytest.raises(ValueError, match="cannot use the device 'abacus'"):
        load_potential(folder, device="abacus")


def test_class_without_a_name_is_not_saved(tmp_path, monkeypatch):
    monkeypatch.delitem(MODELS, "embedded")
    with pytest.raises(ValueError, match="has no name: add one with"):
        save_potential(trained(), tmp_path)
    monkeypatch.setitem(MODELS, "embedded", "tests.embedded_potential:Embedded")
    with pytest.raises(ValueError, match="must be JSON values"):
        save_potential(trained(), tmp_path, metadata={"loss": object()})
    assert list(tmp_path.iterdir()) == []


def test_build_potential():
    assert build_potential("embedded", {"cutoff": 4.0}).cutoff == 4.0
    argon = {"pairs": {"Ar-Ar": {"epsilon": 0.0104, "sigma": 3.4}}, "cutoff": 8.5}
    assert build_potential("lennard_jones", argon).species == (18,)
    with pytest.raises(ValueError, match="needs the argument"):
        build_potential("lennard_jones", {})
