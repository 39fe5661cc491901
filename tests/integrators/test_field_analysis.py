"""Entropies, statistics of correlated series, embeddings, modes of kinks."""

import math
from dataclasses import replace

import numpy as np
import pytest

from sciml.integrators import KleinGordon, named_potential
from sciml.integrators.correlated_statistics import (
    block_bootstrap,
    cliffs_delta,
    compare,
    correlation_time,
    effective_size,
    kernel_density,
)
from sciml.integrators.delay_embedding import embed, embedding_dimension, first_minimum_delay
from sciml.integrators.field_entropies import energy_density, entropies
from sciml.integrators.frequencies import leading_frequencies
from sciml.integrators.kink_modes import SHAPE_FREQUENCY, kink_positions, shape_amplitudes, shape_mode
from sciml.integrators.solitons import breather, kink

PHI4 = named_potential("phi4")


# --- entropies --------------------------------------------------------------------------------------------------------


def test_entropies_of_known_densities():
    x = (np.arange(4000) - 2000) * 0.01
    sigma = 1.3
    gauss = entropies(np.exp(-(x**2) / (2 * sigma**2)), 40.0)
    assert gauss.shannon[0] == pytest.approx(0.5 * math.log(2 * math.pi * math.e * sigma**2), abs=1e-9)
    assert gauss.renyi[1, 0] == pytest.approx(math.log(2 * math.sqrt(math.pi) * sigma), abs=1e-9)
    uniform = entropies(np.ones(64), 40.0)
    assert uniform.shannon[0] == pytest.approx(math.log(40))
    assert uniform.of_points[0] == pytest.approx(math.log(64))
    assert uniform.tsallis == pytest.approx(np.zeros((2, 1)))
    narrow = entropies(np.exp(-((x / 0.1) ** 2)), 40.0)
    assert narrow.shannon[0] < 0 < narrow.of_points[0]


@pytest.mark.parametrize("boundary", ["neumann", "odd", "antiperiodic"])
def test_entropy_of_the_energy_does_not_depend_on_the_grid(boundary):
    found = []
    for num_x in (256, 512):
        solver = KleinGordon(PHI4, 60, num_x=num_x, boundary=boundary)
        density = energy_density(solver, *kink(PHI4, solver.space.coordinates[0]))
        assert density.sum() * 60 / num_x == pytest.approx(2 * math.sqrt(2) / 3, abs=1e-9)
        found.append(entropies(density, 60.0))
    assert found[0].shannon[0] == pytest.approx(found[1].shannon[0], abs=1e-6)
    assert found[0].renyi == pytest.approx(found[1].renyi, abs=1e-6)
    assert all(one.shannon[0] <= math.log(60) and one.of_points[0] <= math.log(512) for one in found)


def test_energy_density_of_an_even_field_is_the_energy():
    potential = named_potential("sine_gordon")
    solver = KleinGordon(potential, 80, num_x=256, boundary="even")
    density = energy_density(solver, *breather(potential, solver.space.coordinates[0], frequency=0.5, t=1.0))
    assert density.sum() * 80 / 256 == pytest.approx(16 * math.sqrt(0.75), abs=1e-8)


def test_bad_densities():
    with pytest.raises(ValueError, match="not negative"):
        entropies([-1.0, 2.0], 1.0)
    with pytest.raises(ValueError, match="order 1"):
        entropies([1.0, 2.0], 1.0, renyi=(1,))


# --- statistics -------------------------------------------------------------------------------------------------------


def autoregressive(rng, number, memory):
    x = np.zeros(number)
    noise = rng.standard_normal(number)
    for i in range(1, number):
        x[i] = memory * x[i - 1] + noise[i]
    return x


def test_correlation_time_of_an_autoregressive_series():
    x = autoregressive(np.random.default_rng(1), 40000, 0.9)
    assert correlation_time(x) == pytest.approx(19, rel=0.15)  # (1 + 0.9) / (1 − 0.9)
    assert effective_size(np.random.default_rng(2).standard_normal(4000)) == pytest.approx(4000, rel=0.15)
    assert effective_size(np.ones(50)) == 1


def test_tests_respect_correlation():
    """Series of one process differ as rarely as the level says; with independent samples half of them would."""
    rng = np.random.default_rng(3)
    p = [
        compare(autoregressive(rng, 800, 0.9), autoregressive(rng, 800, 0.9), rng=rng, samples=199).p_value
        for _ in range(60)
    ]
    assert np.mean(np.array(p) < 0.05) < 0.17
    other = compare(autoregressive(rng, 800, 0.9) + 4, autoregressive(rng, 800, 0.9), rng=rng)
    assert other.p_value < 0.01
    assert 0 < other.interval[0] < other.difference < other.interval[1]
    assert other.cliffs_delta > 0.5


def test_effect_size_and_density():
    assert cliffs_delta([3, 4], [1, 2]) == 1
    assert cliffs_delta([1, 2], [1, 2]) == 0
    rng = np.random.default_rng(4)
    points = np.linspace(-6, 6, 601)
    density = kernel_density(rng.standard_normal(2000), points)
    assert density.sum() * 0.02 == pytest.approx(1, abs=1e-3)
    a, b = (block_bootstrap(np.arange(50.0), rng=np.random.default_rng(5), samples=9) for _ in range(2))
    assert np.array_equal(a, b)


# --- embeddings -------------------------------------------------------------------------------------------------------


def test_embedding_of_an_oscillation():
    t = np.arange(3000) * 0.05
    x = np.cos(t) + 0.3 * np.cos(np.sqrt(2) * t)
    delay = first_minimum_delay(x)
    assert 15 < delay < 50  # a quarter of the period is 31
    assert embedding_dimension(np.cos(t), delay=31) == 2
    assert 3 <= embedding_dimension(x, delay=31) <= 4  # a torus
    assert embed(x, dimension=3, delay=10).shape == (2980, 3)
    with pytest.raises(ValueError, match="no embedding"):
        embed(x[:10], dimension=3, delay=10)


# --- kinks ------------------------------------------------------------------------------------------------------------


def test_shape_mode_is_found():
    solver = KleinGordon(PHI4, 60, num_x=256, boundary="odd", dt=0.1)
    x = solver.space.coordinates[0]
    run = solver.run(kink(PHI4, x)[0] + 1e-3 * shape_mode(x), time=100, frames=501)
    amplitudes = shape_amplitudes(run, np.zeros(501))
    assert amplitudes[0] == pytest.approx(1e-3, rel=1e-6)
    assert leading_frequencies(amplitudes, 0.2)[0][0] == pytest.approx(SHAPE_FREQUENCY, rel=1e-4)


def test_positions_of_a_moving_kink():
    solver = KleinGordon(PHI4, 80, num_x=512, boundary="neumann", dt=0.05)
    run = solver.run(*kink(PHI4, solver.space.coordinates[0], velocity=0.5, center=-10), time=20, frames=11)
    assert kink_positions(run, left=-30) == pytest.approx(-10 + 0.5 * run.t, abs=1e-4)
    none = replace(run, phi=np.ones_like(run.phi))
    assert np.isnan(kink_positions(none)).all()
