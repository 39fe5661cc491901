"""Störmer-Verlet with steps that follow the field and are the same on the way back.

A step that is chosen from the past alone is another one in reverse, and with reversibility goes the bound on the error
of the energy. Here the density ρ of steps, h = Δ/ρ, is integrated beside the field, symmetrically in time:

    ρ' = ρ_n + Δ/2 g(φ_n, π_n),    one Störmer-Verlet step of Δ/ρ',    ρ_{n+1} = ρ' + Δ/2 g(φ_{n+1}, π_{n+1}),

where g = d ln G/dt, so that ρ follows G(φ). It is of order 2 and reversible, and it is not symplectic: no step that
changes with the state is. Source: E. Hairer, G. Söderlind, SIAM J. Sci. Comput. 26, 1838 (2005), doi:10.1137/040606995.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sciml.integrators import field_checks as checks
from sciml.integrators.klein_gordon import KleinGordon

Array = NDArray[Any]


class ReversibleRun(NamedTuple):
    """Of a run with steps that change.

    Attributes:
        t: after each step, with the start, (steps + 1,).
        energy: (steps + 1,).
        phi: at the end, (num_x,).
        pi: at the end, (num_x,).
        density: ρ at the end; to run back, start from −π with it and the scale.
        scale: E in the objective.
    """

    t: Array
    energy: Array
    phi: Array
    pi: Array
    density: float
    scale: float


def steepness(solver: KleinGordon, phi: Array, pi: Array, energy: float) -> tuple[float, float]:
    """G = √(1 + ∫|Δφ|²/E) and d ln G/dt, of coefficients: steps shrink where the field is bent."""
    weights = solver.space.weights * solver.space.squared**2
    bent = float(weights @ phi**2)
    return float(np.sqrt(1 + bent / energy)), float(weights @ (phi * pi)) / (energy + bent)


def run_reversibly(
    solver: KleinGordon,
    phi: ArrayLike,
    pi: ArrayLike,
    *,
    steps: int,
    step: float,
    density: float | None = None,
    scale: float | None = None,
    objective: Callable[[KleinGordon, Array, Array, float], tuple[float, float]] = steepness,
) -> ReversibleRun:
    """Make so many steps of Δ = `step` in fictive time, Δ/ρ in time.

    Args:
        solver: its space, potential and padding are used; not its scheme.
        phi: φ at t = 0.
        pi: φ_t at t = 0.
        steps: how many.
        step: Δ.
        density: ρ at the start; G of the initial field by default.
        scale: E in the objective; the energy at the start by default.
        objective: G > 0, which ρ follows, and d ln G/dt, of the solver, the coefficients of φ and π, and the energy.

    Raises:
        ValueError: if a step is beyond stability, or the density of steps is not positive any more.
    """
    space = solver.space
    a, b = space.to_coefficients(phi), space.to_coefficients(pi)
    checks.check_field(solver, np.asarray(phi, dtype=float), np.asarray(pi, dtype=float))
    limit = 2 / checks.largest_frequency(solver, np.asarray(phi))
    work, points = space.buffers(solver.padding)
    up, down = space.functions
    table, slope, numbers = space.table(solver.padding), solver.potential.functions[1], solver.potential.numbers
    force = np.zeros_like(a)
    t, energy = np.zeros(steps + 1), np.zeros(steps + 1)
    energy[0] = solver.diagnostics(a[None], b[None]).energy[0]
    scale = float(energy[0]) if scale is None else scale
    rho = objective(solver, a, b, scale)[0] if density is None else density
    for number in range(steps):
        rho += step / 2 * objective(solver, a, b, scale)[1]
        if not rho > 0:
            raise ValueError(f"steps change too fast at t = {t[number]:g}; give a smaller step than {step:g}")
        taken = step / rho
        if abs(taken) > limit:
            raise ValueError(f"a step of {taken:.3g} is beyond the stability, {limit:.3g}; give less than {step:g}")
        a += taken / 2 * b
        up(a, work, points, table)
        slope(points, numbers)
        down(force, work, points, table)
        b += taken * (-space.squared * a - force)
        a += taken / 2 * b
        rho += step / 2 * objective(solver, a, b, scale)[1]
        t[number + 1] = t[number] + taken
        energy[number + 1] = solver.diagnostics(a[None], b[None]).energy[0]
    return ReversibleRun(t, energy, space.to_points(a), space.to_points(b), rho, scale)
