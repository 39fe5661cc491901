"""Errors agree with numbers worked out by hand, and missing labels are left out of them."""

import json
import math

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from sciml.cli.evaluate import Config, error_table, run
from sciml.graphs import graph_from_atoms
from sciml.potentials.checkpoint import MODELS, load_potential, save_potential
from sciml.potentials.evaluation import evaluate
from sciml.potentials.parity_plot import parity_plot
from tests.embedded_potential import Embedded


@pytest.fixture
def potential():
    return Embedded(species=[1, 6, 8]).double().eval()


def labelled(potential, atoms, *, energy=0.0, forces=None, stress=None):
    """Graph whose labels are the prediction plus the given errors; None leaves the label out as NaN."""
    graph = graph_from_atoms(atoms, potential.cutoff)
    output = potential(graph)
    graph.energy = output.energy - math.nan if energy is None else output.energy - energy
    graph.forces = output.forces * math.nan if forces is None else output.forces - torch.as_tensor(forces)
    graph.stress = output.stress * math.nan if stress is None else output.stress - torch.as_tensor(stress)
    return graph


def test_errors_by_hand(potential):
    water, methanol, diamond = molecule("H2O"), molecule("CH3OH"), bulk("C", cubic=True)
    on_oxygen = np.zeros((3, 3))
    on_oxygen[0] = [0.3, 0.0, -0.4]
    stress = np.diag([0.6, 0.0, 0.0])
    graphs = [
        labelled(potential, water, energy=0.03, forces=on_oxygen),
        labelled(potential, methanol, energy=-0.12),
        labelled(potential, diamond, energy=None, forces=np.zeros((8, 3)), stress=stress[None]),
    ]
    result = evaluate(potential, graphs, config_types=["water", "methanol", "water"], max_atoms=9)

    overall = result.overall
    assert overall["energy"].count == 2
    assert overall["energy"].mae == pytest.approx(0.075)
    assert overall["energy"].rmse == pytest.approx(math.sqrt((0.03**2 + 0.12**2) / 2))
    assert overall["energy_per_atom"].mae == pytest.approx((0.01 + 0.02) / 2)
    assert overall["forces"].count == 3 * (3 + 8)
    assert overall["forces"].mae == pytest.approx(0.7 / 33)
    assert overall["forces"].rmse == pytest.approx(math.sqrt(0.25 / 33))
    assert overall["stress"].count == 6
    assert overall["stress"].mae == pytest.approx(0.1)

    groups = result.by_config_type
    assert groups["methanol"].keys() == {"energy", "energy_per_atom"}
    assert groups["water"]["energy"].mae == pytest.approx(0.03)
    assert groups["water"]["forces"].count == 33

    elements = result.forces_by_element
    assert elements.keys() == {"H", "C", "O"}
    assert elements["O"].mae == pytest.approx(0.7 / 3)
    assert elements["H"].rmse == pytest.approx(0, abs=1e-12)


def test_batches_do_not_change_the_errors(potential):
    rng = np.random.default_rng(0)
    graphs = []
    for name in ["H2O", "CH4", "CH3OH", "H2O", "C2H6"]:
        atoms = molecule(name)
        graphs.append(labelled(potential, atoms, energy=rng.normal(), forces=rng.normal(size=(len(atoms), 3))))
    one, several, all_at_once = (
        evaluate(potential, graphs, max_atoms=max_atoms).comparisons["forces"].predicted for max_atoms in (1, 10, 1000)
    )
    np.testing.assert_allclose(one, all_at_once, atol=1e-12)
    np.testing.assert_allclose(several, all_at_once, atol=1e-12)
    counts = []
    evaluate(potential, graphs, max_edges=30, progress=counts.append)
    assert sum(counts) == 5
    assert len(counts) > 1


def test_graphs_without_labels_of_a_kind(potential):
    graph = graph_from_atoms(molecule("H2O"), potential.cutoff)
    graph.energy = torch.zeros(1, dtype=torch.float64)
    assert evaluate(potential, [graph]).overall.keys() == {"energy", "energy_per_atom"}


def test_stress_of_a_molecule_is_ignored(potential):
    graph = labelled(potential, molecule("H2O"))
    graph.stress = torch.zeros(1, 3, 3, dtype=torch.float64)
    assert "stress" not in evaluate(potential, [graph]).overall


