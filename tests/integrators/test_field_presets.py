"""Presets: each starts in vacua with the energy in closed form, runs, and continues from its file."""

import math

import numpy as np
import pytest

from sciml.integrators import FieldRun
from sciml.integrators.field_presets import PRESETS, simulation

GAMMA_03 = 1 / math.sqrt(1 - 0.09)
ENERGIES = {
    "kink": 2 * math.sqrt(2) / 3,
    "boosted-kink": 2 * math.sqrt(2) / 3 / 0.6,
    "breather": 16 * math.sqrt(0.75),
    "kink-antikink": GAMMA_03 * 4 * math.sqrt(2) / 3,
    "sine-gordon-collision": 16 * GAMMA_03,
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_conserves_its_energy(name):
    chosen = simulation(name, time=2.0, frames=3, **({"num_x": 96} if name == "collapsing-ring" else {}))
    run = chosen.run()
    assert run.energy_error < 1e-8
    assert run.t[-1] == 2
    if name in ENERGIES:
        assert run.energy[0] == pytest.approx(ENERGIES[name], rel=1e-4)
    if name not in ("linear-wave", "collapsing-ring"):
        assert all(chosen.solver.potential.is_vacuum(value) for value in run.phi[0, [0, -1]])


def test_parameters_are_honoured():
    run = simulation("kink", lam=2.0, v=0.5, time=1.0, frames=2).run()
    assert run.energy[0] == pytest.approx(2 * math.sqrt(2) / 3 * math.sqrt(2) * 0.5**3, rel=1e-9)
    assert run.settings["potential_lam"] == 2


def test_a_simulation_continues_from_its_file_bit_by_bit(tmp_path):
    whole = simulation("kink-antikink", velocity=0.4, noise=1e-3, seed=7, time=6.0, frames=13).run()
    half = simulation("kink-antikink", velocity=0.4, noise=1e-3, seed=7, time=3.0, frames=7)
    calls = []
    half.run(tmp_path / "run.nc", save_every=0.0, on_progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (6, 6)
    longer = simulation("kink-antikink", velocity=0.4, noise=1e-3, seed=7, time=6.0, frames=13)
    longer.run(tmp_path / "run.nc")
    done = FieldRun.load(tmp_path / "run.nc")
    assert np.array_equal(done.phi, whole.phi)
    assert np.array_equal(done.pi, whole.pi)
    assert done.notes["seed"] == 7
    with pytest.raises(ValueError, match=r"velocity: 0\.4 then, 0\.3 now"):
        simulation("kink-antikink", noise=1e-3, seed=7, time=6.0, frames=13).run(tmp_path / "run.nc")


def test_units_and_parameters_are_in_the_dataset():
    dataset = simulation("kink", time=1.0, frames=2).run().to_dataset()
    assert dataset.phi.dtype == np.float64
    assert dataset.phi.dims == ("t", "x")
    assert {"phi", "pi", "energy", "momentum", "topological_charge"} <= set(dataset)
    assert dataset.x.attrs["units"] == "1/mass"
    plane = simulation("collapsing-ring", num_x=96, time=1.0, frames=2).run().to_dataset()
    assert plane.phi.dims == ("t", "x", "y")
    assert "not defined" in plane.attrs["topological_charge"]


def test_bad_input():
    with pytest.raises(ValueError, match="did you mean kink-antikink"):
        simulation("kink_antikink")
    with pytest.raises(ValueError, match="kink has no 'velocty'; did you mean velocity"):
        simulation("kink", velocty=0.1)
    with pytest.raises(ValueError, match="below that of light"):
        simulation("kink", velocity=1.2)
    with pytest.raises(ValueError, match="breather has no 'velocity'"):
        simulation("breather", velocity=0.2)
