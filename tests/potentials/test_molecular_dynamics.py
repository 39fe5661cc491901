"""Molecular dynamics: known solutions, statistics, and runs that are killed and continued."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.io import read

from sciml.potentials.ensembles import degrees_of_freedom, is_at_rest, thermal_momenta
from sciml.potentials.molecular_dynamics import (
    UnstableDynamicsError,
    energy_drift,
    run_md,
    standard_error,
    velocity_spectrum,
)

STIFFNESS, LENGTH = 20.0, 1.2  # eV/Å², Å


class Harmonic(Calculator):
    """Springs between successive atoms; the results depend on nothing else."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=tuple(all_changes)):
        super().calculate(atoms, properties, system_changes)
        bonds = np.diff(self.atoms.positions, axis=0)
        lengths = np.linalg.norm(bonds, axis=1, keepdims=True)
        pull = STIFFNESS * (lengths - LENGTH) * bonds / lengths
        forces = np.zeros_like(self.atoms.positions)
        forces[:-1] += pull
        forces[1:] -= pull
        self.results = {"energy": float(STIFFNESS / 2 * ((lengths - LENGTH) ** 2).sum()), "forces": forces}


class Remembering(Harmonic):
    """Forces that depend a little on the evaluation before, as those of a self-consistent method do."""

    previous = 0.0

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        self.results["forces"] = self.results["forces"] + 1e-9 * self.previous
        self.previous = self.results["forces"][0, 0]


class Failing(Harmonic):
    """A calculator that does not converge."""

    def calculate(self, *_args, **_kwargs):
        raise RuntimeError("no self-consistency")


def dimer(stretch=0.05):
    atoms = Atoms("N2", positions=[[0, 0, 0], [LENGTH + stretch, 0, 0]])
    atoms.calc = Harmonic()
    return atoms


def copper():
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    return atoms


def test_nve_follows_the_harmonic_solution():
    atoms = dimer()
    result = run_md(atoms, steps=200, timestep=0.1, thermalize=False, log_interval=1)
    omega = np.sqrt(STIFFNESS * 2 / atoms.get_masses()[0]) * units.fs  # 1/fs
    length = np.linalg.norm(result.positions[:, 1] - result.positions[:, 0], axis=1)
    np.testing.assert_allclose(length, LENGTH + 0.05 * np.cos(omega * result.time), atol=2e-5)


def test_the_energy_error_of_velocity_verlet_is_of_second_order():
    spread = [
        np.ptp(run_md(dimer(), steps=round(60 / dt), timestep=dt, thermalize=False, log_interval=1).total)
        for dt in (0.5, 1.0)
    ]
    assert np.log2(spread[1] / spread[0]) == pytest.approx(2, abs=0.1)


def test_nve_conserves_the_energy():
    result = run_md(copper(), steps=300, timestep=2.0, equilibration_steps=100)
    drift, error = result.drift()
    assert abs(drift) < max(4 * error, 0.1)
    assert np.ptp(result.total) < 0.02 * np.ptp(result.kinetic)


def test_drift_of_a_series_with_known_slope_and_correlated_noise():
    generator = np.random.default_rng(3)
    t = np.arange(4096.0)
    slopes, errors = [], []
    for _ in range(60):
        noise = np.convolve(generator.standard_normal(len(t) + 63), np.ones(64) / 8, mode="valid")
        slope, error = energy_drift(t, 1e-5 * t + 1e-3 * noise, 10)
        slopes.append(slope)
        errors.append(error)
    assert np.mean(slopes) == pytest.approx(1.0, abs=4 * np.std(slopes) / np.sqrt(60))
    assert 0.8 < np.mean(errors) / np.std(slopes) < 1.6  # without blocks: 0.12


def test_standard_error_of_correlated_series():
    generator = np.random.default_rng(4)
    series = [np.convolve(generator.standard_normal(2048 + 31), np.ones(32), mode="valid") for _ in range(100)]
    true = np.std([s.mean() for s in series])
    assert 0.8 < np.mean([standard_error(s) for s in series]) / true < 1.6
    assert np.isnan(standard_error(np.ones(1)))


def test_drift_needs_three_frames():
    with pytest.raises(ValueError, match="three"):
        energy_drift(np.arange(2), np.arange(2), 1)


