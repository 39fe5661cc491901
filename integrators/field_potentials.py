"""Potentials V(φ) of scalar fields in one table of formulas, with their vacua; and such as users write.

Units: c = ħ = 1. Lengths and times are 1/mass, and φ is a number in one space dimension.
"""

# ruff: noqa: ANN001, ANN201 - numba infers the types of compiled functions from their signatures

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numba
import numpy as np
from numba.core.errors import NumbaExperimentalFeatureWarning
from numpy.typing import NDArray

from sciml.messages import check_positive, did_you_mean

Array = NDArray[Any]
VECTOR = numba.types.float64[::1]
POINTWISE = numba.types.void(VECTOR, VECTOR)
FORCE = numba.types.FunctionType(POINTWISE)

# The functions below replace the values φ in `points` by V or V' and take (m, λ, v), or what a user's need.


def linear_value(points, parameters):  # type: ignore[no-untyped-def]
    """V = m² φ²/2."""
    for i in range(points.size):
        points[i] = 0.5 * parameters[0] ** 2 * points[i] ** 2


def linear_slope(points, parameters):  # type: ignore[no-untyped-def]
    """V' = m² φ."""
    for i in range(points.size):
        points[i] = parameters[0] ** 2 * points[i]


def phi4_value(points, parameters):  # type: ignore[no-untyped-def]
    """V = λ (φ² − v²)²/4."""
    for i in range(points.size):
        points[i] = 0.25 * parameters[1] * (points[i] ** 2 - parameters[2] ** 2) ** 2


def phi4_slope(points, parameters):  # type: ignore[no-untyped-def]
    """V' = λ φ (φ² − v²)."""
    strength, vacuum = parameters[1], parameters[2] ** 2
    for i in range(points.size):
        points[i] = strength * points[i] * (points[i] * points[i] - vacuum)


def sine_gordon_value(points, parameters):  # type: ignore[no-untyped-def]
    """V = m² v² (1 − cos(φ/v)), written without the difference of near numbers."""
    scale, inverse = 2 * (parameters[0] * parameters[2]) ** 2, 0.5 / parameters[2]
    for i in range(points.size):
        points[i] = scale * np.sin(inverse * points[i]) ** 2


def sine_gordon_slope(points, parameters):  # type: ignore[no-untyped-def]
    """V' = m² v sin(φ/v)."""
    scale, inverse = parameters[0] ** 2 * parameters[2], 1 / parameters[2]
    for i in range(points.size):
        points[i] = scale * np.sin(inverse * points[i])


def double_sine_gordon_value(points, parameters):  # type: ignore[no-untyped-def]
    """V = m² v² (1 − cos(φ/v)) + λ v² (1 − cos(φ/2v))."""
    square, inverse = parameters[2] ** 2, 0.5 / parameters[2]
    for i in range(points.size):
        half, quarter = np.sin(inverse * points[i]), np.sin(0.5 * inverse * points[i])
        points[i] = 2 * square * (parameters[0] ** 2 * half**2 + parameters[1] * quarter**2)


def double_sine_gordon_slope(points, parameters):  # type: ignore[no-untyped-def]
    """V' = m² v sin(φ/v) + λ v sin(φ/2v)/2."""
    inverse = 0.5 / parameters[2]
    whole, half = parameters[0] ** 2 * parameters[2], 0.5 * parameters[1] * parameters[2]
    for i in range(points.size):
        points[i] = whole * np.sin(2 * inverse * points[i]) + half * np.sin(inverse * points[i])


@cache
def compiled(name: str) -> Any:
    """One of the functions above, compiled when first needed and then kept on the disk."""
    return numba.njit(POINTWISE, cache=True)(globals()[name])