def test_training_mode_is_restored(potential):
    potential.train()
    evaluate(potential, [labelled(potential.eval(), molecule("H2O"))])
    assert not potential.training
    graph = labelled(potential, molecule("H2O"))
    evaluate(potential.train(), [graph])
    assert potential.training


def test_nonsense_is_refused(potential):
    graph = graph_from_atoms(molecule("H2O"), potential.cutoff)
    with pytest.raises(ValueError, match="no structures"):
        evaluate(potential, [])
    with pytest.raises(ValueError, match="none of the structures has"):
        evaluate(potential, [graph])
    with pytest.raises(ValueError, match="1 structures and 2 config_types"):
        evaluate(potential, [graph], config_types=["a", "b"])
    with pytest.raises(ValueError, match="max_atoms=0"):
        evaluate(potential, [graph], max_atoms=0)
    with pytest.raises(ValueError, match="structure 1: atom 0 is Au"):
        evaluate(potential, [graph, graph_from_atoms(Atoms("Au"), potential.cutoff)])
    with torch.no_grad():
        next(potential.parameters()).fill_(torch.nan)
    graph.energy = torch.zeros(1)
    with pytest.raises(ValueError, match="prediction for structure 0 is not finite"):
        evaluate(potential, [graph])


def test_parity_plot_has_a_panel_for_each_property(potential):
    crystal = bulk("C", cubic=True)
    crystal.rattle(0.05, seed=1)
    result = evaluate(potential, [labelled(potential, crystal, forces=np.full((8, 3), 0.1), stress=np.eye(3)[None])])
    figure = parity_plot(result)
    assert [axes.get_title() for axes in figure.axes] == ["energy per atom", "force components", "stress components"]
    assert "MAE 100 meV/Å" in figure.axes[1].texts[0].get_text()


def test_command_writes_json_and_plot(potential, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(MODELS, "embedded", "tests.embedded_potential:Embedded")
    save_potential(potential, tmp_path / "checkpoint")
    frames = []
    for seed in range(4):
        atoms = molecule("CH3OH")
        atoms.rattle(0.05, seed=seed)
        output = load_potential(tmp_path / "checkpoint")(graph_from_atoms(atoms, potential.cutoff))
        results = {"energy": output.energy.item() + 0.01, "forces": output.forces.numpy()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        atoms.info["config_type"] = "[even]" if seed % 2 == 0 else "odd"
        frames.append(atoms)
    ase.io.write(tmp_path / "test.xyz", frames, format="extxyz")
    run(Config(str(tmp_path / "checkpoint"), [str(tmp_path / "test.xyz")], str(tmp_path / "out")))
    report = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert report["overall"]["energy"]["mae"] == pytest.approx(0.01, rel=1e-4)
    assert report["overall"]["forces"]["mae"] < 1e-7
    assert report["by_config_type"].keys() == {"[even]", "odd"}
    assert report["forces_by_element"]["H"]["count"] == 4 * 4 * 3
    assert len(report["data"][0]["sha256"]) == 64
    assert report["versions"]["torch"] == torch.__version__
    assert (tmp_path / "out" / "parity.png").stat().st_size > 1000
    printed = capsys.readouterr().out
    assert "4 structures" in printed
    assert "[even]" in printed


def test_an_unknown_element_is_named_with_file_and_frame(tmp_path, potential, monkeypatch):
    monkeypatch.setitem(MODELS, "embedded", "tests.embedded_potential:Embedded")
    save_potential(potential, tmp_path / "checkpoint")
    frames = [molecule("CH3OH"), molecule("SiH4")]
    for atoms in frames:
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.zeros((len(atoms), 3)))
    ase.io.write(tmp_path / "test.xyz", frames, format="extxyz")
    with pytest.raises(ValueError, match=r"test\.xyz, frame 1: atom 0 is Si"):
        run(Config(str(tmp_path / "checkpoint"), [str(tmp_path / "test.xyz")], str(tmp_path / "out")))


def test_table_lists_elements(potential):
    table = error_table(evaluate(potential, [labelled(potential, molecule("H2O"), forces=np.zeros((3, 3)))]))
    labels, properties = (list(table.columns[index].cells) for index in (0, 1))
    assert labels == ["all", "", "", "H", "O"]
    assert properties == ["energy", "energy/atom", "forces", "forces", "forces"]