def test_spectrum_of_a_dimer_is_its_frequency_and_normalised():
    result = run_md(dimer(), steps=4000, timestep=0.5, thermalize=False, log_interval=4)
    masses = result.atoms.get_masses()
    wavenumbers, spectrum = velocity_spectrum(result.velocities, 2.0, masses)
    omega = np.sqrt(STIFFNESS * 2 / masses[0]) * units.fs
    expected = omega / (2 * np.pi * 2.99792458e-5)  # cm^-1, c in cm/fs
    assert wavenumbers[spectrum.argmax()] == pytest.approx(expected, abs=20)
    assert np.trapezoid(spectrum, wavenumbers) == pytest.approx(1)
    with pytest.raises(ValueError, match="shape"):
        velocity_spectrum(result.velocities[:, :1], 2.0, masses)


@pytest.mark.parametrize(("name", "free"), [("CH3CH2OH", 21), ("CO2", 4), ("H2O", 3), ("N2", 1)])
def test_thermal_momenta_have_the_temperature_in_the_free_momenta(name, free):
    atoms = molecule(name)
    generator = np.random.default_rng(1)
    assert degrees_of_freedom(atoms, drift_removed=True) == free
    kinetic = []
    for _ in range(4000):
        thermal_momenta(atoms, 300, generator)
        kinetic.append(atoms.get_kinetic_energy())
    assert np.abs(atoms.get_momenta().sum(axis=0)).max() < 1e-10
    assert np.abs(atoms.get_angular_momentum()).max() < 1e-10
    expected = free * units.kB * 300 / 2
    assert np.mean(kinetic) == pytest.approx(expected, abs=5 * np.std(kinetic) / np.sqrt(4000))


def test_a_single_atom_and_a_crystal_have_momenta():
    generator = np.random.default_rng(1)
    argon = Atoms("Ar")
    thermal_momenta(argon, 300, generator)
    assert np.isfinite(argon.get_momenta()).all()
    crystal = bulk("Cu", cubic=True)
    thermal_momenta(crystal, 300, generator)
    assert degrees_of_freedom(crystal, drift_removed=True) == 9
    assert np.abs(crystal.get_momenta().sum(axis=0)).max() < 1e-10


def test_langevin_has_the_temperature_of_its_thermostat():
    atoms = dimer(0.0)
    atoms.set_masses([60.0, 60.0])
    result = run_md(
        atoms, ensemble="langevin", steps=10000, equilibration_steps=500, timestep=1.0, friction=0.05, log_interval=10
    )
    error = standard_error(result.temperature)
    assert result.temperature.mean() == pytest.approx(300, abs=4 * error)
    assert error < 20
    stretch = np.linalg.norm(result.positions[:, 1] - result.positions[:, 0], axis=1) - LENGTH
    assert np.mean(stretch**2) == pytest.approx(units.kB * 300 / STIFFNESS, rel=0.25)


def test_npt_has_the_pressure_of_its_barostat():
    result = run_md(
        copper(), ensemble="npt", pressure=2.0, temperature=300, steps=800, equilibration_steps=200, timestep=4.0,
        friction=0.02, barostat_time=300.0, log_interval=4,
    )  # fmt: skip
    error = standard_error(result.pressure)
    assert result.pressure.mean() == pytest.approx(2.0, abs=4 * error)
    assert error < 0.5
    assert np.ptp(result.volume) > 0.1


@pytest.mark.parametrize("ensemble", ["nve", "langevin", "npt"])
def test_files_hold_what_memory_holds_and_a_longer_run_continues(tmp_path, ensemble):
    settings = {"ensemble": ensemble, "timestep": 2.0, "log_interval": 5, "segment_steps": 20, "equilibration_steps": 7}
    whole = run_md(copper(), steps=60, **settings)
    run_md(copper(), steps=40, folder=tmp_path, **settings)
    result = run_md(copper(), steps=60, folder=tmp_path, **settings)
    np.testing.assert_array_equal(result.total, whole.total)
    np.testing.assert_array_equal(result.time, whole.time)
    np.testing.assert_array_equal(result.atoms.positions, whole.atoms.positions)
    frames = read(tmp_path / "trajectory.xyz", index=":")
    assert len(frames) == 13
    np.testing.assert_allclose(frames[-1].get_momenta(), whole.atoms.get_momenta(), atol=1e-8)
    again = run_md(copper(), steps=60, folder=tmp_path, **settings)
    np.testing.assert_array_equal(again.total, whole.total)
    assert again.seconds == result.seconds
    with pytest.raises(ValueError, match="more than"):
        run_md(copper(), steps=50, folder=tmp_path, **settings)
    with pytest.raises(ValueError, match=r"timestep: 2.0 then, 1.0 now"):
        run_md(copper(), steps=60, folder=tmp_path, **{**settings, "timestep": 1.0})
    held = copper()
    held.set_constraint(FixAtoms([0]))
    with pytest.raises(ValueError, match="structure: "):
        run_md(held, steps=60, folder=tmp_path, **settings)


