"""Coefficients of splitting schemes: order conditions, symmetry, measured orders, bounds of stability."""

import math

import numpy as np
import pytest

from sciml.integrators.splitting import SCHEMES, splitting_scheme

ALL = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)


def pendulum(scheme, steps, time=4.0):
    """Two coupled oscillators of Hénon and Heiles, in extended precision so that order 8 shows."""
    q, p = np.array([0.3, 0.2], dtype=np.longdouble), np.array([0.1, -0.25], dtype=np.longdouble)
    h = np.longdouble(time) / steps
    for _ in range(steps):
        for a, b in zip(scheme.drifts, scheme.kicks, strict=True):
            q = q + a * h * p
            p = p + b * h * np.array([-q[0] - 2 * q[0] * q[1], -q[1] - q[0] ** 2 + q[1] ** 2])
    return np.concatenate([q, p])


@ALL
def test_drifts_and_kicks_sum_to_one_and_are_palindromes(scheme):
    assert math.fsum(scheme.drifts) == pytest.approx(1, abs=1e-15)
    assert math.fsum(scheme.kicks) == pytest.approx(1, abs=1e-15)
    a = [x for x in scheme.drifts if x]
    b = [x for x in scheme.kicks if x]
    assert a == pytest.approx(a[::-1], abs=1e-16)
    assert b == pytest.approx(b[::-1], abs=1e-16)


@ALL
def test_measured_order(scheme):
    first = {2: 128, 4: 48, 6: 24, 8: 16}[scheme.order]
    steps = [first, 2 * first, 4 * first]
    ends = [pendulum(scheme, n) for n in [*steps, 8 * first]]
    errors = [float(np.abs(end - ends[-1]).max()) for end in ends[:-1]]
    # errors against the finest are those against the truth times 1 − (n/8n_0)^order
    errors = [e / (1 - (n / (8 * first)) ** scheme.order) for e, n in zip(errors, steps, strict=True)]
    order = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert order == pytest.approx(scheme.order, abs=0.1)


@pytest.mark.parametrize("name", ["yoshida_4", "yoshida_6", "yoshida_8", "kahan_li_8"])
def test_compositions_obey_the_power_sums(name):
    """Σ γ = 1, Σ γ³ = 0, and Σ γ⁵ = 0 from order 6, Σ γ⁷ = 0 from order 8: what one-frequency terms need."""
    scheme = SCHEMES[name]
    lengths = [b for b in scheme.kicks if b]
    for power in range(3, scheme.order, 2):
        assert abs(math.fsum(g**power for g in lengths)) < 1e-14


def test_bounds_of_stability():
    assert SCHEMES["stormer_verlet"].stability_limit == pytest.approx(2, abs=1e-6)
    assert SCHEMES["yoshida_4"].stability_limit == pytest.approx(1.5734, abs=1e-3)
    assert all(2 / 17 < s.stability_limit / s.forces_per_step <= 2 + 1e-6 for s in SCHEMES.values())


def test_forces_per_step():
    assert {name: s.forces_per_step for name, s in SCHEMES.items()} == {
        "stormer_verlet": 1,
        "yoshida_4": 3,
        "yoshida_6": 7,
        "yoshida_8": 15,
        "kahan_li_8": 17,
        "blanes_moan_4": 6,
        "blanes_moan_6": 11,
        "blanes_moan_6_14": 14,
    }


def test_unknown_scheme():
    with pytest.raises(ValueError, match="did you mean yoshida_4"):
        splitting_scheme("yoshida4")
