"""What a φ⁴ kink does beside moving: its place, and the amplitude of its shape mode.

Small disturbances of the kink tanh(x/√2) are its shift, the shape mode χ = sinh(x/√2)/cosh²(x/√2) of frequency √(3/2),
and waves (m = λ = v = 1; R. Rajaraman, Solitons and Instantons (1982), ch. 5).
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sciml.integrators.field_run import FieldRun

Array = NDArray[Any]

SHAPE_FREQUENCY = float(np.sqrt(1.5))


def shape_mode(x: ArrayLike) -> Array:
    """χ(x) with ∫χ² dx = 2√2/3, of a kink at 0."""
    y = np.asarray(x, dtype=np.float64) / np.sqrt(2)
    return np.tanh(y) / np.cosh(np.minimum(np.abs(y), 350))


def kink_positions(run: FieldRun, *, left: float = 0.0) -> Array:
    """Where φ first crosses zero to the right of `left` in each frame, interpolated, (frames,); NaN if nowhere."""
    x = run.x
    start = int(np.searchsorted(x, left))
    found = np.full(len(run.phi), np.nan)
    for frame, phi in enumerate(run.phi):
        flips = np.flatnonzero(phi[start:-1] * phi[start + 1 :] <= 0) + start
        if len(flips) and 1 <= flips[0] < len(x) - 2:
            chosen = slice(flips[0] - 1, flips[0] + 3)
            values = phi[chosen]
            if np.all(np.diff(values) > 0) or np.all(np.diff(values) < 0):
                found[frame] = np.polyval(np.polyfit(values, x[chosen] - x[flips[0]], 3), 0.0) + x[flips[0]]
    return found


def shape_amplitudes(run: FieldRun, centers: ArrayLike, *, sign: int = 1) -> Array:
    """A in φ ≈ ±tanh((x − c)/√2) + a χ(x − c), by projection on χ for each frame and center, (frames,).

    Args:
        run: with m = λ = v = 1 and kinks that are slow.
        centers: c of each frame; NaN gives NaN.
        sign: 1 for a kink, −1 for an antikink.
    """
    x, dx = run.x, run.x[1] - run.x[0]
    found = np.full(len(run.phi), np.nan)
    for frame, center in enumerate(np.asarray(centers, dtype=np.float64)):
        if np.isfinite(center):
            chi = shape_mode(x - center)
            away = run.phi[frame] - sign * np.tanh((x - center) / np.sqrt(2))
            near = np.abs(x - center) < 12  # other kinks are further
            found[frame] = np.sum((away * chi)[near]) * dx / (2 * np.sqrt(2) / 3)
    return found
