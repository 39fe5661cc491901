"""Exact solutions obey the equation, and honour the parameters."""

import numpy as np
import pytest

from sciml.integrators import KleinGordon, named_potential
from sciml.integrators.solitons import breather, kink, kink_antikink, kink_mass, sine_gordon_collision

PHI4 = named_potential("phi4", lam=1.7, v=0.8)
SINE_GORDON = named_potential("sine_gordon", m=1.3, v=0.7)

SOLUTIONS = {
    "phi4 kink": (PHI4, lambda x, t: kink(PHI4, x, t=t, velocity=0.6, center=0.3)),
    "sine-Gordon antikink": (SINE_GORDON, lambda x, t: kink(SINE_GORDON, x, t=t, velocity=-0.4, sign=-1)),
    "breather": (SINE_GORDON, lambda x, t: breather(SINE_GORDON, x, t=t, frequency=0.6, velocity=0.3)),
    "collision": (SINE_GORDON, lambda x, t: sine_gordon_collision(SINE_GORDON, x, t=t, velocity=0.5)),
}


@pytest.mark.parametrize(("potential", "solution"), SOLUTIONS.values(), ids=SOLUTIONS)
def test_solutions_obey_the_equation(potential, solution):
    x, t, h = np.linspace(-3, 3, 61), 0.7, 1e-3
    phi, pi = solution(x, t)
    assert np.abs((solution(x, t + h)[0] - solution(x, t - h)[0]) / (2 * h) - pi).max() < 1e-5
    second_t = (solution(x, t + h)[0] - 2 * phi + solution(x, t - h)[0]) / h**2
    second_x = (solution(x + h, t)[0] - 2 * phi + solution(x - h, t)[0]) / h**2
    assert np.abs(second_t - second_x + potential.slope(phi)).max() < 1e-5


@pytest.mark.parametrize("potential", [PHI4, SINE_GORDON], ids=lambda p: p.name)
def test_energy_and_momentum_of_boosted_kinks(potential):
    """E = γM and P = γMu, for λ, v, m other than 1."""
    velocity, gamma = 0.6, 1.25
    solver = KleinGordon(potential, 60, num_x=1024, boundary="neumann")
    phi, pi = kink(potential, solver.space.coordinates[0], velocity=velocity)
    found = solver.diagnostics(solver.space.to_coefficients(phi)[None], solver.space.to_coefficients(pi)[None])
    assert found.energy[0] == pytest.approx(gamma * kink_mass(potential), rel=1e-10)
    assert found.momentum[0, 0] == pytest.approx(gamma * velocity * kink_mass(potential), rel=1e-10)
    assert found.topological_charge[0] == pytest.approx(1, abs=1e-10)


def test_masses():
    assert kink_mass(named_potential("phi4")) == pytest.approx(0.9428090416, abs=1e-10)
    assert kink_mass(named_potential("sine_gordon")) == 8


def test_pairs_are_in_one_vacuum_at_both_ends():
    x = np.linspace(-60, 60, 401)
    for potential in (PHI4, SINE_GORDON):
        for first in (False, True):
            phi, pi = kink_antikink(potential, x, velocity=0.3, separation=20, antikink_first=first)
            assert phi[0] == pytest.approx(phi[-1], abs=1e-12)
            assert potential.is_vacuum(phi[0])
            assert np.abs(pi[[0, -1]]).max() < 1e-12
            assert abs(phi[200] - phi[0]) == pytest.approx(potential.spacing, rel=1e-4)


def test_bad_input():
    with pytest.raises(ValueError, match="below that of light"):
        kink(PHI4, [0.0], velocity=1.0)
    with pytest.raises(ValueError, match="0 < ω < m"):
        breather(SINE_GORDON, [0.0], frequency=1.4)
    with pytest.raises(ValueError, match="sine_gordon only"):
        breather(PHI4, [0.0], frequency=0.5)
    with pytest.raises(ValueError, match="for phi4 and sine_gordon only"):
        kink(named_potential("linear"), [0.0])
    with pytest.raises(ValueError, match="must be positive"):
        kink_antikink(PHI4, [0.0], velocity=0.3, separation=0)
