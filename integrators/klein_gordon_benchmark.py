"""`python -m sciml.integrators.klein_gordon_benchmark`: what the solver of Klein-Gordon fields reaches, in numbers.

Each row measures one thing, with what must be reached and what is aimed at. Rows of accuracy have exact references.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sciml.environment import describe_environment
from sciml.files import atomic_write
from sciml.integrators import kink_collisions, solitons
from sciml.integrators.amangkurat_comparison import compare_ensemble, compare_steps
from sciml.integrators.field_potentials import named_potential
from sciml.integrators.frequencies import leading_frequencies
from sciml.integrators.klein_gordon import AbsorbingLayer, KleinGordon

PHI4 = named_potential("phi4")
SINE_GORDON = named_potential("sine_gordon")


@dataclass
class Row:
    """A measured number.

    Attributes:
        what: was measured.
        value: of it.
        must: bound that has to be kept; of a time or an error from above, of a ratio from below.
        aim: bound that is aimed at.
        larger_is_better: whether the bounds are from below.
    """

    what: str
    value: float
    must: float | None = None
    aim: float | None = None
    larger_is_better: bool = False

    def verdict(self) -> str:
        """`aim`, `must`, `missed`, or nothing without bounds."""

        def kept(bound: float | None) -> bool:
            if bound is None:
                return False
            return self.value >= bound if self.larger_is_better else self.value <= bound

        if self.must is None and self.aim is None:
            return ""
        return "aim" if kept(self.aim) else "must" if kept(self.must) else "missed"


def linear_wave() -> Iterator[Row]:
    """A Gaussian against the exact Fourier solution on the same grid, T = 50."""
    potential = named_potential("linear")
    solver = KleinGordon(potential, 60, num_x=512, exponential=True, scheme="stormer_verlet", dt=0.25)
    x = solver.space.coordinates[0]
    phi, pi = np.exp(-((x / 2) ** 2)), np.zeros_like(x)
    run = solver.run(phi, pi, time=50, frames=2)
    exact = solitons.periodic_linear_wave(phi, pi, length=60, mass=1, t=50)
    yield Row("linear wave: largest error", float(np.abs(run.phi[-1] - exact[0]).max()), 1e-10, 1e-13)


def static_kink() -> Iterator[Row]:
    """A kink at rest for T = 1e4 by Störmer-Verlet."""
    for boundary, must, aim in (("neumann", 1e-8, 1e-9), ("antiperiodic", 1e-8, 1e-9), ("odd", 1e-12, 1e-13)):
        solver = KleinGordon(PHI4, 60, num_x=256, boundary=boundary, scheme="stormer_verlet", dt=0.05)
        phi, pi = solitons.kink(PHI4, solver.space.coordinates[0])
        run = solver.run(phi, pi, time=1e4, frames=101)
        yield Row(f"static kink, T = 1e4, {boundary}: largest error", float(np.abs(run.phi - phi).max()), must, aim)


def boosted_kink() -> Iterator[Row]:
    """A kink of v = 0.9 where it should be; sine-Gordon kinks that pass through each other."""
    solver = KleinGordon(PHI4, 100, num_x=2048, boundary="neumann", dt=0.01)
    x = solver.space.coordinates[0]
    run = solver.run(*solitons.kink(PHI4, x, velocity=0.9, center=-25), time=50, frames=2)
    at = _crossing(x, run.phi[-1], 20.0)
    yield Row("kink boosted to v = 0.9: position after T = 50", abs(at - 20.0), 1e-8)
    energy = solitons.lorentz_factor(0.9) * solitons.kink_mass(PHI4)
    yield Row("kink boosted to v = 0.9: E / γM − 1", abs(float(run.energy[-1]) / energy - 1), 1e-8)
    velocity = 0.5
    solver = KleinGordon(SINE_GORDON, 120, num_x=2048, boundary="even", dt=0.02)
    x = solver.space.coordinates[0]
    start = solitons.sine_gordon_collision(SINE_GORDON, x, t=-30, velocity=velocity)
    run = solver.run(*start, time=60, frames=2)
    at = _crossing(x[x > 0], run.phi[-1][x > 0] - math.pi, 15.0)
    gamma = solitons.lorentz_factor(velocity)
    shift = math.log(1 / velocity) / gamma  # of each kink, from its path through x = 0 at t = 0
    yield Row("sine-Gordon collision, v = 0.5: phase shift", abs(at - velocity * 30 - shift), 1e-8)


def kink_constants() -> Iterator[Row]:
    """Mass √λ v³ 2√2/3 and the frequency of the shape mode, √1.5."""
    worst = 0.0
    for lam, v in ((1.0, 1.0), (2.0, 0.5), (0.3, 1.7)):
        potential = named_potential("phi4", lam=lam, v=v)
        solver = KleinGordon(potential, 60 / (math.sqrt(lam) * v), num_x=512, boundary="neumann")
        energy = solver.energy(*solitons.kink(potential, solver.space.coordinates[0]))
        worst = max(worst, abs(energy / (2 * math.sqrt(2) / 3 * math.sqrt(lam) * v**3) - 1))
    yield Row("kink mass, three (λ, v): relative error", worst, 1e-10)
    solver = KleinGordon(PHI4, 160, num_x=1024, boundary="odd", dt=0.1, layer=AbsorbingLayer())
    x = solver.space.coordinates[0]
    kink, shape = solitons.kink(PHI4, x)[0], np.sinh(x / math.sqrt(2)) / np.cosh(x / math.sqrt(2)) ** 2
    run = solver.run(kink + 1e-3 * shape, time=800, frames=4001)
    found = leading_frequencies((run.phi[1000:] - kink) @ shape, 0.2)[0][0]
    yield Row("shape mode of amplitude 1e-3: relative error of ω", abs(found / math.sqrt(1.5) - 1), 1e-4, 1e-6)


def breather() -> Iterator[Row]:
    """A thousand periods of the breather ω = 0.5."""
    solver = KleinGordon(SINE_GORDON, 80, num_x=256, boundary="even", dt=0.05, compensated=True)
    x = solver.space.coordinates[0]
    exact = solitons.breather(SINE_GORDON, x, frequency=0.5)
    run = solver.run(*exact, time=4000 * math.pi, frames=1001)
    yield Row("breather: energy, relative error", abs(float(run.energy[0]) / (16 * math.sqrt(0.75)) - 1), 1e-9)
    quarter = solver.run(*exact, time=math.pi, frames=2)
    peak = float(solver.space.at(0.0) @ quarter.state.phi)
    yield Row("breather: peak, error", abs(peak - 4 * math.pi / 3), 1e-7)
    middle = len(x) // 2
    phase = abs(float(run.phi[-1][middle] / exact[1][middle])) * 0.5
    yield Row("breather: phase after 1,000 periods / rad", phase, 1e-6, 1e-8)


def collision_energy() -> Iterator[Row]:
    """Energy in the collision v = 0.3, L = 200, N = 1024, T = 100, at a given number of transform pairs."""
    for forces, must, aim in ((10000, 1e-10, 1e-11), (20000, 1e-10, 1e-12)):
        for scheme in ("stormer_verlet", "yoshida_8", "kahan_li_8", "blanes_moan_6", "blanes_moan_6_14"):
            solver = KleinGordon(PHI4, 200, num_x=1024, scheme=scheme)
            every = 10 if scheme == "stormer_verlet" else 1
            frames = 1 + forces // solver.scheme.forces_per_step // every
            solver.dt = 100 / (every * (frames - 1))
            start = solitons.kink_antikink(PHI4, solver.space.coordinates[0], velocity=0.3, separation=20)
            run = solver.run(*start, time=100, frames=frames)
            best = scheme == "blanes_moan_6"
            yield Row(
                f"collision v = 0.3, {forces:,} pairs of transforms, {scheme}: |E/E0 − 1|", run.energy_error,
                must if best else None, aim if best else None,
            )  # fmt: skip


def reversal() -> Iterator[Row]:
    """The same collision, there and back."""
    solver = KleinGordon(PHI4, 200, num_x=1024, dt=0.1)
    start = solitons.kink_antikink(PHI4, solver.space.coordinates[0], velocity=0.3, separation=20)
    there = solver.run(*start, time=100, frames=2)
    back = solver.run(there.phi[-1], there.pi[-1], time=-100, frames=2)
    yield Row("there and back, T = 100: largest error", float(np.abs(back.phi[-1] - start[0]).max()), 1e-12)
    solver = KleinGordon(PHI4, 200, num_x=1024, dt=0.1, fixed_point=True)
    there = solver.run(*start, time=100, frames=2)
    back = solver.resume(there.reversed(), frames=1)
    exact = float(np.abs(back.phi[-1] - there.phi[0]).max() + np.abs(back.pi[-1] - there.pi[0]).max())
    yield Row("there and back in fixed point: largest error", exact, 0.0)


def critical_velocity() -> Iterator[Row]:
    """From v_out² extrapolated to zero, for two grids and two separations."""
    velocities = np.linspace(0.2615, 0.266, 10)
    probes = (0.0, 10.0, *np.arange(20.0, 61.0, 2.0))
    found = []
    for num_x, dt in ((2048, 0.1), (3072, 0.075)):
        for separation in (20.0, 40.0):
            settings = kink_collisions.CollisionSettings(
                time=3200.0, length=400.0, num_x=num_x, separation=separation, scheme="blanes_moan_6", dt=dt,
                interval=0.45, probes=probes, layer=40.0,
            )  # fmt: skip
            sweep = kink_collisions.sweep_velocities(velocities, settings)
            out = sweep.outgoing_velocities(20, 60)
            found.append(kink_collisions.critical_velocity(velocities, out)[0])
            yield Row(f"critical velocity, N = {num_x}, separation {separation:g}", found[-1])
    yield Row("critical velocity: spread of the four", float(np.ptp(found)), 5e-5, 1e-5)


def windows() -> Iterator[Row]:
    """Edges of two-bounce windows."""
    settings = kink_collisions.CollisionSettings(time=360.0, length=400.0, num_x=1024)
    found = kink_collisions.two_bounce_windows(settings, spacing=2e-4)
    for number, (low, high) in enumerate(found[:11], start=1):
        yield Row(f"two-bounce window {number}: lower edge", low)
        yield Row(f"two-bounce window {number}: upper edge", high)
    fine = kink_collisions.CollisionSettings(time=360.0, length=400.0, num_x=2048, dt=0.1, scheme="blanes_moan_6")
    low, high = kink_collisions.two_bounce_windows(fine, first=0.191, last=0.2041, spacing=5e-4)[0]
    worst = max(abs(low - found[0][0]), abs(high - found[0][1]))
    yield Row("first two-bounce window: change on twice the grid", worst, 2e-4, 1e-5)


def sweep() -> Iterator[Row]:
    """A thousand velocities."""
    settings = kink_collisions.CollisionSettings()
    kink_collisions.sweep_velocities([0.2], settings)  # compiles
    start = time.perf_counter()
    kink_collisions.sweep_velocities(np.linspace(0.18, 0.28, 1000), settings)
    yield Row(
        "1,000 velocities, T = L = 300, N = 1024, even (half the points) / s", time.perf_counter() - start, 180, 60
    )


def speed() -> Iterator[Row]:
    """Against amangkurat 0.0.1: the same scheme, steps and grid, one thread, its adaptive steps off."""
    for num_x, must in ((512, 12.0), (1024, 8.0), (2048, 5.0), (4096, 4.0)):
        for label, ratio, microseconds in compare_steps(num_x):
            half = "even, half the points" in label
            yield Row(f"N = {num_x}, {label} / µs a step", microseconds)
            if ratio is not None:
                aim = None if not half else 2 * must
                yield Row(f"N = {num_x}, {label}: times faster", ratio, None if half else must, aim or 2 * must, True)


def ensemble() -> Iterator[Row]:
    """64 members against 64 runs of amangkurat 0.0.1."""
    for label, ratio in compare_ensemble(members=64, num_x=1024):
        yield Row(f"64 members, N = 1024, {label}: times faster", ratio, 15, 30, True)


ROWS: dict[str, Callable[[], Iterator[Row]]] = {
    one.__name__.replace("_", "-"): one
    for one in (
        linear_wave, static_kink, boosted_kink, kink_constants, breather, collision_energy, reversal, critical_velocity,
        windows, sweep, speed, ensemble,
    )
}  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Measure the rows that are named, or all, and write them as JSON if asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="row", help=f"of {', '.join(ROWS)}; by default all")
    parser.add_argument("--output", type=Path, help="JSON file")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.rows if name not in ROWS]
    if unknown:
        parser.error(f"there is no row {unknown[0]}; there is {', '.join(ROWS)}")
    results: list[dict[str, Any]] = []
    for name in options.rows or ROWS:
        for row in ROWS[name]():
            bounds = "" if row.must is None and row.aim is None else f"must {row.must}, aim {row.aim}: {row.verdict()}"
            sys.stdout.write(f"{row.what:<80} {row.value:>14.8g}  {bounds}\n")
            sys.stdout.flush()
            results.append({"group": name, **asdict(row), "verdict": row.verdict()})
    if options.output is not None:
        text = json.dumps({"rows": results, "environment": describe_environment()}, indent=1, ensure_ascii=False)
        atomic_write(options.output, lambda temporary: temporary.write_text(text))
    return 0


def _crossing(x: np.ndarray, values: np.ndarray, near: float) -> float:
    """Where the values pass zero near a place, by a polynomial through six points."""
    i = int(np.argmin(np.abs(x - near)))
    flips = np.flatnonzero(np.sign(values[1:]) != np.sign(values[:-1]))
    i = int(flips[np.argmin(np.abs(x[flips] - near))])
    chosen = slice(i - 3, i + 5)
    return float(np.polyval(np.polyfit(values[chosen], x[chosen] - x[i], 7), 0.0) + x[i])


if __name__ == "__main__":
    sys.exit(main())
