import logging

import ase.db
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import write

from sciml.datasets import Checks, LabelKeys, LabelledStructure, labelled_graph, read_structures, split_structures

FORCES = np.arange(27.0).reshape(9, 3) / 10
STRESS = np.array([[0.1, 0.02, 0.03], [0.02, -0.2, 0.04], [0.03, 0.04, 0.3]])


def ethanol(*, energy=-5.0, forces=FORCES, config_type=None, shift=0.0):
    atoms = molecule("CH3CH2OH")
    atoms.positions[0, 0] += shift
    if config_type is not None:
        atoms.info["config_type"] = config_type
    results = {key: value for key, value in (("energy", energy), ("forces", forces)) if value is not None}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def silicon(*, stress=STRESS, **info):
    atoms = bulk("Si", cubic=True)
    atoms.info.update(info)
    voigt = None if stress is None else stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    atoms.calc = SinglePointCalculator(atoms, energy=-40.0, forces=np.zeros((8, 3)), stress=voigt)
    return atoms


def structure(atoms, **labels):
    labels = {"energy": -1.0, "forces": np.zeros((len(atoms), 3)), "stress": np.full((3, 3), np.nan), **labels}
    return LabelledStructure(atoms, **labels)


@pytest.mark.parametrize("suffix", [".xyz", ".xyz.gz", ".traj", ".db", ".json"])
def test_formats_give_the_same_labels(tmp_path, suffix):
    path = tmp_path / f"data{suffix}"
    write(path, [ethanol(energy=-1.0), silicon()])
    first, second = read_structures(path)
    assert (first.energy, second.energy) == (-1.0, -40.0)
    np.testing.assert_allclose(first.forces, FORCES, atol=1e-8)
    np.testing.assert_allclose(second.stress, STRESS, atol=1e-12)
    assert np.isnan(first.stress).all()
    assert first.atoms.calc is None
    assert first.origin == f"{path}, frame 0"


def test_vasp_output_is_read(tmp_path):
    """A minimal vasprun.xml: eV, eV/Å and kbar with compression positive, which ASE turns into eV/Å³."""
    path = tmp_path / "vasprun.xml"
    path.write_text(VASPRUN)
    (frame,) = read_structures(path, keys=LabelKeys(energy="free_energy"))
    assert frame.energy == -10.5
    np.testing.assert_allclose(frame.forces, [[0.1, 0, 0], [-0.1, 0, 0]])
    np.testing.assert_allclose(frame.stress, np.diag([-10, -20, -30]) / 1602.1766, rtol=1e-6)


def test_custom_keys_in_info_and_arrays(tmp_path):
    atoms = bulk("Si", cubic=True)
    atoms.info.update({"REF_energy": -40.0, "REF_stress": STRESS.ravel(), "REF_virial": -STRESS * atoms.get_volume()})
    atoms.arrays["REF_forces"] = np.full((8, 3), 0.5)
    write(tmp_path / "data.xyz", atoms)
    keys = LabelKeys(energy="REF_energy", forces="REF_forces", stress="REF_stress")
    (frame,) = read_structures(tmp_path / "data.xyz", keys=keys)
    assert frame.energy == -40.0
    assert (frame.forces == 0.5).all()
    np.testing.assert_allclose(frame.stress, STRESS, rtol=1e-12)
    keys = LabelKeys(energy="REF_energy", forces="REF_forces", virial="REF_virial")
    (frame,) = read_structures(tmp_path / "data.xyz", keys=keys)
    np.testing.assert_allclose(frame.stress, STRESS, rtol=1e-7)


def test_database_key_value_pairs(tmp_path):
    with ase.db.connect(tmp_path / "data.db") as database:
        database.write(molecule("H2O"), dft=-14.0, config_type="water")
    (frame,) = read_structures(tmp_path / "data.db", keys=LabelKeys(energy="dft"))
    assert (frame.energy, frame.config_type) == (-14.0, "water")
    for index, count in (("natoms<4", 1), ("config_type=water", 1), ("0", 1), ("-1:", 1)):
        assert len(read_structures(tmp_path / "data.db", keys=LabelKeys(energy="dft"), index=index)) == count
    with pytest.raises(ValueError, match="holds no structure"):
        read_structures(tmp_path / "data.db", keys=LabelKeys(energy="dft"), index="natoms>4")


