"""Steps that follow the field: reversible, of order 2, without drift of the energy."""

import numpy as np
import pytest

from sciml.integrators import KleinGordon, named_potential
from sciml.integrators.reversible_steps import run_reversibly
from sciml.integrators.solitons import breather

SINE_GORDON = named_potential("sine_gordon")


def breathing(num_x=64):
    solver = KleinGordon(SINE_GORDON, 40, num_x=num_x, boundary="even")
    return solver, *breather(SINE_GORDON, solver.space.coordinates[0], frequency=0.5, t=0.3)


def test_steps_change_and_run_back():
    solver, phi, pi = breathing()
    there = run_reversibly(solver, phi, pi, steps=300, step=0.2)
    taken = np.diff(there.t)
    assert taken.max() > 1.1 * taken.min()
    back = run_reversibly(solver, there.phi, -there.pi, steps=300, step=0.2, density=there.density, scale=there.scale)
    assert np.abs(back.phi - phi).max() < 1e-11
    assert np.abs(back.pi + pi).max() < 1e-11
    assert back.t[-1] == pytest.approx(there.t[-1], abs=1e-11)


def test_order_two():
    solver, phi, pi = breathing(128)
    x = solver.space.coordinates[0]
    errors, steps = [], (400, 560, 800)
    for number in steps:
        run = run_reversibly(solver, phi, pi, steps=number, step=10 / number)
        exact = breather(SINE_GORDON, x, frequency=0.5, t=0.3 + run.t[-1])[0]
        errors.append(np.abs(run.phi - exact).max())
    assert -np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(2, abs=0.1)


def test_energy_does_not_drift():
    solver, phi, pi = breathing()
    run = run_reversibly(solver, phi, pi, steps=4000, step=0.15)
    error = np.abs(run.energy / run.energy[0] - 1)
    assert error[-1000:].max() < 1.5 * error[:1000].max() < 0.01


def test_what_is_refused():
    solver, phi, pi = breathing()
    with pytest.raises(ValueError, match="beyond the stability"):
        run_reversibly(solver, phi, pi, steps=3, step=30.0)
    with pytest.raises(ValueError, match="change too fast"):
        run_reversibly(solver, phi, pi, steps=3, step=0.1, density=-9.0)
