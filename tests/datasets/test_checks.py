import logging
import re

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from sciml.datasets import Checks, LabelKeys, read_structures
from sciml.datasets.checks import check_overlap


def labelled(atoms, **results):
    atoms = atoms.copy()
    atoms.calc = SinglePointCalculator(atoms, **{"energy": -14.0, "forces": np.zeros((len(atoms), 3)), **results})
    return atoms


WATER = labelled(molecule("H2O"))
SILICON = bulk("Si", cubic=True)


def reading(path, *frames, **options):
    write(path, list(frames))
    return read_structures(path, **options)


def assert_raises(message, path, *frames, **options):
    with pytest.raises(ValueError, match=message):
        reading(path, *frames, **options)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("suffix", ["xyz", "traj"])
def test_labels_that_are_not_finite(tmp_path, value, suffix):
    path = tmp_path / f"data.{suffix}"
    forces = np.zeros((3, 3))
    forces[2, 1] = value
    place = re.escape(str(path)) + ", frame 1: "
    assert_raises(place + f"the energy is {value}", path, WATER, labelled(WATER, energy=value))
    assert_raises(place + r"the force on atom 2 \(H\) is \[", path, WATER, labelled(WATER, forces=forces))
    frames = [labelled(SILICON), labelled(SILICON, stress=np.array([value, 0, 0, 0, 0, 0]))]
    assert_raises(place + "the stress is", path, *frames)
    checks = Checks(finite_labels=False)
    assert np.isnan(reading(path, WATER, labelled(WATER, energy=value), checks=checks)[1].energy)
    assert np.isnan(reading(path, WATER, labelled(WATER, forces=forces), checks=checks)[1].forces).all()
    assert np.isnan(reading(path, *frames, checks=checks)[1].stress).all()


def test_wrong_shapes_and_types(tmp_path):
    path = tmp_path / "data.xyz"
    atoms = molecule("H2O")
    atoms.info["energy_dft"] = "converged"
    assert_raises("frame 0: the label 'energy_dft' is .*expected numbers", path, atoms, keys=LabelKeys("energy_dft"))
    atoms.info["energy_dft"] = np.zeros(2)
    assert_raises("the energy 'energy_dft' has the shape", path, atoms, keys=LabelKeys("energy_dft"))
    atoms = labelled(atoms)
    atoms.arrays["f"] = np.zeros((3, 2))
    assert_raises(r"the forces 'f' have the shape \(3, 2\); expected \(3, 3\)", path, atoms, keys=LabelKeys(forces="f"))
    atoms = labelled(SILICON)
    atoms.info["s"] = np.zeros(5)
    assert_raises(r"the stress 's' has the shape \(5,\)", path, atoms, keys=LabelKeys(stress="s"))
    atoms.info["s"] = np.arange(9.0) / 100
    assert_raises("the stress 's' is not symmetric", path, atoms, keys=LabelKeys(stress="s"))
    atoms.info["s"] = np.array([[0.1, 1e-4, 0], [3e-4, 0.2, 0], [0, 0, 0.3]])  # as printed: nearly symmetric
    stress = reading(path, atoms, keys=LabelKeys(stress="s"))[0].stress
    np.testing.assert_allclose(stress[0, 1], 2e-4, rtol=1e-6)
    assert (stress == stress.T).all()


def test_virial_without_a_cell(tmp_path):
    atoms = labelled(molecule("H2O"))
    atoms.info["w"] = np.eye(3)
    assert_raises("virial 'w' but the cell has no volume", tmp_path / "data.xyz", atoms, keys=LabelKeys(virial="w"))
    with pytest.raises(ValueError, match="give one of them"):
        LabelKeys(stress="s", virial="w")


def test_two_values_for_one_key(tmp_path):
    atoms = labelled(molecule("H2O"))
    atoms.info["energy"] = -13.0
    write(tmp_path / "data.traj", atoms)
    with pytest.raises(ValueError, match="'energy' stands in two places"):
        read_structures(tmp_path / "data.traj")


def test_keys_that_occur_nowhere(tmp_path):
    path = tmp_path / "data.xyz"
    atoms = molecule("H2O")
    atoms.info.update({"REF_energy": -14.0, "charge": 0, "label": "water", "ok": True})
    atoms.arrays["REF_forces"] = np.zeros((3, 3))
    assert_raises(
        r"data\.xyz: the key 'energy' for the energy occurs in no frame\. Did you mean 'REF_energy'\?.*"
        r"energy: REF_energy, charge, forces: REF_forces, stress: none",
        *(path, atoms),
    )
    assert_raises("the key 'forces'.*'REF_forces'.*None", path, atoms, keys=LabelKeys("REF_energy"))
    assert_raises("the key 'F' for the forces", path, atoms, keys=LabelKeys("REF_energy", forces="F"))
    keys = LabelKeys("REF_energy", forces="REF_forces", stress="REF_stress")
    assert_raises("the key 'REF_stress' for the stress occurs in no frame. By", path, atoms, keys=keys)
    assert len(reading(path, atoms, keys=LabelKeys("REF_energy", forces=None))) == 1