def test_forces_of_fixed_atoms_are_not_zeroed(tmp_path):
    atoms = ethanol()
    atoms.set_constraint(FixAtoms([1]))
    write(tmp_path / "data.traj", atoms)
    np.testing.assert_array_equal(read_structures(tmp_path / "data.traj")[0].forces[1], FORCES[1])


def test_several_files_patterns_and_indices(tmp_path):
    write(tmp_path / "b.xyz", [ethanol(energy=-float(k)) for k in range(5)])
    write(tmp_path / "a.xyz", [ethanol(energy=-10.0 - k) for k in range(3)])
    energies = [frame.energy for frame in read_structures(str(tmp_path / "*.xyz"), index="::2")]
    assert energies == [-10.0, -12.0, 0.0, -2.0, -4.0]
    frames = read_structures([f"{tmp_path}/b.xyz@-1:", tmp_path / "a.xyz"])
    assert [frame.energy for frame in frames] == [-4.0, -10.0, -11.0, -12.0]
    assert frames[0].origin.endswith("b.xyz, frame 0 of those selected by '-1:'")


def test_missing_forces_and_stress_are_nan(tmp_path):
    frames = [ethanol(), ethanol(forces=None), silicon(stress=None), silicon()]
    write(tmp_path / "data.traj", frames)
    read = read_structures(tmp_path / "data.traj")
    assert [bool(np.isnan(frame.forces).all()) for frame in read] == [False, True, False, False]
    assert [bool(np.isnan(frame.stress).all()) for frame in read] == [True, True, True, False]


def test_missing_energy_needs_forces_and_is_reported(tmp_path, caplog):
    write(tmp_path / "data.traj", [ethanol(), ethanol(energy=None)])
    with caplog.at_level(logging.WARNING):
        assert np.isnan(read_structures(tmp_path / "data.traj")[1].energy)
    assert "1 of 2 frames have forces but no energy 'energy' (first: " in caplog.text
    write(tmp_path / "data.traj", [ethanol(), molecule("H2O")])
    with pytest.raises(ValueError, match=r"frame 1: the frame has neither an energy nor forces"):
        read_structures(tmp_path / "data.traj")


def test_labelled_graph(tmp_path):
    write(tmp_path / "data.xyz", silicon())
    graph = labelled_graph(read_structures(tmp_path / "data.xyz")[0], 3.0)
    assert graph.edge_index.shape == (2, 32)
    assert (graph.energy.shape, graph.forces.shape, graph.stress.shape) == ((1,), (8, 3), (1, 3, 3))
    assert graph.energy.dtype == graph.forces.dtype == graph.stress.dtype == torch.float64
    np.testing.assert_allclose(graph.stress[0], STRESS)


def test_structure_with_labels_of_wrong_shape():
    with pytest.raises(ValueError, match=r"forces of shape \(2, 3\).*expected \(3, 3\)"):
        structure(molecule("H2O"), forces=np.zeros((2, 3)))


def test_split_is_seeded_complete_and_leaves_the_global_generator_alone():
    data = [structure(ethanol(shift=0.01 * k), energy=-float(k)) for k in range(20)]
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    train, valid = split_structures(data, validation_fraction=0.2, seed=3)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    assert (len(train), len(valid)) == (16, 4)
    assert sorted(s.energy for s in train + valid) == sorted(s.energy for s in data)
    again = split_structures(data, validation_fraction=0.2, seed=3)
    other = split_structures(data, validation_fraction=0.2, seed=4)
    assert [s.energy for s in again[1]] == [s.energy for s in valid]
    assert [s.energy for s in other[1]] != [s.energy for s in valid]


