import numpy as np
import pytest
import torch
from ase.build import molecule

from sciml.graphs import collate, graph_from_atoms
from sciml.potentials import Committee, LennardJones, PotentialCalculator, load_potential, save_potential
from sciml.potentials.escaip import EScAIP
from sciml.potentials.tdn import TDN
from sciml.testing import check_potential


def members(number=3, **arguments):
    potentials = []
    for seed in range(number):
        torch.manual_seed(seed)
        potentials.append(TDN(**{"species": [1, 6, 8], "channels": 8, "num_blocks": 1, "cutoff": 3.0, **arguments}))
    return potentials


def test_means_and_spreads_are_those_of_the_members():
    potentials = members()
    committee = Committee(potentials).double().eval()
    graph = collate([graph_from_atoms(molecule(name), 3.0) for name in ("CH3CH2OH", "H2O")])
    outputs = [potential(graph) for potential in potentials]
    out = committee(graph)
    forces = torch.stack([o.forces for o in outputs]).numpy()
    energies = torch.stack([o.energy for o in outputs]).numpy()
    np.testing.assert_allclose(out.forces.numpy(), forces.mean(axis=0), atol=1e-14)
    np.testing.assert_allclose(out.energy_spread.numpy(), energies.std(axis=0))
    distances = np.linalg.norm(forces - forces.mean(axis=0), axis=2)
    np.testing.assert_allclose(out.forces_spread.numpy(), np.sqrt((distances**2).mean(axis=0)))


def test_obeys_the_laws_of_a_potential():
    check_potential(Committee(members(2, species=[1, 8])))


def test_calculator_gives_the_spreads_of_a_checkpoint(tmp_path):
    save_potential(Committee(members(2)), tmp_path / "both")
    for number, potential in enumerate(members(2)):
        save_potential(potential, tmp_path / str(number))
    forces = []
    for committee in (load_potential(tmp_path / "both"), Committee.from_checkpoints([tmp_path / "0", tmp_path / "1"])):
        atoms = molecule("H2O")
        atoms.calc = PotentialCalculator(committee)
        forces.append(atoms.get_forces())
        assert atoms.calc.results["energy_spread"] > 0
        assert atoms.calc.results["forces_spread"].shape == (3,)
    np.testing.assert_array_equal(*forces)


def test_twins_have_no_spread():
    (one,) = members(1)
    out = Committee([one, one]).eval()(graph_from_atoms(molecule("H2O"), 3.0))
    assert out.forces_spread.tolist() == [0.0] * 3


def test_it_is_as_conservative_and_symmetric_as_its_worst_member():
    (one,) = members(1)
    direct = EScAIP(species=[1, 6, 8], cutoff=3.0, forces="direct", channels=16)
    assert Committee([one, one]).conservative
    assert not Committee([one, direct]).conservative
    assert Committee([one, direct]).symmetry == "none"


def test_members_have_to_fit():
    (one,) = members(1)
    with pytest.raises(ValueError, match="got 1 members; a committee has at least two"):
        Committee([one])
    with pytest.raises(ValueError, match=r"differ in cutoff: 3.0, 4.0"):
        Committee([one, *members(1, cutoff=4.0)])
    with pytest.raises(ValueError, match=r"differ in species: \(1, 6, 8\), \(18,\)"):
        Committee([one, LennardJones({"Ar-Ar": {"epsilon": 0.01, "sigma": 3.4}}, 3.0)])


def test_atomic_energies_hold_the_repulsion_of_the_members():
    committee = Committee(members(2, repulsion=True)).double().eval()
    atoms = molecule("H2O")
    atoms.positions *= 0.3
    graph = graph_from_atoms(atoms, 3.0)
    torch.testing.assert_close(committee.atomic_energies(graph, graph.edge_vectors()), committee(graph).energies)