def test_the_past_of_a_calculator_makes_no_difference(tmp_path):
    start = Atoms("N3", positions=[[0, 0, 0], [1.2, 0, 0], [1.5, 1.1, 0]])
    start.calc = Remembering()
    settings = {"timestep": 0.5, "segment_steps": 10, "log_interval": 1, "new_calculator": Remembering}
    whole = run_md(start, steps=40, **settings)
    run_md(start, steps=20, folder=tmp_path, **settings)
    result = run_md(start, steps=40, folder=tmp_path, **settings)
    np.testing.assert_array_equal(result.total, whole.total)


SCRIPT = """
import sys, time
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from sciml.potentials.molecular_dynamics import run_md
atoms = bulk("Cu", cubic=True)
atoms.calc = EMT()
run_md(atoms, steps=150, ensemble=sys.argv[2], timestep=2.0, log_interval=5, segment_steps=15, folder=sys.argv[1],
       on_progress=lambda done, total: time.sleep(0.002))
"""


@pytest.mark.parametrize("ensemble", ["nve", "langevin", "npt"])
def test_a_killed_run_continues_to_the_last_bit(tmp_path, ensemble):
    settings = {"ensemble": ensemble, "timestep": 2.0, "log_interval": 5, "segment_steps": 15}
    whole = run_md(copper(), steps=150, folder=tmp_path / "whole", **settings)
    folder = tmp_path / "killed"
    for frames in (5, 16):
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder), ensemble], env=os.environ)
        try:
            wait_for(lambda n=frames: count_lines(folder / "energies.csv") > n, process)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert count_lines(folder / "energies.csv") < 31
    with (folder / "trajectory.xyz").open("a") as file:  # as if killed between the frames and their state
        file.write("4\nhalf a fra")
    run_md(copper(), steps=150, folder=folder, **settings)
    assert whole.steps == 150
    for name in ("trajectory.xyz", "energies.csv"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def wait_for(condition, process, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the process ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def count_lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_a_run_that_blows_up_names_the_step():
    with pytest.raises(UnstableDynamicsError, match=r"step \d+ .* fs\): the temperature is .* shorter time step"):
        run_md(dimer(0.3), steps=100, timestep=20.0, thermalize=False, log_interval=1)


def test_a_failing_calculator_is_reported():
    atoms = dimer()
    atoms.calc = Failing()
    with pytest.raises(UnstableDynamicsError, match="failed between steps 0 and 5: no self-consistency"):
        run_md(atoms, steps=5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ensemble": "nvt"}, "unknown ensemble 'nvt'"),
        ({"ensemble": "npt"}, "all axes must be periodic"),
        ({"timestep": 0.0}, "timestep must be positive"),
        ({"timestep": float("nan")}, "timestep must be positive"),
        ({"steps": -1}, "steps must not be negative"),
        ({"temperature": -3.0}, "temperature must not be negative"),
        ({"log_interval": 0}, "log_interval must be positive"),
    ],
)
def test_nonsense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        run_md(dimer(), **{"steps": 1, **arguments})


def test_a_structure_without_calculator_is_refused():
    with pytest.raises(ValueError, match=r"set atoms\.calc"):
        run_md(Atoms("H"), steps=1)


def test_a_run_that_goes_on_from_a_file_measures_the_same_temperature(tmp_path):
    atoms = Atoms("COH", positions=[[0, 0, 0], [LENGTH, 0, 0], [LENGTH, LENGTH, 0]], calculator=Harmonic())
    started = run_md(atoms, steps=0, equilibration_steps=20, folder=tmp_path)
    read_back = read(tmp_path / "trajectory.xyz")
    assert is_at_rest(read_back)
    read_back.calc = Harmonic()
    continued = run_md(read_back, steps=0, thermalize=False)
    assert continued.temperature[0] == pytest.approx(started.temperature[0], rel=1e-6)


@pytest.mark.parametrize("motion", [[[1, 0, 0]] * 3, [[0, 0, 0], [0, 1, 0], [0, 0, 0]]])
def test_what_moves_or_turns_is_not_at_rest(motion):
    atoms = Atoms("H3", positions=[[0, 0, 0], [1, 0, 0], [0, 1, 0]], momenta=np.zeros((3, 3)))
    assert is_at_rest(atoms)
    atoms.set_momenta(np.array(motion, dtype=float) - np.mean(motion, axis=0) * (motion[0] != motion[1]))
    assert not is_at_rest(atoms)
