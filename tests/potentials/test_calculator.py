"""The calculator behaves like any ASE calculator, on any structure, and says what is wrong with the others."""

import copy
import pickle

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.md.verlet import VelocityVerlet
from ase.mep import NEB

from sciml.graphs import graph_from_atoms
from sciml.potentials.calculator import PotentialCalculator
from sciml.potentials.checkpoint import MODELS, save_potential
from tests.embedded_potential import Embedded


class Counting(Embedded):
    calls = 0

    def forward(self, graph):
        type(self).calls += 1
        return super().forward(graph)


@pytest.fixture
def potential():
    Counting.calls = 0
    return Counting(species=[1, 6, 8]).double()


@pytest.fixture
def calculator(potential):
    return PotentialCalculator(potential)


def diamond():
    atoms = bulk("C", "diamond", 3.4)
    atoms.rattle(0.1, seed=1)
    return atoms


def test_results_are_those_of_the_potential(potential, calculator):
    atoms = diamond()
    atoms.calc = calculator
    output = potential.eval()(graph_from_atoms(atoms, potential.cutoff))
    assert atoms.get_potential_energy() == output.energy.item()
    assert atoms.get_potential_energy(force_consistent=True) == output.energy.item()
    np.testing.assert_array_equal(atoms.get_potential_energies(), output.energies)
    np.testing.assert_array_equal(atoms.get_forces(), output.forces)
    np.testing.assert_array_equal(atoms.get_stress(voigt=False), output.stress[0])


def test_agrees_with_ases_finite_differences(calculator):
    atoms = diamond() * (2, 1, 1)
    atoms.calc = calculator
    np.testing.assert_allclose(atoms.get_forces(), calculate_numerical_forces(atoms, eps=1e-4), atol=1e-7)
    np.testing.assert_allclose(atoms.get_stress(), calculate_numerical_stress(atoms, eps=1e-5), atol=1e-7)


def test_calculates_once_per_change(calculator):
    atoms = diamond()
    atoms.calc = calculator
    atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(), atoms.get_potential_energies()
    assert Counting.calls == 1
    atoms.info["note"] = "nothing that a potential sees"
    atoms.set_initial_charges([0.1, -0.1])
    atoms.set_tags([1, 2])
    atoms.get_forces()
    assert Counting.calls == 1
    for change in (
        lambda: atoms.positions.__setitem__((0, 0), 0.2),
        lambda: atoms.set_cell(atoms.cell * 1.01),
        lambda: atoms.set_pbc([True, True, False]),
        lambda: atoms.set_atomic_numbers([6, 8]),
    ):
        before, energy = Counting.calls, atoms.get_potential_energy()
        change()
        assert atoms.get_potential_energy() != energy
        assert Counting.calls == before + 1


def test_results_given_away_are_copies(calculator):
    atoms = diamond()
    atoms.calc = calculator
    forces = atoms.get_forces()
    atoms.get_forces()[:] = 7
    np.testing.assert_array_equal(atoms.get_forces(), forces)


def test_one_calculator_on_many_structures(calculator):
    structures = [molecule("H2O"), diamond(), molecule("CH3OH"), Atoms("H"), diamond() * (2, 1, 1), molecule("H2O")]
    for atoms in structures:
        fresh = PotentialCalculator(calculator.potential).get_potential_energy(atoms)
        atoms.calc = calculator
        assert atoms.get_potential_energy() == fresh
    assert structures[0].get_potential_energy() == structures[-1].get_potential_energy()


def test_direct_call_does_not_mix_up_structures(calculator):
    water, methane = molecule("H2O"), molecule("CH4")
    energy = calculator.get_potential_energy(water)
    calculator.calculate(methane)
    assert calculator.get_potential_energy(water) == energy


def test_isolated_atom(calculator):
    atoms = Atoms("O", calculator=calculator)
    assert atoms.get_potential_energy() == calculator.potential.reference[2] + 1
    np.testing.assert_array_equal(atoms.get_forces(), np.zeros((1, 3)))


def test_neighbour_list_is_reused_and_stays_right(potential):
    atoms = molecule("CH3OH")
    atoms.rattle(0.05, seed=0)
    atoms.calc = PotentialCalculator(potential, skin=0.5)
    rng = np.random.default_rng(0)
    for _ in range(60):
        atoms.positions += rng.normal(scale=0.02, size=(6, 3))
        exact = potential.eval()(graph_from_atoms(atoms, potential.cutoff)).energy.item()
        assert atoms.get_potential_energy() == pytest.approx(exact, abs=1e-12)
    assert 1 < atoms.calc.num_neighbor_builds < 20


@pytest.mark.parametrize("pbc", [False, [True, True, False]])
def test_stress_needs_three_periodic_axes(calculator, pbc):
    atoms = diamond()
    atoms.pbc = pbc
    atoms.calc = calculator
    with pytest.raises(PropertyNotImplementedError, match="available if all three axes are periodic"):
        atoms.get_stress()
    assert atoms.get_forces().shape == (2, 3)
    with pytest.raises(PropertyNotImplementedError, match="no volume"):
        atoms.get_stress()
    assert Counting.calls == 1


def test_magnetic_moments_are_not_implemented(calculator):
    with pytest.raises(PropertyNotImplementedError, match="magmoms"):
        calculator.get_property("magmoms", diamond())


