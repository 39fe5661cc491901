"""Kicks and drifts of integers, which run backwards bit by bit.

φ and π are multiples of 2⁻⁵⁰. Each drift adds round(a h π) and each kick round(b h F(φ)); both are subtracted exactly
by the palindrome with −h, because rounding is odd and F sees the same φ. So does JANUS with bodies: H. Rein, D. Tamayo,
Mon. Not. R. Astron. Soc. 473, 3351 (2018), doi:10.1093/mnras/stx2570; D. Levesque, L. Verlet, J. Stat. Phys. 72, 519
(1993), doi:10.1007/BF01048022.
"""

# ruff: noqa: ANN001, ANN201 - numba infers the types of compiled functions from their signatures

import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from numba.core.errors import NumbaExperimentalFeatureWarning
from numpy.typing import NDArray

from sciml.integrators.field_potentials import FORCE
from sciml.integrators.field_run import FieldRun, FieldState
from sciml.integrators.field_transforms import TRANSFORM, VECTOR

if TYPE_CHECKING:
    from sciml.integrators.klein_gordon import KleinGordon

Array = NDArray[Any]

UNIT = 2.0**-50  # of coefficients, whose values stay below 2¹³

_INTEGERS = numba.types.int64[::1]
_COUNT = numba.types.int64
_SIGNATURE = numba.types.void(
    _INTEGERS, _INTEGERS, VECTOR, VECTOR, VECTOR, TRANSFORM, TRANSFORM, VECTOR, FORCE, VECTOR, _COUNT, _COUNT, _COUNT
)


def advance_integers(  # type: ignore[no-untyped-def]
    phi, pi, drifts, kicks, stiffness, up, down, table, slope, parameters, work_size, points_size, steps
):
    """Make `steps` steps in place; drifts and kicks are a_i h and b_i h."""
    work, points = np.zeros(work_size), np.zeros(points_size)
    force, real = np.zeros(phi.size), np.zeros(phi.size)
    fresh = False
    for _ in range(steps):
        for stage in range(drifts.size):
            if drifts[stage] != 0:
                fresh = False
                for i in range(phi.size):
                    phi[i] += np.int64(np.rint(drifts[stage] * pi[i]))
            if kicks[stage] != 0:
                if not fresh:
                    for i in range(phi.size):
                        real[i] = phi[i] * UNIT
                    up(real, work, points, table)
                    slope(points, parameters)
                    down(force, work, points, table)
                    for i in range(phi.size):
                        force[i] = (-stiffness[i] * real[i] - force[i]) / UNIT
                    fresh = True
                for i in range(phi.size):
                    pi[i] += np.int64(np.rint(kicks[stage] * force[i]))


@cache
def _compiled() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumbaExperimentalFeatureWarning)
        return numba.njit(_SIGNATURE, cache=True)(advance_integers)


class FixedPointLoop:
    """The compiled loop of a run in integers."""

    def __init__(self, solver: "KleinGordon", run: FieldRun) -> None:
        space, (work, points) = solver.space, solver.space.buffers(solver.padding)
        self.steps = run.steps
        self.arguments = (
            np.array(solver.scheme.drifts) * run.dt,
            np.array(solver.scheme.kicks) * run.dt,
            space.squared,
            *space.functions,
            space.table(solver.padding),
            solver.potential.functions[1],
            solver.potential.numbers,
            work.size,
            points.size,
        )

    def advance(self, state: FieldState, frames: int) -> tuple[Array, Array, Array, FieldState]:
        """Coefficients of φ and π at the next frames, zeros for what a layer takes, and the state."""
        phi, pi = state.phi.copy(), state.pi.copy()
        phis, pis = np.zeros((frames, phi.size)), np.zeros((frames, phi.size))
        for frame in range(frames):
            _compiled()(phi, pi, *self.arguments, self.steps)
            phis[frame], pis[frame] = phi * UNIT, pi * UNIT
        return phis, pis, np.zeros(frames), FieldState(phi, pi)

    @staticmethod
    def encode(state: FieldState) -> FieldState:
        """Integers of coefficients.

        Raises:
            ValueError: if they are too large.
        """
        largest = max(float(np.abs(state.phi).max()), float(np.abs(state.pi).max()))
        if largest > 2.0**12:
            raise ValueError(f"got coefficients of up to {largest:.3g}; fixed point holds at most {2**12}")
        return FieldState(np.rint(state.phi / UNIT).astype(np.int64), np.rint(state.pi / UNIT).astype(np.int64))

    @staticmethod
    def decode(state: FieldState) -> tuple[Array, Array]:
        """Coefficients of φ and π of a state in integers or float64."""
        if state.phi.dtype == np.int64:
            return state.phi * UNIT, state.pi * UNIT
        return state.phi, state.pi
