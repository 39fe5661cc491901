"""Energy, momentum and topological charge of fields, from their coefficients."""

from typing import Any, NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from sciml.integrators.field_potentials import Potential
from sciml.integrators.field_spaces import Space

Array = NDArray[Any]


class Diagnostics(NamedTuple):
    """Of each frame.

    Attributes:
        energy: H = ∫ π²/2 + |∇φ|²/2 + V(φ) on the points on which V' is taken, of which the kicks are the gradient.
        momentum: P = −∫ π ∂φ/∂x, (frames, axes).
        topological_charge: (φ(L/2) − φ(−L/2)) / distance of vacua; None on a plane, where it is not defined, and for
            potentials with a single vacuum.
    """

    energy: Array
    momentum: Array
    topological_charge: Array | None


def diagnose(space: Space, potential: Potential, padding: int, phis: Array, pis: Array) -> Diagnostics:
    """Of coefficients (frames, size); `padding` says how much finer V is integrated."""
    energy = 0.5 * (pis**2 @ space.weights + phis**2 @ (space.weights * space.squared))
    work, points = space.buffers(padding)
    up, value, table = space.functions[0], potential.functions[0], space.table(padding)
    for frame, phi in enumerate(phis):
        up(np.ascontiguousarray(phi), work, points, table)
        value(points, potential.numbers)
        energy[frame] += points.mean() * space.volume
    momentum = np.stack([_momentum(space, phis, pis, axis) for axis in range(len(space.shape))], axis=-1)
    charge = None
    if len(space.shape) == 1 and potential.spacing is not None:
        charge = (phis @ _end_to_end(space)) / potential.spacing
    return Diagnostics(energy, momentum, charge)


def _end_to_end(space: Space) -> Array:
    """Row that gives φ(L/2) − φ(−L/2)."""
    half = space.lengths[0] / 2
    if space.boundary == "even":
        return np.zeros(space.size)
    if space.boundary == "odd":
        return 2 * space.at(half)
    return space.at(half) - space.at(-half)


def _momentum(space: Space, phis: Array, pis: Array, axis: int) -> Array:
    if space.halved:
        return np.zeros(len(phis))  # what flows to the right there flows to the left here
    derivative = space.derivative(phis, axis)
    if derivative is not None:
        return -(pis * derivative) @ space.weights
    # ∂φ/∂x of cosines are sines, which are multiplied with π at the midpoints.
    shape = (len(phis), *space.shape)
    k = space.wavenumbers[axis].reshape(space.shape)
    slopes = np.moveaxis(-k * phis.reshape(shape), axis + 1, -1)
    slopes = np.concatenate([slopes[..., 1:], np.zeros_like(slopes[..., :1])], axis=-1)
    slopes = np.moveaxis(scipy.fft.dst(slopes, type=3, axis=-1), -1, axis + 1)
    for other in range(len(space.shape)):
        if other != axis:
            slopes = scipy.fft.dct(slopes, type=3, axis=other + 1)
    values = scipy.fft.dctn(pis.reshape(shape), type=3, axes=tuple(range(1, len(shape))))
    return -(slopes * values).reshape(len(phis), -1).mean(axis=1) * space.volume
