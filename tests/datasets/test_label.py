"""Labelling: frames that do not depend on interruptions, processes or clusters."""

import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import CalculationFailed
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.constraints import FixAtoms
from ase.io import read
from filelock import FileLock

from sciml.datasets.calculators import THREAD_VARIABLES, calculator_factory, single_thread
from sciml.datasets.isolated_atoms import isolated_atom
from sciml.datasets.label import LabellingError, Sampling, label, load_structure
from sciml.potentials.restart import DynamicsState

SMALL = {"temperatures": [300.0, 500.0], "frames": 6, "walkers": 2, "stride": 5, "equilibration_steps": 12}
QUICK = Sampling(**SMALL, calculator="emt", timestep=1.0)


class Hesitant(EMT):
    """EMT that takes its time, so that it can be killed on the way."""

    def calculate(self, *args, **kwargs):
        time.sleep(0.001)
        super().calculate(*args, **kwargs)


class Failing(EMT):
    """EMT that fails at the 30th evaluation."""

    evaluations = 0

    def calculate(self, *args, **kwargs):
        Failing.evaluations += 1
        if Failing.evaluations == 30:
            raise CalculationFailed("SCF not converged")
        super().calculate(*args, **kwargs)


def test_frames_have_labels_of_the_reference_method(tmp_path):
    assert label(molecule("CH3CH2OH"), tmp_path / "frames.xyz", sampling=QUICK)
    *atoms, first = read(tmp_path / "frames.xyz", index=":4")
    assert [str(a.symbols) for a in atoms] == ["H", "C", "O"]
    assert {a.info["config_type"] for a in atoms} == {"isolated_atom"}
    assert first.info["config_type"] == "300K_MD"
    frames = read(tmp_path / "frames.xyz", index="3:")
    assert len(frames) == 12
    assert not (tmp_path / "frames.xyz.parts").exists()
    for frame in frames:
        exact = Atoms(frame.numbers, positions=frame.positions, calculator=EMT())
        assert frame.get_potential_energy() == pytest.approx(exact.get_potential_energy(), abs=1e-6)
        np.testing.assert_allclose(frame.get_forces(), exact.get_forces(), atol=1e-5)
    assert [frame.info["config_type"] for frame in frames] == ["300K_MD"] * 6 + ["500K_MD"] * 6
    assert [frame.info["walker"] for frame in frames] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert [frame.info["step"] for frame in frames[:3]] == [5, 10, 15]
    assert {frame.info["temperature"] for frame in frames} == {300.0, 500.0}
    assert len({frame.get_potential_energy() for frame in frames}) == 12


def test_a_crystal_has_stress(tmp_path):
    crystal = bulk("Cu", cubic=True)
    label(crystal, tmp_path / "cu.xyz", sampling=Sampling(frames=2, stride=5, equilibration_steps=0, calculator="emt"))
    frames = read(tmp_path / "cu.xyz", index=":")
    assert [len(frame) for frame in frames] == [4, 4]  # a crystal comes without isolated atoms
    frame = frames[-1]
    exact = frame.copy()
    exact.calc = EMT()
    np.testing.assert_allclose(frame.get_stress(), exact.get_stress(), atol=1e-7)
    assert frame.pbc.all()


def test_fixed_atoms_do_not_move_but_have_the_forces_of_the_method(tmp_path):
    crystal = bulk("Cu", cubic=True)
    crystal.rattle(0.05, seed=0)
    crystal.set_constraint(FixAtoms([0]))
    sampling = Sampling(frames=2, stride=3, equilibration_steps=0, relax=False, calculator="emt")
    label(crystal, tmp_path / "cu.xyz", sampling=sampling)
    for frame in read(tmp_path / "cu.xyz", index=":"):
        np.testing.assert_allclose(frame.positions[0], crystal.positions[0], atol=1e-8)
        exact = Atoms(frame, calculator=EMT())
        np.testing.assert_allclose(frame.calc.results["forces"], exact.get_forces(), atol=1e-5)
        assert np.linalg.norm(exact.get_forces()[0]) > 0.1
    crystal.set_constraint(FixAtoms([1]))
    with pytest.raises(ValueError, match="constraints: "):
        label(crystal, tmp_path / "cu.xyz", sampling=sampling)


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def test_killed_before_or_after_any_file_is_replaced(tmp_path, monkeypatch):
    sampling = Sampling(frames=2, stride=2, equilibration_steps=2, relax=False, calculator="emt")
    label(molecule("H2O"), tmp_path / "whole.xyz", sampling=sampling)
    replace = os.replace
    for moment in range(100):
        count = 0

        def kill_at(source, target, moment=moment):
            nonlocal count
            if count == moment:
                raise Killed
            replace(source, target)
            count += 1

        output = tmp_path / str(moment) / "frames.xyz"
        monkeypatch.setattr(os, "replace", kill_at)
        try:
            label(molecule("H2O"), output, sampling=sampling)
        except Killed:
            monkeypatch.setattr(os, "replace", replace)
            assert label(molecule("H2O"), output, sampling=sampling)
            assert output.read_bytes() == (tmp_path / "whole.xyz").read_bytes()
        else:
            break
    assert moment == 7  # settings, isolated atoms, start, three states of the walker, output


