import numpy as np
import pytest
import torch
from ase.build import molecule

from sciml.cli.train_shifts import KEY, refit_checkpoint, refit_shifts
from sciml.graphs import collate, graph_from_atoms
from sciml.potentials import Facet
from sciml.potentials.checkpoint import load_potential, read_config, save_potential
from sciml.training.losses import LossTerm, PotentialObjective

OBJECTIVE = PotentialObjective({"energy_per_atom": LossTerm(kind="mse")})


@pytest.fixture
def potential():
    torch.manual_seed(0)
    return Facet(species=[1, 6, 8], channels=4, lmax=1, num_layers=1, cutoff=3.0, shifts=[0.1, 0.2, 0.3]).double()


def labelled(potential, names, offsets):
    """Rattled molecules with the potential's own energies, moved by `offsets` for each H, C and O."""
    rng = np.random.default_rng(0)
    graphs = []
    for name in names:
        atoms = molecule(name)
        atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
        graph = graph_from_atoms(atoms, potential.cutoff)
        counts = torch.tensor([(atoms.numbers == z).sum() for z in potential.species])
        graph.energy = potential(collate([graph])).energy.detach() + counts.double() @ torch.tensor(
            offsets, dtype=torch.float64
        )
        graph.forces = torch.full((len(atoms), 3), torch.nan, dtype=torch.float64)
        graphs.append(graph)
    return graphs


MOLECULES = ("CH3CH2OH", "CH4", "H2O", "CO2", "CH3OH", "C2H6")


def test_offsets_of_the_elements_are_found(potential):
    offsets = [0.02, -0.01, 0.05]
    batch = collate(labelled(potential, MOLECULES, offsets))
    moves = refit_shifts(potential, [batch])
    assert list(moves) == ["H", "C", "O"]
    assert list(moves.values()) == pytest.approx(offsets, abs=1e-10)
    assert potential.shifts.tolist() == pytest.approx([0.12, 0.19, 0.35], abs=1e-7)
    torch.testing.assert_close(potential(batch).energy, batch.energy, rtol=0, atol=1e-9)


def test_structures_without_energy_do_not_count(potential):
    graphs = labelled(potential, ("CH4", "CH4"), [0.01, 0.01, 0.0])
    graphs[1].energy = torch.full_like(graphs[1].energy, torch.nan)
    moves = refit_shifts(potential, [collate(graphs)])
    assert moves["O"] == 0.0  # of the solutions the one of smallest norm
    assert 4 * moves["H"] + moves["C"] == pytest.approx(0.05)
    assert refit_shifts(potential, [collate(graphs[1:])]) == {}


def test_a_checkpoint_is_refitted_once_and_only_for_the_better(potential, tmp_path):
    save_potential(potential, tmp_path / "a", metadata={"valid_loss": 1.0, "epoch": 3})
    right, wrong = (collate(labelled(potential, MOLECULES, [x, x, x])) for x in (0.03, -0.03))
    assert refit_checkpoint(tmp_path / "a", OBJECTIVE, train=[wrong], valid=[right]) == ""
    torch.testing.assert_close(load_potential(tmp_path / "a").shifts, potential.shifts)
    assert "30.000 → 0.000 meV/atom" in refit_checkpoint(tmp_path / "a", OBJECTIVE, train=[right], valid=[right])
    metadata = read_config(tmp_path / "a")["metadata"]
    assert metadata["epoch"] == 3
    assert metadata["valid_loss"] == pytest.approx(1.0 - 0.03**2)
    assert metadata["valid_energy_per_atom_rmse"] == pytest.approx(0.0, abs=1e-9)
    assert metadata[KEY] == pytest.approx(dict.fromkeys(("H", "C", "O"), 0.03))
    before = (tmp_path / "a" / "config.json").read_bytes()
    assert refit_checkpoint(tmp_path / "a", OBJECTIVE, train=[right], valid=[right]) == ""
    assert (tmp_path / "a" / "config.json").read_bytes() == before
