"""Collisions of kinks: outcomes, sweeps that continue, the critical velocity."""

import numpy as np
import pytest

from sciml.integrators import kink_collisions
from sciml.integrators.kink_collisions import (
    CollisionSettings,
    critical_velocity,
    outcome,
    sweep_velocities,
)

SHORT = CollisionSettings(time=100.0, length=200.0, num_x=512)


def test_outcomes_of_known_velocities():
    velocities = [0.15, 0.1988, 0.2268, 0.2386, 0.30, 0.40]
    kinds = [str(one) for one in sweep_velocities(velocities, CollisionSettings(num_x=512, time=250.0)).outcomes()]
    assert kinds == ["capture", "2 bounces", "2 bounces", "2 bounces", "reflection", "reflection"]


def test_outcome_counts_bounces():
    t = np.linspace(0, 100, 1001)
    center = np.where((t > 20) & (t < 22) | (t > 35) & (t < 37), -1.5, 1.0)
    assert str(outcome(t, center, np.where(t > 50, 1.0, -1.0))) == "2 bounces"
    assert str(outcome(t, center, np.full_like(t, -1.0))) == "undecided"
    assert str(outcome(t, np.ones_like(t), np.ones_like(t))) == "undecided"
    assert str(outcome(t, np.where(t > 20, -1 + 0.5 * np.cos(1.3 * t), 1), np.full_like(t, -1.0))) == "capture"


def test_a_killed_sweep_continues(tmp_path, monkeypatch):
    velocities = np.linspace(0.2, 0.3, 5)
    whole = sweep_velocities(velocities, SHORT)
    ensemble, calls = kink_collisions.run_ensemble, []

    def dying(*arguments, **settings):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return ensemble(*arguments, **settings)

    monkeypatch.setattr(kink_collisions, "run_ensemble", dying)
    with pytest.raises(KeyboardInterrupt):
        sweep_velocities(velocities, SHORT, path=tmp_path / "sweep.npz", batch=2)
    done = []
    again = sweep_velocities(
        velocities, SHORT, path=tmp_path / "sweep.npz", batch=2, on_progress=lambda n, _: done.append(n)
    )
    assert done == [4, 5]
    assert np.array_equal(again.readings, whole.readings)
    other = CollisionSettings(time=100.0, length=200.0, num_x=600)
    with pytest.raises(ValueError, match="another sweep: num_x: 512 then, 600 now"):
        sweep_velocities(velocities, other, path=tmp_path / "sweep.npz")
    with pytest.raises(ValueError, match="velocities differ"):
        sweep_velocities(velocities + 0.01, SHORT, path=tmp_path / "sweep.npz")
    with pytest.raises(ValueError, match=r"\.npz"):
        sweep_velocities(velocities[:1], SHORT, path=tmp_path / "sweep.txt")


def test_velocities_after_a_reflection():
    """A fast pair loses little, and what it loses is no gain."""
    settings = CollisionSettings(time=150.0, length=200.0, num_x=512, probes=(0.0, *np.arange(10.0, 41.0, 3.0)))
    sweep = sweep_velocities([0.5, 0.6], settings)
    out = sweep.outgoing_velocities(10, 40)
    assert np.all((out > 0.35) & (out < [0.5, 0.6]))
    assert np.isnan(sweep.outgoing_velocities(10, 40)).sum() == 0
    assert sweep.energy_error.max() < 1e-5


def test_critical_velocity_is_the_root():
    v = np.linspace(0.261, 0.266, 11)
    out2 = 1.3 * (v**2 - 0.26**2) - 2.0 * (v**2 - 0.26**2) ** 2
    found, slope = critical_velocity(v, np.sqrt(out2))
    assert found == pytest.approx(0.26, abs=1e-9)
    assert slope == pytest.approx(1.3, rel=1e-6)