def test_the_number_of_processes_makes_no_difference(tmp_path):
    label(molecule("H2O"), tmp_path / "one.xyz", sampling=QUICK)
    label(molecule("H2O"), tmp_path / "two.xyz", sampling=QUICK, processes=2)
    assert (tmp_path / "one.xyz").read_bytes() == (tmp_path / "two.xyz").read_bytes()
    label(molecule("H2O"), tmp_path / "other.xyz", sampling=Sampling(**SMALL, calculator="emt", timestep=1.0, seed=1))
    assert (tmp_path / "one.xyz").read_bytes() != (tmp_path / "other.xyz").read_bytes()


def test_a_dask_cluster_writes_the_same_frames(tmp_path):
    distributed = pytest.importorskip("dask.distributed")
    label(molecule("H2O"), tmp_path / "one.xyz", sampling=QUICK)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, local_directory=tmp_path / "dask"
    ) as cluster:
        label(molecule("H2O"), tmp_path / "dask.xyz", sampling=QUICK, dask=cluster.scheduler_address)
    assert (tmp_path / "one.xyz").read_bytes() == (tmp_path / "dask.xyz").read_bytes()


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[3])
from ase.build import molecule
from sciml.datasets.label import Sampling, label
sampling = Sampling(temperatures=[300.0, 500.0], frames=20, stride=4, equilibration_steps=12, timestep=1.0,
                    calculator="test_label:Hesitant")
label(molecule("H2O"), sys.argv[1], sampling=sampling, processes=int(sys.argv[2]))
"""


def test_a_killed_run_continues_with_the_same_frames(tmp_path, monkeypatch):
    here = os.path.dirname(__file__)
    monkeypatch.syspath_prepend(here)
    sampling = Sampling(
        temperatures=[300.0, 500.0], frames=20, stride=4, equilibration_steps=12, timestep=1.0,
        calculator="test_label:Hesitant",
    )  # fmt: skip
    label(molecule("H2O"), tmp_path / "whole.xyz", sampling=sampling)
    output = tmp_path / "killed.xyz"
    parts = tmp_path / "killed.xyz.parts"
    command = [sys.executable, "-c", SCRIPT, str(output), "2", here]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(command, env=environment)
    try:
        deadline = time.monotonic() + 300
        while written(parts) < 10:
            assert process.poll() is None, "the process ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert written(parts) < 40
    assert not output.exists()
    for lock in parts.glob("*.lock"):  # workers that outlive the command end after their frame
        with FileLock(lock, timeout=60):
            pass
    states = {number: DynamicsState.load(parts / f"walker-{number:03d}.json") for number in range(2)}
    unfinished = min(states, key=lambda number: 0 if states[number] is None else states[number].frames)
    with (parts / f"walker-{unfinished:03d}.xyz").open("a") as file:  # as if killed between a frame and its state
        file.write("3\nhalf a fra")
    assert label(molecule("H2O"), output, sampling=sampling)
    assert output.read_bytes() == (tmp_path / "whole.xyz").read_bytes()


def written(parts):
    states = [DynamicsState.load(path) for path in parts.glob("walker-*.json")]
    return sum(state.frames for state in states if state is not None)


@pytest.mark.skipif(importlib.util.find_spec("tblite") is None, reason="tblite is not installed")
def test_the_density_of_the_step_before_makes_no_difference(tmp_path):
    sampling = Sampling(frames=4, stride=3, equilibration_steps=3, relax=False)
    label(molecule("H2O"), tmp_path / "whole.xyz", sampling=sampling)
    (walker,) = sampling.plan()
    parts = tmp_path / "again.xyz.parts"
    parts.mkdir()
    from sciml.datasets.walker import run_walker

    path, state = walker.files(parts)
    run_walker(Sampling(frames=2, stride=3, equilibration_steps=3, relax=False).plan()[0], molecule("H2O"), parts)
    assert DynamicsState.load(state).frames == 2
    run_walker(walker, molecule("H2O"), parts)
    assert (tmp_path / "whole.xyz").read_bytes().endswith(path.read_bytes())


@pytest.mark.skipif(importlib.util.find_spec("tblite") is None, reason="tblite is not installed")
def test_isolated_atoms_are_neutral_in_their_ground_state():
    """Against tblite itself, given the multiplicities of Hund's rules."""
    from tblite.ase import TBLite

    for element, multiplicity in (("H", 2), ("C", 3), ("N", 4), ("O", 3), ("He", 1)):
        exact = Atoms(element, calculator=TBLite(multiplicity=multiplicity, verbosity=0)).get_potential_energy()
        frame = isolated_atom(element, "tblite", {"charge": 1, "multiplicity": 6})
        assert frame.get_potential_energy() == pytest.approx(exact, abs=1e-9)
        assert not frame.get_forces().any()
        assert not frame.pbc.any()
    other = isolated_atom("O", "tblite", {"method": "GFN1-xTB"}).get_potential_energy()
    assert abs(other - isolated_atom("O", "tblite", {}).get_potential_energy()) > 1