def test_virial_is_not_overlooked(tmp_path):
    atoms = labelled(SILICON)
    atoms.info["virial"] = np.eye(3)
    path = tmp_path / "data.xyz"
    assert_raises(r"Did you mean 'virial'\? .*by the key `virial`", path, atoms)
    assert np.isnan(reading(path, atoms, keys=LabelKeys(stress=None))[0].stress).all()


def stress_frames(scale):
    generator = np.random.default_rng(0)
    return [labelled(SILICON, stress=scale * generator.normal(size=6)) for _ in range(8)]


def test_stress_units(tmp_path):
    """Stresses of about 1 GPa: accepted in eV/Å³, refused in GPa and kbar."""
    path = tmp_path / "data.xyz"
    assert len(reading(path, *stress_frames(1 / 160.2))) == 8
    for scale in (1.0, 10.0):
        assert_raises(r"frame \d: the stress has .*1/160\.21766.*1/1602\.1766", path, *stress_frames(scale))
    assert len(reading(path, *stress_frames(10.0), checks=Checks(stress_units=False))) == 8
    one_outlier = [*stress_frames(1 / 160.2), labelled(SILICON, stress=np.full(6, 5.1))]
    assert_raises(r"frame 8: the stress has a component of 5\.1 eV/Å³", path, *one_outlier)


@pytest.mark.parametrize("pbc", [False, (True, True, False)])
def test_stress_of_a_frame_that_is_not_periodic(tmp_path, pbc):
    atoms = SILICON.copy()
    atoms.pbc = pbc
    frame = labelled(atoms, stress=np.zeros(6))
    assert_raises("frame 0: there is a stress but the frame is not periodic", tmp_path / "data.traj", frame)
    (read,) = reading(tmp_path / "data.traj", frame, checks=Checks(stress_periodicity=False))
    assert np.isnan(read.stress).all()


def test_overlapping_atoms(tmp_path):
    path = tmp_path / "data.traj"
    atoms = molecule("H2O")
    atoms.positions[2] = atoms.positions[1] + [0, 0, 0.1]
    assert_raises(r"frame 1: atoms 1 \(H\) and 2 \(H\) are 0\.100 Å apart", path, WATER, labelled(atoms))
    assert len(reading(path, WATER, labelled(atoms), checks=Checks(overlap=0))) == 2
    assert len(reading(path, WATER, labelled(atoms), checks=Checks(overlap=0.1))) == 2
    atoms = Atoms("Si2", positions=[[0.2, 0, 0], [9.8, 0, 0]], cell=[10, 10, 10], pbc=True)
    assert_raises(r"atoms 0 \(Si\) and 1 \(Si\), a periodic image, are 0\.400 Å", path, labelled(atoms))
    atoms.pbc = False
    assert len(reading(path, labelled(atoms))) == 1
    atoms = Atoms("Si", cell=[0.5, 10, 10], pbc=True)
    assert_raises(r"atoms 0 \(Si\) and 0 \(Si\), a periodic image, are 0\.500 Å", path, labelled(atoms))
    with pytest.raises(ValueError, match=r"overlap is 1\.5"):
        Checks(overlap=1.5)


@pytest.mark.parametrize("repeats", [1, 3])
def test_overlap_in_molecules_small_and_large(repeats):
    """One frame is looked through pair by pair, the other (216 atoms) with a neighbour list."""
    atoms = bulk("Si", cubic=True) * (repeats, repeats, repeats)
    atoms.pbc = False
    check_overlap(atoms, 0.3)
    atoms.positions[5] = atoms.positions[2] + [0, 0, 0.5]
    with pytest.raises(ValueError, match=r"atoms 2 \(Si\) and 5 \(Si\) are 0\.500 Å apart, 0\.23 of the sum"):
        check_overlap(atoms, 0.3)
    check_overlap(atoms, 0.2)


def test_compressed_bonds_are_no_overlap(tmp_path):
    atoms = Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.35]])
    assert len(reading(tmp_path / "data.traj", labelled(atoms))) == 1


def test_broken_structures(tmp_path):
    path = tmp_path / "data.traj"
    atoms = molecule("H2O")
    atoms.positions[1, 0] = np.nan
    assert_raises(r"data\.traj, frame 1: atom 1 \(H\) has the position \[ *nan", path, WATER, labelled(atoms))
    assert_raises(r"frame 0: axis 0 \('a'\) is periodic", path, labelled(Atoms("H", pbc=True)))


def test_hartree_is_warned_about(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        reading(tmp_path / "data.xyz", labelled(WATER, energy=-76.4))
        assert "look like hartree" in caplog.text
        caplog.clear()
        reading(tmp_path / "data.xyz", labelled(WATER, energy=-76.4 * 27.2), WATER)
        reading(tmp_path / "data.xyz", labelled(WATER, energy=-76.4), checks=Checks(energy_units=False))
        assert not caplog.text