@dataclass(frozen=True, eq=False)
class Potential:
    """V and V' with their parameters.

    Attributes:
        name: linear, phi4, sine_gordon, double_sine_gordon, or what a user calls it.
        parameters: of V, by name; m, λ (`lam`) and v of the named ones.
        spacing: distance of the neighbouring vacua between which kinks run; None without kinks.
        degree: of V' if it is a polynomial; None if it is not, and no padding removes all aliasing.
        user: V(φ) and V'(φ) for one number, if a user gave them.
    """

    name: str
    parameters: dict[str, float]
    spacing: float | None
    degree: int | None
    user: tuple[Callable[[float], float], Callable[[float], float]] | None = None

    @cached_property
    def functions(self) -> tuple[Any, Any]:
        """V and V' on arrays, compiled."""
        if self.user is None:
            return compiled(f"{self.name}_value"), compiled(f"{self.name}_slope")
        return _on_arrays(self.user[0]), _on_arrays(self.user[1])

    @cached_property
    def numbers(self) -> Array:
        """The parameters as the compiled functions take them."""
        return np.array(list(self.parameters.values()), dtype=np.float64)

    def value(self, phi: Any) -> Array:
        """V of each number."""
        points = np.array(phi, dtype=np.float64).ravel()
        self.functions[0](points, self.numbers)
        return points.reshape(np.shape(phi))

    def slope(self, phi: Any) -> Array:
        """V' of each number."""
        points = np.array(phi, dtype=np.float64).ravel()
        self.functions[1](points, self.numbers)
        return points.reshape(np.shape(phi))

    def curvature(self, phi: Any) -> Array:
        """V'' of each number, by a central difference of sixth order of V'; exact to ten digits."""
        phi, h = np.asarray(phi, dtype=np.float64), 1e-2
        rows = [(self.slope(phi + i * h) - self.slope(phi - i * h)) * w for i, w in ((1, 45), (2, -9), (3, 1))]
        return np.sum(rows, axis=0) / (60 * h)

    def is_vacuum(self, phi: float, *, tolerance: float = 1e-6) -> bool:
        """Whether φ is a minimum of V: no slope, relative to the curvature, and no negative curvature."""
        curvature = float(self.curvature(phi))
        return curvature >= 0 and abs(float(self.slope(phi))) <= tolerance * max(curvature, 1e-300)

    def mass(self, vacuum: float) -> float:
        """√V'' at a vacuum, the mass of small waves there."""
        if self.user is None and self.name == "linear":
            return self.parameters["m"]
        return float(np.sqrt(max(float(self.curvature(vacuum)), 0.0)))

    @property
    def is_linear(self) -> bool:
        """Whether V is m²φ²/2."""
        return self.user is None and self.name == "linear"


POTENTIALS: dict[str, str] = {
    "linear": "m² φ²/2",
    "phi4": "λ (φ² − v²)²/4",
    "sine_gordon": "m² v² (1 − cos(φ/v))",
    "double_sine_gordon": "m² v² (1 − cos(φ/v)) + λ v² (1 − cos(φ/2v))",
}


def named_potential(name: str, *, m: float = 1.0, lam: float = 1.0, v: float = 1.0) -> Potential:
    """A potential of POTENTIALS with its mass m, coupling λ (`lam`) and vacuum value v.

    Raises:
        ValueError: for an unknown name or parameters that are not positive.
    """
    name = name.replace("-", "_")
    if name not in POTENTIALS:
        hint = did_you_mean(name, POTENTIALS) or "."
        raise ValueError(f"unknown potential {name!r}{hint} There is {', '.join(POTENTIALS)}, or your own V and V'")
    check_positive({"m": m, "lam": lam, "v": v})
    spacing = {"linear": None, "phi4": 2 * v, "sine_gordon": 2 * np.pi * v, "double_sine_gordon": 4 * np.pi * v}[name]
    degree = {"linear": 1, "phi4": 3}.get(name)
    return Potential(name, {"m": float(m), "lam": float(lam), "v": float(v)}, spacing, degree)


def user_potential(
    value: Callable[[float], float],
    slope: Callable[[float], float],
    *,
    spacing: float | None = None,
    degree: int | None = None,
    name: str = "user",
) -> Potential:
    """A potential of your own: V(φ) and V'(φ) of one number, in Python that numba compiles.

    Args:
        value: V.
        slope: V'.
        spacing: distance of neighbouring vacua, the unit of the topological charge.
        degree: of V' if it is a polynomial, for exact dealiasing.
        name: for the record.

    Raises:
        ValueError: if V' is not the derivative of V, or numba does not compile them.
    """
    try:
        potential = replace(Potential(name, {}, spacing, degree), user=(value, slope))
        phi, h = np.linspace(-2.13, 2.07, 43), 1e-3
        numeric = (8 * (potential.value(phi + h) - potential.value(phi - h))) / (12 * h)
        numeric -= (potential.value(phi + 2 * h) - potential.value(phi - 2 * h)) / (12 * h)
        given = potential.slope(phi)
    except numba.core.errors.NumbaError as error:
        raise ValueError(f"numba cannot compile the potential {name!r}: {error}") from error
    worst = float(np.max(np.abs(numeric - given) / (1 + np.abs(given))))
    if not worst < 1e-6:
        raise ValueError(f"slope is not the derivative of value: they differ by up to {worst:.1e} for |φ| < 2")
    return potential


def _on_arrays(function: Callable[[float], float]) -> Any:
    single = function if hasattr(function, "py_func") else numba.njit(function)

    def apply(points, parameters):  # type: ignore[no-untyped-def]  # noqa: ANN202, ARG001
        for i in range(points.size):
            points[i] = single(points[i])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumbaExperimentalFeatureWarning)
        return numba.njit(POINTWISE)(apply)