class MoleculesOnly(EMT):
    """EMT that fails on a single atom, as methods that need a bond or a k-point do."""

    def calculate(self, atoms=None, *args, **kwargs):
        if len(atoms) == 1:
            raise KeyError("no bands")
        super().calculate(atoms, *args, **kwargs)


def test_a_calculator_that_cannot_do_atoms_names_the_option(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(os.path.dirname(__file__))
    few = Sampling(frames=1, stride=1, equilibration_steps=0, relax=False, calculator="test_label:MoleculesOnly")
    with pytest.raises(LabellingError, match=r"isolated atom of H .*no bands.* set isolated_atoms to false"):
        label(molecule("H2O"), tmp_path / "frames.xyz", sampling=few)
    without = dataclasses.replace(few, isolated_atoms=False)
    assert label(molecule("H2O"), tmp_path / "frames.xyz", sampling=without)
    assert [len(frame) for frame in read(tmp_path / "frames.xyz", index=":")] == [3]


def test_isolated_atoms_of_a_crystal_on_demand(tmp_path):
    few = Sampling(frames=1, stride=1, equilibration_steps=0, relax=False, calculator="emt", isolated_atoms=True)
    label(bulk("Cu", cubic=True), tmp_path / "cu.xyz", sampling=few)
    atom, frame = read(tmp_path / "cu.xyz", index=":")
    assert len(atom) == 1
    assert not atom.pbc.any()
    assert len(frame) == 4


def test_complete_output_is_left_alone(tmp_path):
    output = tmp_path / "frames.xyz"
    assert label(molecule("H2O"), output, sampling=QUICK)
    before = output.stat().st_mtime_ns
    assert not label(molecule("H2O"), output, sampling=QUICK)
    assert output.stat().st_mtime_ns == before


def test_other_settings_are_refused_and_named(tmp_path):
    output = tmp_path / "frames.xyz"
    label(molecule("H2O"), output, sampling=QUICK)
    other = Sampling(**{**SMALL, "stride": 7}, calculator="emt", timestep=0.5)
    with pytest.raises(ValueError, match=r"stride: 5 then, 7 now\n  timestep: 1.0 then, 0.5 now"):
        label(molecule("H2O"), output, sampling=other)
    with pytest.raises(ValueError, match="numbers: "):
        label(molecule("CO"), output, sampling=QUICK)


def test_a_file_of_something_else_is_not_overwritten(tmp_path):
    output = tmp_path / "frames.xyz"
    output.write_text("precious")
    with pytest.raises(ValueError, match="exists, but not its settings"):
        label(molecule("H2O"), output, sampling=QUICK)
    assert output.read_text() == "precious"


def test_a_failing_calculator_names_walker_and_step_and_can_go_on(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(os.path.dirname(__file__))
    module = importlib.import_module("test_label")
    sampling = Sampling(frames=8, stride=5, equilibration_steps=0, relax=False, calculator="test_label:Failing")
    module.Failing.evaluations = 0
    with pytest.raises(LabellingError, match=r"walker 0 \(300 K\), step \d+: .*SCF not converged"):
        label(molecule("H2O"), tmp_path / "frames.xyz", sampling=sampling)
    assert written(tmp_path / "frames.xyz.parts") > 1
    assert label(molecule("H2O"), tmp_path / "frames.xyz", sampling=sampling)
    assert [len(frame) for frame in read(tmp_path / "frames.xyz", index=":")] == [1, 1] + [3] * 8


def test_a_simulation_that_blows_up_names_walker_and_step(tmp_path):
    sampling = Sampling(frames=4, stride=5, timestep=40.0, friction=1e-4, relax=False, calculator="emt")
    with pytest.raises(ValueError, match=r"walker 0 \(300 K\), step -?\d+: .* shorter time step"):
        label(molecule("H2O"), tmp_path / "frames.xyz", sampling=sampling)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperatures": []}, "temperatures must be positive"),
        ({"temperatures": [300.0, 300.0]}, "twice"),
        ({"frames": 0}, "frames must be positive"),
        ({"timestep": float("nan")}, "timestep must be positive"),
        ({"walkers": 5, "frames": 4}, "cannot share"),
        ({"seed": -1}, "must not be negative"),
    ],
)
def test_nonsense_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**arguments)


