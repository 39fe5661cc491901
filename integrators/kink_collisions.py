"""Collisions of a φ⁴ kink with its antikink: sweeps over velocities, what became of each pair, how fast it left.

What happens depends on the velocity in a fractal way below v_c ≈ 0.26: capture into a slowly radiating lump, or escape
after two or more bounces. D. K. Campbell, J. F. Schonfeld, C. A. Wingate, Physica D 9, 1 (1983),
doi:10.1016/0167-2789(83)90289-0; R. H. Goodman, R. Haberman, SIAM J. Appl. Dyn. Syst. 4, 1195 (2005),
doi:10.1137/050632981.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sciml.files import atomic_write
from sciml.integrators.field_ensemble import run_ensemble
from sciml.integrators.field_potentials import named_potential
from sciml.integrators.klein_gordon import AbsorbingLayer, KleinGordon
from sciml.integrators.solitons import kink_antikink
from sciml.messages import differing_settings

Array = NDArray[Any]

_ESCAPED = 10.0  # a kink that gets so far after a collision, and is there at the end, is taken to have left


@dataclass(frozen=True)
class CollisionSettings:
    """Of a sweep, with m = λ = v = 1.

    Attributes:
        time: how long each runs.
        length: of the box; kinks and antikinks are even in x, so that half of it is stored.
        num_x: points in it.
        separation: of the kinks at the start.
        scheme: of splitting.
        dt: largest step.
        interval: between two readings of φ.
        probes: places at which φ is read; the first must be 0 and the second tells who has left.
        layer: width of the absorbing layer; 0 for none.
    """

    time: float = 300.0
    length: float = 300.0
    num_x: int = 1024
    separation: float = 20.0
    scheme: str = "blanes_moan_4"
    dt: float = 0.2
    interval: float = 0.4
    probes: tuple[float, ...] = (0.0, _ESCAPED)
    layer: float = 0.0


@dataclass(frozen=True)
class Sweep:
    """Collisions, by velocity.

    Attributes:
        velocities: (members,).
        t: (frames,).
        readings: φ at the probes, (members, frames, probes).
        energy_error: |E_end/E_0 − 1|, (members,).
        settings: of the sweep.
    """

    velocities: Array
    t: Array
    readings: Array
    energy_error: Array
    settings: CollisionSettings

    def outcomes(self) -> "list[Outcome]":
        """What became of each."""
        return [outcome(self.t, one[:, 0], one[:, 1]) for one in self.readings]

    def outgoing_velocities(self, first: float, last: float) -> Array:
        """Of kinks, from the times at which they pass the probes from `first` to `last`; NaN if they do not."""
        places = np.array(self.settings.probes)
        chosen = np.flatnonzero((places >= first) & (places <= last))
        found = np.full(len(self.velocities), np.nan)
        for member, reading in enumerate(self.readings):
            after = int(np.argmax(reading[:, 0] < 0))  # the first collision
            times = [_last_rise(self.t[after:], reading[after:, probe]) for probe in chosen]
            if np.isfinite(times).all():
                found[member] = np.polyfit(times, places[chosen], 1)[0]
        return found


@dataclass(frozen=True)
class Outcome:
    """Of a collision.

    Attributes:
        kind: "capture", "escape" (reflection if after one bounce), or "undecided".
        bounces: collisions before the escape, or until the end.
    """

    kind: str
    bounces: int

    def __str__(self) -> str:
        """Such as `2 bounces`."""
        if self.kind != "escape":
            return self.kind
        return "reflection" if self.bounces == 1 else f"{self.bounces} bounces"


def outcome(t: ArrayLike, center: ArrayLike, outer: ArrayLike) -> Outcome:
    """What became of a kink and antikink, from φ(0, t) and φ(x, t) at some distance x, with φ → −1 at infinity.

    Kinks that are apart have φ(0) ≈ 1 between them; a bounce is a stretch of time with φ(0) < 0 that follows. They have
    escaped if the outer probe is above 0 at the end. They are captured if φ(0) has been no more than half way to the
    vacuum between kinks for the last quarter of the time, or has collided often. Else it is undecided: they are on
    their way out, or to another collision.
    """
    t, center, outer = np.asarray(t), np.asarray(center), np.asarray(outer)
    inside = center < 0
    bounces = int(np.count_nonzero(inside[1:] & ~inside[:-1]) + inside[0])
    if bounces == 0:
        return Outcome("undecided", 0)
    if outer[-1] > 0 and center[-1] > 0:
        return Outcome("escape", bounces)
    late = center[t >= t[0] + 0.75 * (t[-1] - t[0])]
    if late.max() < 0.5 or bounces > 8:
        return Outcome("capture", bounces)
    return Outcome("undecided", bounces)


def sweep_velocities(
    velocities: Sequence[float] | Array,
    settings: CollisionSettings | None = None,
    *,
    path: str | Path | None = None,
    batch: int = 64,
    threads: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Sweep:
    """Collide a kink and an antikink at each velocity.

    Args:
        velocities: between 0 and 1.
        settings: of the sweep.
        path: .npz file that is written after every batch; a sweep that was killed continues from it.
        batch: members between two writes.
        threads: of numba.
        on_progress: called with the number of finished members and their total.

    Raises:
        ValueError: if the file is of another sweep, or for velocities of 1 or more.
    """
    settings = settings or CollisionSettings()
    velocities = np.asarray(velocities, dtype=np.float64)
    frames = round(settings.time / settings.interval) + 1
    t = np.arange(frames) * (settings.time / (frames - 1))
    readings, errors = np.zeros((0, frames, len(settings.probes))), np.zeros(0)
    if path is not None and Path(path).exists():
        readings, errors = _read(Path(path), settings, velocities)
    potential = named_potential("phi4")
    layer = AbsorbingLayer(settings.layer) if settings.layer else None
    solver = KleinGordon(
        potential,
        settings.length,
        num_x=settings.num_x,
        boundary="even",
        scheme=settings.scheme,
        dt=settings.dt,
        layer=layer,
    )
    (x,) = solver.space.coordinates
    while len(readings) < len(velocities):
        chosen = velocities[len(readings) : len(readings) + batch]
        pairs = [kink_antikink(potential, x, velocity=u, separation=settings.separation) for u in chosen]
        phi, pi = (np.stack(fields) for fields in zip(*pairs, strict=True))
        done = run_ensemble(
            solver, phi, pi, time=settings.time, frames=frames, probes=settings.probes, threads=threads, check=False
        )
        readings = np.concatenate([readings, done.readings])
        errors = np.concatenate([errors, done.energy_error])
        if path is not None:
            _write(Path(path), settings, velocities[: len(readings)], readings, errors)
        if on_progress is not None:
            on_progress(len(readings), len(velocities))
    return Sweep(velocities, t, readings, errors, settings)


def critical_velocity(velocities: ArrayLike, outgoing: ArrayLike) -> tuple[float, float]:
    """Where v_out² reaches zero, and the slope there, from a quadratic in v² fitted to v_out².

    Kinks that leave are slowed by a fixed loss at the threshold: v_out² = a (v² − v_c²) + …, so this is where an
    infinitely long run would see them part.
    """
    v2, out2 = np.asarray(velocities) ** 2, np.asarray(outgoing) ** 2
    center = v2.mean()
    c = np.polyfit(v2 - center, out2, 2)
    roots = np.roots(c)
    root = float(np.real(roots[np.argmin(np.abs(roots - (v2.min() - center)))])) + center
    return float(np.sqrt(root)), float(np.polyval(np.polyder(c), root - center))


def _last_rise(t: Array, values: Array) -> float:
    """When `values` last became positive, by linear interpolation; NaN if they are not at the end."""
    if values[-1] <= 0:
        return np.nan
    below = np.flatnonzero(values <= 0)
    if len(below) == 0:
        return np.nan
    i = int(below[-1])
    return float(t[i] + (t[i + 1] - t[i]) * values[i] / (values[i] - values[i + 1]))


def _write(path: Path, settings: CollisionSettings, velocities: Array, readings: Array, errors: Array) -> None:
    if path.suffix != ".npz":
        raise ValueError(f"got {path.name!r}; sweeps are written as .npz files")
    text = json.dumps(asdict(settings))
    atomic_write(
        path,
        lambda temporary: np.savez(
            temporary, settings=np.array(text), velocities=velocities, readings=readings, energy_error=errors
        ),
    )


def _read(path: Path, settings: CollisionSettings, velocities: Array) -> tuple[Array, Array]:
    with np.load(path) as file:
        then, now = json.loads(str(file["settings"])), json.loads(json.dumps(asdict(settings)))
        done = file["velocities"]
        if then != now or not np.array_equal(done, velocities[: len(done)]):
            lines = differing_settings(then, now) or ["the velocities differ"]
            raise ValueError(f"{path} is of another sweep: {'; '.join(lines)}. Give another path, or remove the file")
        return file["readings"], file["energy_error"]


def two_bounce_windows(
    settings: CollisionSettings,
    *,
    first: float = 0.19,
    last: float = 0.2598,
    spacing: float = 1e-4,
    tolerance: float = 1e-6,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[tuple[float, float]]:
    """Intervals of velocities at which kinks escape at the second bounce, to a tolerance, from low to high.

    A sweep finds them, and bisection of both edges of all at once refines them; windows narrower than `spacing` are
    missed. What is within one `settings.time` of an edge in its escape is not seen, so that edges are those of finite
    times.
    """

    def two(velocities: Array, on_progress: Callable[[int, int], None] | None = None) -> NDArray[np.bool_]:
        swept = sweep_velocities(velocities, settings, batch=32, on_progress=on_progress)
        return np.array([one == Outcome("escape", 2) for one in swept.outcomes()], dtype=bool)

    grid = np.arange(first, last + spacing / 2, spacing)
    found = two(grid, on_progress)
    changes = np.flatnonzero(found[1:] != found[:-1])
    low, high, rising = grid[changes], grid[changes + 1], found[changes + 1]
    while len(low) and (high - low).max() > tolerance:
        middle = (low + high) / 2
        inside = two(middle)
        low, high = np.where(inside == rising, low, middle), np.where(inside == rising, middle, high)
    edges = (low + high) / 2
    starts = edges[rising]
    return [(float(start), float(min(edges[~rising & (edges > start)], default=last))) for start in starts]
