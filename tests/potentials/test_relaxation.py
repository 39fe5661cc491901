"""Relaxation against known minima."""

import numpy as np
import pytest
from ase import units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.io import read

from sciml.potentials.relaxation import OPTIMIZERS, relax


def copper(a=3.7):
    atoms = bulk("Cu", "fcc", a=a)
    atoms.calc = EMT()
    return atoms


def test_copper_finds_its_lattice_constant(tmp_path):
    result = relax(copper(), cell=True, fmax=1e-3, path=tmp_path / "path.xyz")
    assert result.converged
    # EMT's lattice constant of copper, from a fit of E(a) on its own
    lattice = np.linspace(3.5, 3.7, 9)
    energies = [copper(a).get_potential_energy() for a in lattice]
    fit = np.polynomial.Polynomial.fit(lattice, energies, 5)
    minimum = next(r.real for r in fit.deriv().roots() if abs(r.imag) < 1e-9 and 3.5 < r.real < 3.7)
    assert (4 * result.atoms.get_volume()) ** (1 / 3) == pytest.approx(minimum, abs=1e-3)
    assert abs(result.pressure) < 0.05
    frames = read(tmp_path / "path.xyz", index=":")
    assert len(frames) == result.steps + 1
    assert frames[-1].get_potential_energy() < frames[0].get_potential_energy()


def test_the_external_pressure_is_reached():
    result = relax(copper(3.6), cell=True, pressure=5.0, fmax=1e-3)
    assert result.converged
    assert result.pressure == pytest.approx(5.0, abs=0.02)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_lennard_jones_dimer_has_its_bond_length(optimizer):
    atoms = molecule("N2")
    atoms.positions *= 1.2 / atoms.get_distance(0, 1)
    atoms.calc = LennardJones(sigma=1.0, epsilon=1.0, rc=20.0, smooth=False)
    before = atoms.positions.copy()
    result = relax(atoms, optimizer=optimizer, fmax=1e-6)
    assert result.converged
    assert result.atoms.get_distance(0, 1) == pytest.approx(2 ** (1 / 6), abs=1e-6)
    assert result.energy < result.initial_energy
    assert result.pressure is None
    np.testing.assert_array_equal(atoms.positions, before)


def test_too_few_steps_do_not_converge():
    result = relax(copper(), cell=True, max_steps=1)
    assert not result.converged
    assert result.steps == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optimizer": "newton"}, "unknown optimizer 'newton'"),
        ({"fmax": 0.0}, "fmax must be positive"),
        ({"pressure": 1.0}, "no effect unless the cell"),
    ],
)
def test_nonsense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        relax(copper(), **arguments)


def test_a_molecule_has_no_cell_to_relax():
    atoms = molecule("N2")
    atoms.calc = EMT()
    with pytest.raises(ValueError, match="all axes are periodic"):
        relax(atoms, cell=True)


def test_overlapping_atoms_are_reported():
    atoms = molecule("N2")
    atoms.positions[:] = 0
    atoms.calc = LennardJones()
    with pytest.raises(ValueError, match="not finite"):
        relax(atoms)


def test_pressure_unit():
    atoms = copper(3.55)
    expected = -atoms.get_stress()[:3].mean() / units.GPa
    assert relax(atoms, max_steps=0).pressure == pytest.approx(expected)