def test_frames_are_shared_among_walkers():
    plan = Sampling(temperatures=[300, 600], frames=10, walkers=3).plan()
    assert [walker.frames for walker in plan] == [4, 3, 3, 4, 3, 3]
    assert [walker.index for walker in plan] == list(range(6))


@pytest.mark.parametrize("name", ["ase.calculators.lj:LennardJones", "ase.calculators.lj.LennardJones", "lj"])
def test_calculators_by_name_and_import_path(name):
    calculator = calculator_factory(name, {"sigma": 3.0})()
    assert isinstance(calculator, LennardJones)
    assert calculator.parameters.sigma == 3.0


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("tblitte", {}, "did you mean tblite"),
        ("no.such:Thing", {}, "cannot be imported"),
        ("ase.calculators.lj:Leonard", {}, "has no 'Leonard'"),
        ("collections:OrderedDict", {}, "not an ASE calculator"),
        ("lj", {"sigmaa": 1}, "has no argument 'sigmaa'; it has .*sigma"),
        ("tblite", {"metod": "GFN1-xTB"}, "has no argument 'metod'; it has .*method"),
        ("ase.calculators.singlepoint:SinglePointCalculator", {"b": 1}, "cannot be made with the arguments"),
    ],
)
def test_wrong_calculators_are_named(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        calculator_factory(name, arguments)()


def test_a_missing_tblite_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tblite.ase", None)
    with pytest.raises(ValueError, match=r"pip install sciml-suite\[label\]"):
        calculator_factory("tblite")


def test_threads_are_restored():
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    with single_thread():
        assert all(os.environ[name] for name in THREAD_VARIABLES)
    assert {name: os.environ.get(name) for name in THREAD_VARIABLES} == before


def test_structures_by_file_and_by_name(tmp_path):
    bulk("Cu").write(tmp_path / "cu.xyz")
    assert load_structure(str(tmp_path / "cu.xyz")).pbc.all()
    assert len(load_structure("CH3CH2OH")) == 9
    with pytest.raises(ValueError, match="neither a file, nor shipped weights, nor a molecule"):
        load_structure("ethanoool")
    (tmp_path / "junk.dat").write_text("junk")
    with pytest.raises(ValueError, match="cannot be read"):
        load_structure(str(tmp_path / "junk.dat"))


def test_the_settings_are_kept_beside_the_output(tmp_path):
    label(molecule("H2O"), tmp_path / "frames.xyz", sampling=QUICK)
    settings = json.loads((tmp_path / "frames.xyz.json").read_text())
    assert settings["calculator"] == "emt"
    assert settings["numbers"] == [8, 1, 1]
