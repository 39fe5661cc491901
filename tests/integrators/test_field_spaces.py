"""Bases by boundary condition: transforms, integrals, derivatives, padding."""

import numpy as np
import pytest

from sciml.integrators.field_spaces import Space

SPACES = [
    Space("periodic", (7.0,), (32,)),
    Space("antiperiodic", (7.0,), (32,)),
    Space("neumann", (7.0,), (32,)),
    Space("odd", (7.0,), (32,)),
    Space("even", (7.0,), (32,)),
    Space("periodic", (7.0, 5.0), (16, 12)),
    Space("neumann", (7.0, 5.0), (16, 12)),
]
ALL = pytest.mark.parametrize("space", SPACES, ids=lambda s: f"{s.boundary}{len(s.shape)}d")


def some_field(space, seed=0):
    values = np.random.default_rng(seed).normal(size=space.shape)
    return values + {"odd": -1, "even": 1}.get(space.boundary, 0) * values[::-1]


@ALL
def test_coefficients_give_the_values_back_and_integrals(space):
    f, g = some_field(space, 0), some_field(space, 1)
    a, b = space.to_coefficients(f), space.to_coefficients(g)
    assert np.abs(space.to_points(a) - f).max() < 1e-14
    cell = space.volume / f.size
    assert (space.weights * a * b).sum() == pytest.approx(cell * (f * g).sum(), abs=1e-12)


@ALL
def test_padding_is_interpolation_and_comes_back(space):
    a = space.to_coefficients(some_field(space))
    work, _ = space.buffers(2)
    down = np.zeros_like(a)
    space.functions[1](down, work, space.padded_points(a, 2), space.table(2))
    kept = np.abs(space.wavenumbers[0]) < np.abs(space.wavenumbers[0]).max() * (1 - 1e-9)
    if len(space.shape) == 2 and space.kind == "periodic":
        kept &= np.abs(space.wavenumbers[1]) < np.abs(space.wavenumbers[1]).max() * (1 - 1e-9)
    assert np.abs(down - a)[kept if space.kind == "periodic" else slice(None)].max() < 1e-15


@pytest.mark.parametrize("space", [s for s in SPACES if len(s.shape) == 1], ids=lambda s: s.boundary)
def test_rows_evaluate_at_a_point_and_wavenumbers_are_those_of_derivatives(space):
    rng = np.random.default_rng(2)
    a = rng.normal(size=space.size) * np.exp(-2 * np.abs(space.wavenumbers[0]))
    if space.kind == "periodic":
        a[[1, -1]] = 0  # the imaginary parts that real fields do not have
    values = space.to_points(a)
    (x,) = space.coordinates
    for i in (-1, -7):
        assert space.at(x[i]) @ a == pytest.approx(values[i], abs=1e-13)
    h = 1e-3
    second = (space.at(0.9 + h) - 2 * space.at(0.9) + space.at(0.9 - h)) @ a / h**2
    assert second == pytest.approx(-space.at(0.9) @ (space.squared * a), abs=1e-4)
    slope = space.derivative(a)
    if slope is not None:
        assert space.at(0.9) @ slope == pytest.approx((space.at(0.9 + h) - space.at(0.9 - h)) @ a / (2 * h), abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("periodical", (7.0,), (32,)), "did you mean periodic"),
        (("periodic", (7.0,), (31,)), "multiple of 2"),
        (("odd", (7.0,), (30,)), "multiple of 4"),
        (("periodic", (-1.0,), (32,)), "must be positive"),
        (("odd", (7.0, 7.0), (32, 32)), "a plane cannot be odd"),
        (("periodic", (7.0, 7.0), (32,)), "one or two of each"),
    ],
)
def test_bad_spaces(arguments, message):
    with pytest.raises(ValueError, match=message):
        Space(*arguments)


def test_bad_fields():
    space = SPACES[0]
    with pytest.raises(ValueError, match=r"shape \(31,\)"):
        space.to_coefficients(np.zeros(31))
    with pytest.raises(ValueError, match="not finite"):
        space.to_coefficients(np.full(32, np.nan))