def test_errors_name_the_atom_or_the_axis(calculator):
    gold = Atoms("CAuH", positions=np.eye(3))
    with pytest.raises(ValueError, match="atom 1 is Au, which this potential does not know; it knows H, C, O"):
        calculator.get_potential_energy(gold)
    with pytest.raises(ValueError, match="without atoms"):
        calculator.get_potential_energy(Atoms())
    with pytest.raises(ValueError, match=r"axis 2 .'c'. is periodic but its cell vector is zero"):
        calculator.get_forces(Atoms("C", cell=[3, 3, 0], pbc=True))
    broken = molecule("H2O")
    broken.positions[1, 2] = np.nan
    for _ in range(2):
        with pytest.raises(ValueError, match=r"atom 1 .H. has the position"):
            calculator.get_potential_energy(broken)
    with pytest.raises(ValueError, match="no structure"):
        calculator.calculate()
    assert np.isfinite(calculator.get_potential_energy(molecule("H2O")))


def test_atoms_at_one_point_are_named_also_where_the_list_is_reused(calculator):
    water = molecule("H2O")
    water.positions[2] = water.positions[1]
    with pytest.raises(ValueError, match=r"atom 1 and atom 2 .*at the same point"):
        calculator.get_potential_energy(water)
    nearly = Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.2]])
    calculator.get_potential_energy(nearly)
    builds = calculator.num_neighbor_builds
    nearly.positions[1] = 0.0
    with pytest.raises(ValueError, match=r"atom 0 and atom 1 .*at the same point"):
        calculator.get_potential_energy(nearly)
    assert calculator.num_neighbor_builds == builds


def test_constructor_refuses_nonsense(potential, tmp_path):
    with pytest.raises(ValueError, match="expected a Potential"):
        PotentialCalculator(str(tmp_path))
    with pytest.raises(ValueError, match="got dtype 'float16'"):
        PotentialCalculator(potential, dtype="float16")
    with pytest.raises(ValueError, match="skin"):
        PotentialCalculator(potential, skin=-1.0)
    with pytest.raises(ValueError, match="cannot use the device"):
        PotentialCalculator(potential, device="cuda:77")


def test_potential_in_training_is_not_touched(potential):
    potential.train()
    calculator = PotentialCalculator(potential, dtype="float32")
    energy = calculator.get_potential_energy(molecule("H2O"))
    assert potential.training
    assert potential.charge.requires_grad
    assert potential.charge.dtype == torch.float64
    with torch.no_grad():
        potential.charge += 1
    calculator.reset()
    assert calculator.get_potential_energy(molecule("H2O")) == energy


def test_float32_keeps_total_energies_in_float64(potential):
    potential.register_constant("reference", torch.full((3,), -9391.123456789, dtype=torch.float64), keep_float64=True)
    atoms = molecule("H2O")
    single = PotentialCalculator(potential, dtype="float32").get_potential_energy(atoms)
    double = PotentialCalculator(potential, dtype="float64").get_potential_energy(atoms)
    assert single != double
    assert single == pytest.approx(double, abs=3e-6)


def test_copies_and_pickles(calculator):
    atoms = diamond()
    energy = calculator.get_potential_energy(atoms)
    for twin in (copy.deepcopy(calculator), pickle.loads(pickle.dumps(calculator))):
        assert twin.get_potential_energy(atoms) == energy
        assert twin.get_potential_energy(molecule("H2O")) == calculator.get_potential_energy(molecule("H2O"))


def test_nudged_elastic_band_shares_one(calculator):
    images = [molecule("H2O") for _ in range(4)]
    images[-1].positions[1] += [0.0, 0.3, 0.0]
    for image in images:
        image.calc = calculator
    band = NEB(images, allow_shared_calculator=True)
    band.interpolate()
    assert np.isfinite(band.get_forces()).all()


def test_trajectory_keeps_the_results(calculator, tmp_path):
    atoms = diamond()
    atoms.calc = calculator
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    for name in ("out.traj", "out.xyz"):
        ase.io.write(tmp_path / name, atoms)
        read = ase.io.read(tmp_path / name)
        assert read.get_potential_energy() == pytest.approx(energy)
        np.testing.assert_allclose(read.get_forces(), forces, atol=1e-7)


def test_molecular_dynamics_conserves_energy(calculator):
    atoms = diamond() * (2, 2, 2)
    atoms.calc = calculator
    dynamics = VelocityVerlet(atoms, timestep=0.5 * units.fs)
    start = atoms.get_total_energy()
    dynamics.run(100)
    assert np.ptp([start, atoms.get_total_energy()]) < 1e-3 * atoms.get_kinetic_energy()


def test_from_checkpoint(potential, tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS, "counting", f"{Counting.__module__}:Counting")
    save_potential(potential, tmp_path)
    calculator = PotentialCalculator.from_checkpoint(tmp_path, dtype="float64", skin=0.3)
    water = molecule("H2O")
    assert calculator.get_potential_energy(water) == PotentialCalculator(potential).get_potential_energy(water)
    with pytest.raises(ValueError, match="no checkpoint folder"):
        PotentialCalculator.from_checkpoint(tmp_path / "nowhere")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_cpu(potential):
    for atoms in (diamond() * (2, 2, 1), molecule("CH3OH"), Atoms("H")):
        on_gpu = PotentialCalculator(potential, device="cuda")
        np.testing.assert_allclose(
            on_gpu.get_forces(atoms), PotentialCalculator(potential).get_forces(atoms), atol=1e-9
        )
