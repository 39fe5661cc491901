"""Many fields under one equation at once: over threads, and over processes or a cluster."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import joblib
import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sciml.integrators import field_checks as checks
from sciml.integrators.field_loop import compiled
from sciml.integrators.klein_gordon import KleinGordon

Array = NDArray[Any]


def threads_at_most() -> int:
    """How many threads numba may use in this process."""
    return int(vars(numba.config)["NUMBA_NUM_THREADS"])


@dataclass(frozen=True)
class FieldEnsemble:
    """What is kept of the members.

    Attributes:
        t: (frames,).
        readings: φ at the probes, (members, frames, probes).
        phi: at the end, (members, num_x).
        pi: at the end, (members, num_x).
        energy_error: largest of |E/E_0 − 1| between start and end, of each member, (members,).
        dt: the step.
    """

    t: Array
    readings: Array
    phi: Array
    pi: Array
    energy_error: Array
    dt: float


def run_ensemble(
    solver: KleinGordon,
    phi: ArrayLike,
    pi: ArrayLike,
    *,
    time: float,
    frames: int,
    probes: Sequence[float] = (0.0,),
    threads: int | None = None,
    check: bool = True,
) -> FieldEnsemble:
    """Solve from each of φ and π, (members, num_x), one member a thread at a time; each gives the bits of a run alone.

    Args:
        solver: in one dimension and float64; an exponential one needs a reference, or a linear potential.
        phi: φ at t = 0.
        pi: φ_t at t = 0.
        time: how long.
        frames: times at which the probes are read, with both ends.
        probes: places x at which φ is read; x ≥ 0 in odd and even spaces.
        threads: at most so many; all that numba has by default.
        check: as in `KleinGordon.run`.

    Raises:
        ValueError: if the fields do not fit, or the solver cannot do it, or a field stops being a number.
    """
    phi, pi = np.atleast_2d(np.asarray(phi, dtype=float)), np.atleast_2d(np.asarray(pi, dtype=float))
    if solver.fixed_point or len(solver.space.shape) != 1:
        raise ValueError("ensembles are of fields in one dimension and in float64")
    if solver.exponential and solver.reference is None and not solver.potential.is_linear:
        raise ValueError("an ensemble with exponential=True needs one reference for all members; give it to the solver")
    if phi.shape != pi.shape or frames < 2 or not time > 0:
        raise ValueError(f"got φ {phi.shape}, π {pi.shape}, time={time}, frames={frames}; expected the same shapes")
    if check:
        for one, velocity in zip(phi, pi, strict=True):
            checks.check_field(solver, one, velocity)
    interval = time / (frames - 1)
    widest = phi[int(np.argmax(np.abs(phi).max(axis=1)))]
    steps = solver._steps(widest, interval)
    phis = np.stack([solver.space.to_coefficients(one) for one in phi])
    pis = np.stack([solver.space.to_coefficients(one) for one in pi])
    rows = np.stack([solver.space.at(x) for x in probes])
    readings = np.zeros((len(phi), frames, len(rows)))
    readings[:, 0] = np.sum(phis[:, None] * rows, axis=-1)  # not by BLAS, whose bits depend on the number of members
    before = solver.diagnostics(phis, pis).energy
    later = np.zeros((len(phi), frames - 1, len(rows)))
    arguments = solver.arguments(step=interval / steps, linear=solver._linear_part(widest))
    threads_before = numba.get_num_threads()
    numba.set_num_threads(min(threads or threads_before, threads_at_most()))
    try:
        compiled("advance_ensemble")(phis, pis, solver.compensated, *arguments, steps, rows, later)
    finally:
        numba.set_num_threads(threads_before)
    readings[:, 1:] = later
    if not (np.isfinite(phis).all() and np.isfinite(later).all()):
        raise ValueError(
            f"a field of the ensemble is no number any more; give a smaller dt than {interval / steps:.3g}"
        )
    return FieldEnsemble(
        np.arange(frames) * interval,
        readings,
        np.stack([solver.space.to_points(one) for one in phis]),
        np.stack([solver.space.to_points(one) for one in pis]),
        np.abs(solver.diagnostics(phis, pis).energy / before - 1),
        interval / steps,
    )


def run_ensemble_on_processes(
    solver: KleinGordon,
    phi: ArrayLike,
    pi: ArrayLike,
    *,
    time: float,
    frames: int,
    probes: Sequence[float] = (0.0,),
    processes: int = -1,
    batch: int = 16,
) -> FieldEnsemble:
    """As `run_ensemble`, in batches over the processes of joblib's current backend, Dask's cluster for example.

    Inside `joblib.parallel_config(backend="dask")` the batches go to that cluster.
    """
    phi, pi = np.atleast_2d(np.asarray(phi, dtype=float)), np.atleast_2d(np.asarray(pi, dtype=float))
    parts = [slice(start, start + batch) for start in range(0, len(phi), batch)]
    done = joblib.Parallel(n_jobs=processes)(
        joblib.delayed(run_ensemble)(solver, phi[part], pi[part], time=time, frames=frames, probes=probes, threads=1)
        for part in parts
    )
    if len({one.dt for one in done}) > 1:
        raise ValueError(
            f"batches would take different steps, {sorted({one.dt for one in done})}; give the solver a dt"
        )
    joined = {
        name: np.concatenate([getattr(one, name) for one in done]) for name in ("readings", "phi", "pi", "energy_error")
    }
    return FieldEnsemble(t=done[0].t, dt=done[0].dt, **joined)
