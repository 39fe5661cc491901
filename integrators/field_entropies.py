"""How a field is spread over the line: entropies of densities ρ(x) with ∫ρ dx = 1, which do not depend on the grid.

ρ is a density per length and not a probability of each point: S = −∫ρ ln ρ dx is at most ln L, may be negative, and
stays the same when the grid is refined. The entropy of the N probabilities ρ dx is S + ln(N/L), between 0 and ln N.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sciml.integrators.field_run import FieldRun
from sciml.integrators.klein_gordon import KleinGordon

Array = NDArray[Any]


class Entropies(NamedTuple):
    """Of densities, each (frames,).

    Attributes:
        shannon: −∫ρ ln ρ dx.
        of_points: shannon + ln(N/L), of the probabilities of the N points.
        renyi: ln ∫ρ^α dx / (1 − α), for each α asked for, (orders, frames).
        tsallis: relative to the uniform density, (1 − ∫(Lρ)^q dx/L) / (q − 1), 0 for ρ = 1/L and else less.
    """

    shannon: Array
    of_points: Array
    renyi: Array
    tsallis: Array


def energy_density(solver: KleinGordon, phi: ArrayLike, pi: ArrayLike) -> Array:
    """π²/2 + φ_x²/2 + V(φ) on the grid, of fields (num_x,) or frames of them."""
    phi, pi = np.atleast_2d(phi), np.atleast_2d(pi)
    slopes = np.stack([solver.space.slope_at_points(one) for one in phi])
    return 0.5 * (pi**2 + slopes**2) + solver.potential.value(phi)


def square_density(run: FieldRun, *, vacuum: float = 0.0) -> Array:
    """(φ − vacuum)², (frames, num_x)."""
    return (run.phi - vacuum) ** 2


def entropies(
    density: ArrayLike, length: float, *, renyi: tuple[float, ...] = (0.5, 2.0), tsallis: tuple[float, ...] = (0.5, 2.0)
) -> Entropies:
    """Of densities (frames, num_x) on a grid of a length; they are normalised first.

    Args:
        density: not negative.
        length: L.
        renyi: orders α, not 1.
        tsallis: orders q, not 1.

    Raises:
        ValueError: for negative densities, such without any weight, or an order of 1.
    """
    rho = np.atleast_2d(np.asarray(density, dtype=np.float64))
    number = rho.shape[1]
    dx = length / number
    weight = rho.sum(axis=1, keepdims=True) * dx
    if not (rho >= 0).all() or not (weight > 0).all():
        raise ValueError("a density has to be not negative, and positive somewhere")
    if 1 in (*renyi, *tsallis):
        raise ValueError("the order 1 is Shannon's entropy; give other orders")
    rho = rho / weight
    logarithm = np.log(np.where(rho > 0, rho, 1.0))
    shannon = -np.sum(rho * logarithm, axis=1) * dx
    return Entropies(
        shannon,
        shannon + np.log(number / length),
        np.stack([np.log(np.sum(rho**a, axis=1) * dx) / (1 - a) for a in renyi]),
        np.stack([(1 - np.mean((rho * length) ** q, axis=1)) / (q - 1) for q in tsallis]),
    )
