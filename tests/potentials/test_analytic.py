"""Pair potentials against ASE, finite differences and closed forms."""

import json

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones as AseLennardJones
from ase.calculators.morse import MorsePotential as AseMorse
from ase.stress import voigt_6_to_full_3x3_stress

from sciml.graphs import graph_from_atoms
from sciml.potentials.analytic import LennardJones, Morse
from sciml.testing import check_potential

ARGON = {"Ar-Ar": {"epsilon": 0.0104, "sigma": 3.4}}
COPPER = {"Cu-Cu": {"depth": 0.35, "steepness": 1.36, "distance": 2.87}}
MIXTURE = {
    "Ar-Ar": {"epsilon": 0.0104, "sigma": 3.4},
    "Ne-Ar": {"epsilon": 0.006, "sigma": 3.1},
    "Ne-Ne": {"epsilon": 0.003, "sigma": 2.8},
}
ALLOY = {
    "Cu-Cu": {"depth": 0.35, "steepness": 1.36, "distance": 2.87},
    "Al-Cu": {"depth": 0.3, "steepness": 1.25, "distance": 3.0},
    "Al-Al": {"depth": 0.27, "steepness": 1.16, "distance": 3.25},
}
POTENTIALS = [LennardJones(MIXTURE, 5.0), Morse(ALLOY, 5.0), LennardJones(MIXTURE, 4.0, onset=0.0)]


def evaluate(potential, atoms):
    return potential.eval()(graph_from_atoms(atoms, potential.cutoff))


def rattled(atoms, seed=0):
    atoms.rattle(0.1, seed=seed)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.03 * np.arange(9).reshape(3, 3) / 9), scale_atoms=True)
    return atoms


def test_morse_is_ases_in_a_cell_smaller_than_the_cutoff():
    atoms = rattled(bulk("Cu", cubic=True))
    atoms.calc = AseMorse(epsilon=0.35, rho0=1.36 * 2.87, r0=2.87, rcut1=4.0 / 2.87, rcut2=5.5 / 2.87)
    output = evaluate(Morse(COPPER, 5.5, onset=4.0), atoms)
    assert output.energy.item() == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
    np.testing.assert_allclose(output.energies, atoms.get_potential_energies(), rtol=1e-12)
    np.testing.assert_allclose(output.forces, atoms.get_forces(), atol=1e-13)
    np.testing.assert_allclose(output.stress[0], voigt_6_to_full_3x3_stress(atoms.get_stress()), atol=1e-15)


def test_lennard_jones_is_ases_below_the_onset():
    atoms = rattled(bulk("Ar", "fcc", a=5.3, cubic=True))
    atoms.calc = AseLennardJones(epsilon=0.0104, sigma=3.4, rc=4.6)  # one shell, all of it below the onset
    output = evaluate(LennardJones(ARGON, 4.6, onset=4.59), atoms)
    num_pairs = graph_from_atoms(atoms, 4.6).num_edges / 2
    assert num_pairs == 24
    shift = 4 * 0.0104 * ((3.4 / 4.6) ** 12 - (3.4 / 4.6) ** 6)
    assert output.energy.item() - num_pairs * shift == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
    np.testing.assert_allclose(output.forces, atoms.get_forces(), atol=1e-14)
    np.testing.assert_allclose(output.stress[0], voigt_6_to_full_3x3_stress(atoms.get_stress()), atol=1e-15)


@pytest.mark.parametrize(
    ("potential", "distance", "depth"),
    [(LennardJones(ARGON, 9.0), 2 ** (1 / 6) * 3.4, 0.0104), (Morse(COPPER, 9.0), 2.87, 0.35)],
)
def test_dimer_at_its_minimum(potential, distance, depth):
    numbers = [potential.species[0]] * 2
    output = evaluate(potential, Atoms(numbers, positions=[[0, 0, 0], [0, distance, 0]]))
    assert output.energies.tolist() == pytest.approx([-depth / 2] * 2, rel=1e-14)
    assert output.forces.abs().max() < 1e-14


