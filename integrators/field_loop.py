"""The whole time loop of a field in one compiled function: stages of drifts and kicks on the coefficients.

One kick costs one pair of transforms: up to the points, where V' is taken, and down. The derivative −k²φ is a product.
All arithmetic is in a fixed order, so that runs repeat bit by bit, also when they are cut and continued.
"""

# ruff: noqa: ANN001, ANN201 - numba infers the types of compiled functions from their signatures

import warnings
from functools import cache
from typing import Any

import numba
import numpy as np
from numba.core.errors import NumbaExperimentalFeatureWarning

from sciml.integrators.field_potentials import FORCE
from sciml.integrators.field_transforms import TRANSFORM, VECTOR

_TABLE = numba.types.float64[:, ::1]
_CUBE = numba.types.float64[:, :, ::1]
_COUNT = numba.types.int64
_FLAG = numba.types.boolean
_SCHEME = (VECTOR, VECTOR, _FLAG, _TABLE, _TABLE, _TABLE, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR)
_FUNCTIONS = (TRANSFORM, TRANSFORM, VECTOR, FORCE, VECTOR, _COUNT, _COUNT)
_ADVANCE = numba.types.float64(VECTOR, VECTOR, VECTOR, VECTOR, _FLAG, *_SCHEME, *_FUNCTIONS, _COUNT)
_RECORD = numba.types.void(
    VECTOR, VECTOR, VECTOR, VECTOR, _FLAG, *_SCHEME, *_FUNCTIONS, _COUNT, _TABLE, _TABLE, VECTOR
)  # fmt: skip
_ENSEMBLE = numba.types.void(_TABLE, _TABLE, _FLAG, *_SCHEME, *_FUNCTIONS, _COUNT, _TABLE, _CUBE)


@numba.njit(_ADVANCE, cache=True)
def advance_field(  # type: ignore[no-untyped-def]
    phi, pi, phi_error, pi_error, compensated,
    drifts, kicks, rotating, cosines, sines, falls, reference, stiffness, offset, smoothing, damping, weights,
    up, down, table, slope, parameters, work_size, points_size, steps,
):  # fmt: skip
    """Make `steps` steps in place and return the energy that the absorbing layer has taken.

    drifts, kicks: a_i h and b_i h. If not `rotating`, a drift is φ += a_i h π. If it is, φ − r and π turn by the angle
    ω a_i h, with the rows cosines[i] = cos − 1, sines[i] = sin/ω and falls[i] = −ω sin, and r = `reference`.
    A kick is π += b_i h S F(r + S(φ − r)), F = −`stiffness` φ − V'(φ) + `offset`, S = `smoothing` if it has entries.
    `damping`, if it has entries: by what π is multiplied at the points after each step; `weights`: of ∫π².
    `compensated`: sums by W. Kahan, Commun. ACM 8, 40 (1965), with their errors kept in phi_error and pi_error.
    """
    work, points, force = np.zeros(work_size), np.zeros(points_size), np.zeros(phi.size)
    smoothed = np.zeros(phi.size) if smoothing.size else phi
    fresh, taken = False, 0.0
    for _ in range(steps):
        for stage in range(drifts.size):
            if drifts[stage] != 0:
                fresh = False
                if rotating:
                    for i in range(phi.size):
                        away = phi[i] - reference[i]
                        d_phi = cosines[stage, i] * away + sines[stage, i] * pi[i]
                        d_pi = falls[stage, i] * away + cosines[stage, i] * pi[i]
                        if compensated:
                            y = d_phi - phi_error[i]
                            t = phi[i] + y
                            phi_error[i] = (t - phi[i]) - y
                            phi[i] = t
                            y = d_pi - pi_error[i]
                            t = pi[i] + y
                            pi_error[i] = (t - pi[i]) - y
                            pi[i] = t
                        else:
                            phi[i] += d_phi
                            pi[i] += d_pi
                elif compensated:
                    for i in range(phi.size):
                        y = drifts[stage] * pi[i] - phi_error[i]
                        t = phi[i] + y
                        phi_error[i] = (t - phi[i]) - y
                        phi[i] = t
                else:
                    for i in range(phi.size):
                        phi[i] += drifts[stage] * pi[i]
            if kicks[stage] != 0:
                if not fresh:
                    if smoothing.size:
                        for i in range(phi.size):
                            smoothed[i] = reference[i] + smoothing[i] * (phi[i] - reference[i])
                    up(smoothed, work, points, table)
                    slope(points, parameters)
                    down(force, work, points, table)
                    for i in range(phi.size):
                        force[i] = offset[i] - stiffness[i] * smoothed[i] - force[i]
                    if smoothing.size:
                        for i in range(phi.size):
                            force[i] *= smoothing[i]
                    fresh = True
                if compensated:
                    for i in range(phi.size):
                        y = kicks[stage] * force[i] - pi_error[i]
                        t = pi[i] + y
                        pi_error[i] = (t - pi[i]) - y
                        pi[i] = t
                else:
                    for i in range(phi.size):
                        pi[i] += kicks[stage] * force[i]
        if damping.size:
            up(pi, work, points, table)
            for i in range(points.size):
                points[i] *= damping[i]
            down(force, work, points, table)
            fresh = False
            for i in range(pi.size):
                taken += 0.5 * weights[i] * (pi[i] - force[i]) * (pi[i] + force[i])
                pi[i] = force[i]
    return taken


def record_field(  # type: ignore[no-untyped-def]
    phi, pi, phi_error, pi_error, compensated,
    drifts, kicks, rotating, cosines, sines, falls, reference, stiffness, offset, smoothing, damping, weights,
    up, down, table, slope, parameters, work_size, points_size, steps, phis, pis, taken,
):  # fmt: skip
    """Make `steps` steps before each of the frames (frames, size) that are written; `taken` by the layer, (frames,)."""
    for frame in range(phis.shape[0]):
        taken[frame] = advance_field(
            phi, pi, phi_error, pi_error, compensated,
            drifts, kicks, rotating, cosines, sines, falls, reference, stiffness, offset, smoothing, damping, weights,
            up, down, table, slope, parameters, work_size, points_size, steps,
        )  # fmt: skip
        phis[frame] = phi
        pis[frame] = pi


def advance_ensemble(  # type: ignore[no-untyped-def]
    phis, pis, compensated,
    drifts, kicks, rotating, cosines, sines, falls, reference, stiffness, offset, smoothing, damping, weights,
    up, down, table, slope, parameters, work_size, points_size, steps, probes, readings,
):  # fmt: skip
    """Advance members (members, size) in threads; readings (members, frames, probes) are `probes` · φ."""
    for member in numba.prange(phis.shape[0]):
        phi, pi = phis[member], pis[member]
        phi_error, pi_error = np.zeros(phi.size), np.zeros(phi.size)
        for frame in range(readings.shape[1]):
            advance_field(
                phi, pi, phi_error, pi_error, compensated,
                drifts, kicks, rotating, cosines, sines, falls, reference, stiffness, offset, smoothing, damping,
                weights, up, down, table, slope, parameters, work_size, points_size, steps,
            )  # fmt: skip
            for q in range(probes.shape[0]):
                total = 0.0
                for i in range(phi.size):
                    total += probes[q, i] * phi[i]
                readings[member, frame, q] = total


@cache
def compiled(name: str) -> Any:
    """`record_field` or `advance_ensemble`, compiled when first needed and then kept on the disk."""
    signatures = {"record_field": _RECORD, "advance_ensemble": _ENSEMBLE}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumbaExperimentalFeatureWarning)
        return numba.njit(signatures[name], cache=True, parallel=name == "advance_ensemble")(globals()[name])