def test_isolated_atoms_stay_out_of_the_split():
    box = {"cell": np.eye(3) * 15, "pbc": True}
    atoms = [
        structure(Atoms("H")),
        structure(Atoms("C", **box), config_type="IsolatedAtom"),
        structure(Atoms("O", **box), config_type="isolated_atom"),
        structure(Atoms("Po", **box)),  # a crystal with one atom in its cell
    ]
    assert [s.is_isolated_atom for s in atoms] == [True, True, True, False]
    data = [*atoms, *(structure(ethanol(shift=0.01 * k)) for k in range(3))]
    train, valid = split_structures(data, validation_fraction=0.5, seed=0)
    assert len(train) + len(valid) == 4
    assert not any(s.is_isolated_atom for s in train + valid)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 0.05, 0.95])
def test_split_with_an_empty_side(fraction):
    with pytest.raises(ValueError, match="validation_fraction"):
        split_structures([structure(ethanol())] * 5, validation_fraction=fraction, seed=0)


def test_split_warns_about_duplicates(caplog):
    split_structures([structure(ethanol())] * 4, validation_fraction=0.5, seed=0)
    assert "2 of 2 validation structures are also in the training set" in caplog.text


def test_unreadable_files(tmp_path):
    (tmp_path / "empty.xyz").write_text("")
    (tmp_path / "broken.xyz").write_text("3\nProperties=species:S:1:pos:R:3 energy=1\nH 0 0 0\n")
    (tmp_path / "data.unknown").write_text("hello")
    write(tmp_path / "train.xyz", ethanol())
    with pytest.raises(ValueError, match=r"empty\.xyz is empty"):
        read_structures(tmp_path / "empty.xyz")
    with pytest.raises(ValueError, match=r"broken\.xyz cannot be read by ase\.io"):
        read_structures(tmp_path / "broken.xyz")
    with pytest.raises(ValueError, match=r"data\.unknown cannot be read by ase\.io .*UnknownFileTypeError"):
        read_structures(tmp_path / "data.unknown")
    with pytest.raises(ValueError, match=r"train\.xyz holds no structure \(index '5:'\)"):
        read_structures(tmp_path / "train.xyz", index="5:")
    with pytest.raises(ValueError, match=r"is a folder; expected a file"):
        read_structures(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no file matches .*trian\.xyz'; did you mean .*/train\.xyz'"):
        read_structures(tmp_path / "trian.xyz")
    with pytest.raises(ValueError, match="given more than once"):
        read_structures([tmp_path / "train.xyz", tmp_path / "tr*.xyz"])
    with pytest.raises(ValueError, match="got no files"):
        read_structures([])


def test_isolated_atom_with_neighbours(tmp_path):
    write(tmp_path / "data.xyz", ethanol(config_type="isolated_atom"))
    with pytest.raises(ValueError, match=r"frame 0: the config_type is 'isolated_atom' but the frame has 9 atoms"):
        read_structures(tmp_path / "data.xyz", checks=Checks())


VASPRUN = """<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
 <kpoints>
  <varray name="kpointlist"><v>0 0 0</v></varray><varray name="weights"><v>1</v></varray>
 </kpoints>
 <atominfo><atoms>2</atoms><types>1</types>
  <array name="atoms"><set><rc><c>Si</c><c>1</c></rc><rc><c>Si</c><c>1</c></rc></set></array>
 </atominfo>
 <structure name="initialpos">
  <crystal><varray name="basis"><v>4 0 0</v><v>0 4 0</v><v>0 0 4</v></varray></crystal>
  <varray name="positions"><v>0 0 0</v><v>0.5 0.5 0.5</v></varray>
 </structure>
 <calculation>
  <scstep>
   <energy><i name="e_fr_energy">-10.5</i><i name="e_wo_entrp">-10.3</i><i name="e_0_energy">-10.4</i></energy>
  </scstep>
  <structure>
   <crystal><varray name="basis"><v>4 0 0</v><v>0 4 0</v><v>0 0 4</v></varray></crystal>
   <varray name="positions"><v>0 0 0</v><v>0.5 0.5 0.5</v></varray>
  </structure>
  <varray name="forces"><v>0.1 0 0</v><v>-0.1 0 0</v></varray>
  <varray name="stress"><v>10 0 0</v><v>0 20 0</v><v>0 0 30</v></varray>
  <energy><i name="e_fr_energy">-10.5</i><i name="e_wo_entrp">-10.3</i><i name="e_0_energy">-10.4</i></energy>
 </calculation>
</modeling>
"""