@pytest.mark.parametrize("potential", POTENTIALS, ids=lambda p: type(p).__name__)
def test_forces_and_stress_are_derivatives(potential):
    numbers = np.array(potential.species)[[0, 1, 1, 0]]
    atoms = rattled(Atoms(numbers, bulk("Cu", a=4.4, cubic=True).positions, cell=[4.4] * 3, pbc=True), seed=2)
    output = evaluate(potential, atoms)

    def central(change, h=1e-3):  # fourth order
        energies = [evaluate(potential, change(k * h)).energy.item() for k in (-2, -1, 1, 2)]
        return np.dot([1, -8, 8, -1], energies) / (12 * h)

    def displaced(step, atom, axis):
        moved = atoms.copy()
        moved.positions[atom, axis] += step
        return moved

    def strained(step, a, b):
        moved = atoms.copy()
        strain = np.eye(3)
        strain[a, b] += step / 2
        strain[b, a] += step / 2
        moved.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        return moved

    forces = [[-central(lambda x, i=i, k=k: displaced(x, i, k)) for k in range(3)] for i in range(4)]
    np.testing.assert_allclose(output.forces, forces, rtol=0, atol=1e-8 * output.forces.abs().max().item())
    stress = [[central(lambda x, i=i, k=k: strained(x, i, k)) for k in range(3)] for i in range(3)]
    stress = np.array(stress) / atoms.get_volume()
    np.testing.assert_allclose(output.stress[0], stress, rtol=0, atol=1e-8 * output.stress.abs().max().item())


@pytest.mark.parametrize("potential", POTENTIALS[:2], ids=lambda p: type(p).__name__)
def test_obeys_the_laws(potential):
    check_potential(potential)


@pytest.mark.parametrize("potential", POTENTIALS, ids=lambda p: type(p).__name__)
def test_second_derivative_is_continuous_at_onset_and_cutoff(potential):
    def curvature(r, h):
        distances = (r + h * torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)).requires_grad_()
        table = potential._table[:, 0, :1]
        energy = potential._switch(distances) * potential.pair_energy(distances, *table)
        (slope,) = torch.autograd.grad(energy.sum(), distances, create_graph=True)
        return torch.autograd.grad(slope.sum(), distances)[0]

    for r in {potential.onset, potential.cutoff} - {0.0}:
        below, _, above = curvature(r, 1e-7)
        assert abs(below - above) < 1e-5


def test_config_is_json_and_builds_it_anew():
    for potential in POTENTIALS:
        again = type(potential)(**json.loads(json.dumps(potential.config)))
        assert again.config == potential.config
        assert again.species == potential.species
        assert torch.equal(again._table, potential._table)


def test_order_of_elements_in_a_pair_does_not_matter():
    turned = {"-".join(reversed(pair.split("-"))): values for pair, values in MIXTURE.items()}
    assert torch.equal(LennardJones(turned, 5.0)._table, LennardJones(MIXTURE, 5.0)._table)


def test_parameters_keep_float64():
    assert LennardJones(ARGON, 5.0).to(torch.float32)._table.dtype == torch.float64


@pytest.mark.parametrize(
    ("pairs", "arguments", "message"),
    [
        ({}, {}, "no pairs"),
        ({"Ar": {"epsilon": 1, "sigma": 1}}, {}, "'Ar'; expected two chemical symbols"),
        ({"Ar-Xx": {"epsilon": 1, "sigma": 1}}, {}, "'Ar-Xx'"),
        ({"Ar-Ar": {"epsilon": 1}}, {}, "expected positive numbers epsilon, sigma"),
        ({"Ar-Ar": {"epsilon": 1, "sigma": -1}}, {}, "expected positive numbers"),
        ({"Ar-Ar": {"epsilon": 1, "sigma": 1, "rc": 3}}, {}, "expected positive numbers"),
        ({"Ar-Ne": {"epsilon": 1, "sigma": 1}}, {}, "of Ne-Ne, Ar-Ar are missing"),
        (MIXTURE | {"Ar-Ne": MIXTURE["Ne-Ar"]}, {}, "given twice"),
        (ARGON, {"cutoff": 0.0}, "cutoff=0.0"),
        (ARGON, {"onset": 5.0}, "onset=5.0"),
        (ARGON, {"onset": -1.0}, "onset=-1.0"),
    ],
)
def test_nonsense_is_refused(pairs, arguments, message):
    with pytest.raises(ValueError, match=message):
        LennardJones(pairs, **({"cutoff": 5.0} | arguments))


def test_unknown_element_and_coincident_atoms_are_refused():
    potential = LennardJones(ARGON, 5.0)
    with pytest.raises(ValueError, match=r"atom 1 is Kr.*knows Ar"):
        evaluate(potential, Atoms("ArKr", positions=[[0, 0, 0], [0, 0, 3]]))
    graph = graph_from_atoms(Atoms("Ar2", positions=[[0, 0, 0], [0, 0, 3]]), 5.0)
    graph.positions[1, 2] = 0.0
    with pytest.raises(ValueError, match="atoms 0 and 1 are at the same point"):
        potential(graph)
