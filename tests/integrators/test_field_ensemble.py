"""Ensembles: each member has the bits of a run alone, whatever the threads and processes."""

import numba
import numpy as np
import pytest
import torch

from sciml.integrators import KleinGordon, named_potential, user_potential
from sciml.integrators.field_ensemble import run_ensemble, run_ensemble_on_processes
from sciml.integrators.field_ensemble_torch import run_ensemble_on_device
from sciml.integrators.solitons import kink_antikink

PHI4 = named_potential("phi4")


def members(solver, velocities):
    x = solver.space.coordinates[0]
    pairs = [kink_antikink(PHI4, x, velocity=u, separation=20) for u in velocities]
    return tuple(np.stack(fields) for fields in zip(*pairs, strict=True))


@pytest.mark.parametrize("boundary", ["periodic", "even"])
def test_members_have_the_bits_of_single_runs(boundary):
    solver = KleinGordon(PHI4, 80, num_x=256, boundary=boundary, dt=0.1)
    phi, pi = members(solver, [0.2, 0.3, 0.4])
    done = run_ensemble(solver, phi, pi, time=40, frames=21, probes=(0.0, 5.0))
    for member in range(3):
        alone = solver.run(phi[member], pi[member], time=40, frames=21)
        assert np.array_equal(done.phi[member], alone.phi[-1])
        assert np.array_equal(done.pi[member], alone.pi[-1])
        if boundary == "periodic":  # which has a point at x = 0
            assert np.abs(done.readings[member, :, 0] - alone.phi[:, 128]).max() < 1e-12
    assert done.readings.shape == (3, 21, 2)
    assert done.energy_error.max() < 1e-8


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="numba has one thread")
def test_threads_do_not_change_bits():
    solver = KleinGordon(PHI4, 80, num_x=256, dt=0.1)
    phi, pi = members(solver, [0.2, 0.25, 0.3, 0.4])
    one, two = (run_ensemble(solver, phi, pi, time=20, frames=2, threads=n) for n in (1, 2))
    assert np.array_equal(one.phi, two.phi)


def test_processes_do_not_change_bits():
    solver = KleinGordon(PHI4, 80, num_x=256, dt=0.1)
    phi, pi = members(solver, [0.2, 0.25, 0.3])
    one = run_ensemble(solver, phi, pi, time=10, frames=3)
    two = run_ensemble_on_processes(solver, phi, pi, time=10, frames=3, processes=2, batch=2)
    assert np.array_equal(one.phi, two.phi)
    assert np.array_equal(one.readings, two.readings)


def test_what_an_ensemble_refuses():
    solver = KleinGordon(PHI4, 80, num_x=256, exponential=True, scheme="yoshida_4", dt=0.1)
    phi, pi = members(solver, [0.2])
    with pytest.raises(ValueError, match="one reference for all"):
        run_ensemble(solver, phi, pi, time=10, frames=3)
    with pytest.raises(ValueError, match="in float64"):
        run_ensemble(KleinGordon(PHI4, 80, num_x=256, fixed_point=True), phi, pi, time=10, frames=3)
    with pytest.raises(ValueError, match="same shapes"):
        run_ensemble(KleinGordon(PHI4, 80, num_x=256), phi, pi[:, 1:], time=10, frames=3)


@pytest.mark.parametrize("name", ["phi4", "sine_gordon", "double_sine_gordon", "linear"])
@pytest.mark.parametrize("dealias", [False, True])
@pytest.mark.filterwarnings("ignore:the force of")
def test_torch_gives_the_same(name, dealias):
    potential = named_potential(name, m=1.1, lam=0.9, v=1.2)
    solver = KleinGordon(potential, 40, num_x=64, dt=0.1, dealias=dealias)
    x = solver.space.coordinates[0]
    phi = np.stack([1.2 * (name == "phi4") + a * np.exp(-(x**2) / 4) for a in (0.3, 0.5)])
    pi = np.stack([np.exp(-((x - 1) ** 2) / 4)] * 2)
    settings = {"time": 10, "frames": 5, "probes": (0.0, 3.1)}
    one = run_ensemble(solver, phi, pi, **settings)
    two = run_ensemble_on_device(solver, phi, pi, device="cpu", **settings)
    assert np.abs(one.phi - two.phi).max() < 1e-12
    assert np.abs(one.pi - two.pi).max() < 1e-12
    assert np.abs(one.readings - two.readings).max() < 1e-12


def test_what_a_device_refuses():
    phi = np.ones((1, 64))
    with pytest.raises(ValueError, match="are periodic"):
        run_ensemble_on_device(KleinGordon(PHI4, 40, num_x=64, boundary="even"), phi, 0 * phi, time=1, frames=2)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="finds no GPU"):
            run_ensemble_on_device(KleinGordon(PHI4, 40, num_x=64), phi, 0 * phi, time=1, frames=2)
    own = user_potential(lambda p: 0.5 * p * p, lambda p: p)
    with pytest.raises(ValueError, match="for tensors"):
        run_ensemble_on_device(KleinGordon(own, 40, num_x=64), phi, 0 * phi, time=1, frames=2, device="cpu")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_same():
    solver = KleinGordon(PHI4, 80, num_x=256, dt=0.1)
    phi, pi = members(solver, [0.3, 0.4])
    one = run_ensemble(solver, phi, pi, time=20, frames=3)
    two = run_ensemble_on_device(solver, phi, pi, time=20, frames=3)
    assert np.abs(one.phi - two.phi).max() < 1e-11
