"""Speed beside amangkurat 0.0.1 (S. H. S. Herho et al., MIT), where it is installed: `pip install amangkurat`.

Its solver runs as it is, with one thread and its adaptive steps off (they break its two-step formula); ours makes the
same steps by the same scheme on the same grid. Both are timed alternately in one process after they have been compiled,
and of each the fastest of several rounds counts, so that other work of the machine counts little.
"""

import importlib
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from sciml.integrators.field_ensemble import run_ensemble, threads_at_most
from sciml.integrators.field_potentials import named_potential
from sciml.integrators.klein_gordon import KleinGordon
from sciml.integrators.solitons import kink_antikink

PHI4 = named_potential("phi4")


def amangkurat_solver(num_x: int, length: float) -> Any:
    """Its solver on the same points: its period is one cell longer than its domain.

    Raises:
        ValueError: if it is not installed.
    """
    with warnings.catch_warnings():  # it silences the whole process
        try:
            module = importlib.import_module("amangkurat.core.solver")
        except ImportError as error:
            raise ValueError("amangkurat is not installed; pip install amangkurat") from error
    end = length / 2 - length / num_x
    return module.KGSolver(nx=num_x, x_min=-length / 2, x_max=end, verbose=False, n_cores=1, adaptive_dt=False)


def compare_steps(num_x: int, *, steps: int = 4000, rounds: int = 5) -> Iterator[tuple[str, float | None, float]]:
    """Name, how many times faster, and microseconds a step: of amangkurat, of ours, and of ours on half the points."""
    length, dt = 100.0, 0.4 / (np.pi * num_x / 100.0)
    time_span = steps * dt
    theirs = amangkurat_solver(num_x, length)
    ours = KleinGordon(PHI4, length, num_x=num_x, scheme="stormer_verlet", dt=dt)
    half = KleinGordon(PHI4, length, num_x=num_x, scheme="stormer_verlet", dt=dt, boundary="even")
    fields = kink_antikink(PHI4, ours.space.coordinates[0], velocity=0.3, separation=20)
    mirrored = kink_antikink(PHI4, half.space.coordinates[0], velocity=0.3, separation=20)
    tasks: dict[str, Callable[[], Any]] = {
        "amangkurat": lambda: theirs.solve(*fields, dt=dt, t_final=time_span, potential="phi4", n_snapshots=2),
        "periodic, as amangkurat": lambda: ours.run(*fields, time=time_span, frames=2),
        "even, half the points": lambda: half.run(*mirrored, time=time_span, frames=2),
    }
    result = tasks["amangkurat"]()
    mine = tasks["periodic, as amangkurat"]()
    worst = float(np.abs(result["phi"][-1] - mine.phi[-1]).max()) if "phi" in result else 0.0
    if worst > 0.1:
        raise ValueError(f"amangkurat and this package differ by {worst:.2g} after the same steps; nothing is timed")
    best = _fastest(tasks, rounds)
    for name, seconds in best.items():
        yield name, None if name == "amangkurat" else best["amangkurat"] / seconds, 1e6 * seconds / steps


def compare_ensemble(*, members: int, num_x: int, steps: int = 500, rounds: int = 3) -> Iterator[tuple[str, float]]:
    """Name and how many times faster an ensemble is than as many runs of amangkurat, of which a few are timed."""
    length, dt = 100.0, 0.4 / (np.pi * num_x / 100.0)
    time_span, few = steps * dt, 4
    theirs = amangkurat_solver(num_x, length)
    velocities = np.linspace(0.2, 0.4, members)
    tasks: dict[str, Callable[[], Any]] = {}
    threads = threads_at_most()
    for name, boundary in (("periodic", "periodic"), ("even, half the points", "even")):
        solver = KleinGordon(PHI4, length, num_x=num_x, scheme="stormer_verlet", dt=dt, boundary=boundary)
        x = solver.space.coordinates[0]
        pairs = [kink_antikink(PHI4, x, velocity=u, separation=20) for u in velocities]
        phi, pi = (np.stack(fields) for fields in zip(*pairs, strict=True))
        if boundary == "periodic":
            tasks["amangkurat"] = partial(_one_by_one, theirs, phi[:few], pi[:few], dt, time_span)
        label = f"{name}, {threads} thread{'s' if threads > 1 else ''}"
        tasks[label] = partial(run_ensemble, solver, phi, pi, time=time_span, frames=2, threads=threads, check=False)
    for task in tasks.values():
        task()
    best = _fastest(tasks, rounds)
    whole = best.pop("amangkurat") * members / few
    for name, seconds in best.items():
        yield name, whole / seconds


def _one_by_one(solver: Any, phi: Any, pi: Any, dt: float, time_span: float) -> None:
    for one, velocity in zip(phi, pi, strict=True):
        solver.solve(one, velocity, dt=dt, t_final=time_span, potential="phi4", n_snapshots=2)


def _fastest(tasks: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            seconds[name].append(time.perf_counter() - start)
    return {name: min(times) for name, times in seconds.items()}
