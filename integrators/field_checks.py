"""What is refused before a field is run, with the reason and the remedies; and the bounds of time steps."""

import json
import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sciml.messages import differing_settings

if TYPE_CHECKING:
    from sciml.integrators.field_run import FieldRun
    from sciml.integrators.field_spaces import Space
    from sciml.integrators.klein_gordon import AbsorbingLayer, KleinGordon

Array = NDArray[Any]


def check_settings(solver: "KleinGordon") -> None:
    """Raise a ValueError for settings that do not go together, and warn of what cannot be exact."""
    scheme = solver.scheme
    if solver.exponential and scheme.needs_quadratic_kinetic and not solver.potential.is_linear:
        raise ValueError(
            f"{scheme.name} is a Runge-Kutta-Nyström scheme, which loses its order where the linear part is solved "
            "exactly; use stormer_verlet, yoshida_4, 6 or 8, or kahan_li_8, or leave out exponential"
        )
    if solver.smooth and not (solver.exponential and scheme.order == 2):
        raise ValueError("smooth makes the impulses of exponential=True with stormer_verlet smoother; it has order 2")
    if solver.reference is not None and not solver.exponential:
        raise ValueError("reference belongs to exponential=True")
    if solver.fixed_point and (solver.exponential or solver.compensated or solver.layer is not None):
        raise ValueError(
            "fixed_point reverses kicks and drifts bit by bit; it goes with neither exponential, nor compensated sums, "
            "nor an absorbing layer"
        )
    degree = solver.potential.degree
    if solver.padding == 2 and (degree is None or degree > 3):
        warnings.warn(
            f"the force of {solver.potential.name} is no polynomial of at most third degree: twice the points reduce "
            "its aliasing but cannot remove it; dealiasing is exact for linear and phi4",
            stacklevel=3,
        )
    if solver.layer is not None:
        if solver.space.kind in ("periodic", "antiperiodic"):
            raise ValueError("a layer absorbs at ends; periodic spaces have none: use boundary='absorbing' or 'even'")
        for length in solver.space.lengths:
            if not 0 < 2 * solver.layer.width < length:
                raise ValueError(
                    f"two absorbing layers of width {solver.layer.width} do not fit a length of {length}; give a "
                    "larger length or a thinner layer"
                )


def ends(phi: Array) -> Array:
    """Values on the edge of the grid."""
    if phi.ndim == 1:
        return phi[[0, -1]]
    return np.concatenate([phi[0], phi[-1], phi[:, 0], phi[:, -1]])


def check_field(solver: "KleinGordon", phi: Array, pi: Array) -> None:
    """Raise a ValueError for a field that the boundary does not fit, or whose ends rest on a maximum of V."""
    space = solver.space
    if phi.ndim == 1:
        _check_joint(space, phi)
    still = np.abs(ends(pi)).max() < 1e-3 * max(1.0, float(np.abs(pi).max()))
    for value in np.unique(np.round(ends(phi), 6)) if phi.ndim == 1 else ():
        flat = abs(float(solver.potential.slope(value))) < 1e-4
        if still and flat and float(solver.potential.curvature(value)) < 0:
            raise ValueError(
                f"at an end the field rests at φ = {value:g}, a maximum of {solver.potential.name}: this false vacuum "
                "decays everywhere at once, and what one sees is not what was put in. Start from fields that are in "
                "a vacuum at both ends (a kink and an antikink add up to one only with a constant), or pass check=False"
            )
        if space.boundary in ("neumann", "antiperiodic", "absorbing") and not solver.potential.is_vacuum(
            value, tolerance=1e-2
        ):
            raise ValueError(
                f"at an end the field is {value:g}, where {solver.potential.name} has no minimum; put the ends into "
                "vacua (a longer box, or another potential), or pass check=False"
            )


def _check_joint(space: "Space", phi: Array) -> None:
    """Of the end with the beginning; and of the symmetry."""
    if space.halved:
        mirror = phi[::-1] if space.boundary == "even" else -phi[::-1]
        worst = float(np.abs(phi - mirror).max())
        if worst > 1e-9 * max(1.0, float(np.abs(phi).max())):
            raise ValueError(
                f"the field is not {space.boundary} in x: it differs from its mirror image by up to {worst:.1e}; use "
                "another boundary, or move it to the middle"
            )
        return
    if space.kind == "cosine":
        return
    inner = float(np.abs(np.diff(phi)).max())
    joint = abs((1 if space.kind == "periodic" else -1) * phi[0] - phi[-1])
    if joint <= 2 * inner + 1e-6 * float(np.abs(phi).max()):
        return
    if space.kind == "periodic":
        raise ValueError(
            f"the field jumps by {joint:.3g} from its end to its beginning, which a periodic boundary joins: a single "
            "kink does not fit a periodic grid, and the jump would send waves through it. Use boundary='neumann' or "
            "'antiperiodic' (or 'odd' for one that stays in the middle), or add an antikink"
        )
    raise ValueError(
        f"the field at its end is not minus that at its beginning ({phi[-1]:.3g} and {phi[0]:.3g}), as an antiperiodic "
        "boundary needs; use boundary='neumann', or shift φ so that the vacua are opposite"
    )


def check_same(solver: "KleinGordon", run: "FieldRun") -> None:
    """Raise a ValueError if a run was made with other settings."""
    then, now = json.loads(json.dumps(run.settings)), json.loads(json.dumps(solver.settings()))
    if then != now:
        raise ValueError("the run was made with other settings: " + "; ".join(differing_settings(then, now)))


def largest_curvature(solver: "KleinGordon", phi: Array) -> float:
    """Largest |V''| over the values of the field, and half their range beyond."""
    low, high = float(np.min(phi)), float(np.max(phi))
    margin = 0.5 * max(high - low, 0.1)
    return float(np.abs(solver.potential.curvature(np.linspace(low - margin, high + margin, 201))).max())


def largest_frequency(solver: "KleinGordon", phi: Array) -> float:
    """ω of the shortest wave."""
    return math.sqrt(float(solver.space.squared.max()) + largest_curvature(solver, phi))


def warn_of_resonance(solver: "KleinGordon", phi: Array, step: float) -> None:
    """Warn where exact rotations and kicks resonate: ω_k dt near a multiple of π; or kicks are too far apart."""
    mass_squared = solver._linear_part(phi)[0]
    angles = np.sqrt(solver.space.squared + mass_squared) * step
    off = np.abs(angles - np.pi * np.maximum(1, np.round(angles / np.pi)))
    worst = int(np.argmin(off))
    if off[worst] < 0.05 and not solver.smooth:
        k = math.sqrt(float(solver.space.squared[worst]))
        warnings.warn(
            f"waves of k = {k:.3g} turn by {angles[worst] / math.pi:.2f} π in a step of {step:.3g}: kicks there "
            "resonate, and energy may grow without bound. Steps below "
            f"{0.95 * step * math.pi / angles.max():.3g}, or smooth=True with stormer_verlet, avoid it",
            stacklevel=4,
        )
    frequency = math.sqrt(largest_curvature(solver, phi))
    if step * frequency > 1:
        warnings.warn(
            f"steps of {step:.3g} are long for the nonlinear force, dt √|V''| = {step * frequency:.2f}: there is no "
            "CFL bound, but results below 1 only are to be trusted",
            stacklevel=4,
        )


def damping_rate(layer: "AbsorbingLayer", space: "Space", padding: int) -> Array:
    """σ at the points of the transforms, flat."""
    rates = []
    for n, length in zip(space.shape, space.lengths, strict=True):
        x = (np.arange(padding * n) + 0.5) * (length / (padding * n)) - length / 2
        if space.halved:
            x = x[padding * n // 2 :]
        depth = np.clip((np.abs(x) - (length / 2 - layer.width)) / layer.width, 0, 1)
        rates.append(layer.strength * depth**4)
    return rates[0] if len(rates) == 1 else (rates[0][:, None] + rates[1][None, :]).ravel()


def plain(settings: dict[str, Any]) -> str:
    """Settings as one line of JSON."""
    return json.dumps(settings, ensure_ascii=False, sort_keys=True)
