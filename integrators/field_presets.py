"""Named simulations of Klein-Gordon fields, as `sciml simulate klein-gordon PRESET` runs them, all adjustable."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciml.integrators import solitons
from sciml.integrators.field_potentials import Potential, named_potential
from sciml.integrators.field_run import FieldRun, check_file_name
from sciml.integrators.klein_gordon import KleinGordon
from sciml.messages import check_not_negative, did_you_mean, differing_settings

Array = NDArray[Any]
Fields = tuple[Array, Array]

PARAMETERS = ("m", "lam", "v")
SOLVER = ("length", "num_x", "boundary", "scheme", "dt", "dealias", "exponential", "compensated", "fixed_point")
RUN = ("time", "frames", "noise", "seed")


@dataclass(frozen=True)
class Preset:
    """A simulation.

    Attributes:
        about: one line of what is to be seen.
        potential: name of the potential.
        solver: settings of the solver, those of SOLVER.
        time: how long.
        start: initial fields from the potential, the points along each axis, and `shape`.
        shape: numbers that describe the initial fields, such as a velocity.
    """

    about: str
    potential: str
    solver: Mapping[str, Any]
    time: float
    start: Callable[..., Fields]
    shape: Mapping[str, float] = field(default_factory=dict)


def _gaussian(potential: Potential, x: Array, *, amplitude: float, width: float) -> Fields:
    del potential
    phi = amplitude * np.exp(-((x / width) ** 2))
    return phi, np.zeros_like(phi)


def _kink(potential: Potential, x: Array, *, velocity: float, center: float) -> Fields:
    return solitons.kink(potential, x, velocity=velocity, center=center)


def _pair(potential: Potential, x: Array, *, velocity: float, separation: float) -> Fields:
    return solitons.kink_antikink(potential, x, velocity=velocity, separation=separation)


def _breather(potential: Potential, x: Array, *, frequency: float) -> Fields:
    return solitons.breather(potential, x, frequency=frequency)


def _oscillon(potential: Potential, x: Array, *, amplitude: float, width: float) -> Fields:
    phi = potential.parameters["v"] - amplitude * np.exp(-((x / width) ** 2))
    return phi, np.zeros_like(phi)


def _ring(potential: Potential, x: Array, y: Array, *, radius: float) -> Fields:
    v, lam = potential.parameters["v"], potential.parameters["lam"]
    distance = np.sqrt(x[:, None] ** 2 + y[None, :] ** 2)
    phi = v * np.tanh(np.sqrt(lam / 2) * v * (distance - radius))
    return phi, np.zeros_like(phi)


PRESETS: dict[str, Preset] = {
    "linear-wave": Preset(
        "a Gaussian falls apart into waves of all velocities below 1; solved exactly",
        "linear",
        {
            "length": 60.0,
            "num_x": 512,
            "boundary": "periodic",
            "scheme": "stormer_verlet",
            "exponential": True,
            "dt": 0.25,
        },
        50.0,
        _gaussian,
        {"amplitude": 1.0, "width": 2.0},
    ),
    "kink": Preset(
        "a φ⁴ kink at rest, which stays",
        "phi4",
        {"length": 100.0, "num_x": 1024, "boundary": "neumann"},
        50.0,
        _kink,
        {"velocity": 0.0, "center": 0.0},
    ),
    "boosted-kink": Preset(
        "a φ⁴ kink in motion, contracted by 1/γ",
        "phi4",
        {"length": 100.0, "num_x": 1024, "boundary": "neumann"},
        60.0,
        _kink,
        {"velocity": 0.8, "center": -25.0},
    ),
    "breather": Preset(
        "the sine-Gordon breather of frequency 0.5",
        "sine_gordon",
        {"length": 80.0, "num_x": 512, "boundary": "even"},
        80.0,
        _breather,
        {"frequency": 0.5},
    ),
    "kink-antikink": Preset(
        "a φ⁴ kink and antikink collide: captured, thrown back after bounces, or reflected, by their velocity",
        "phi4",
        {"length": 200.0, "num_x": 1024, "boundary": "even"},
        100.0,
        _pair,
        {"velocity": 0.3, "separation": 20.0},
    ),
    "two-bounce": Preset(
        "a kink and antikink that part only after a second collision",
        "phi4",
        {"length": 200.0, "num_x": 1024, "boundary": "even"},
        150.0,
        _pair,
        {"velocity": 0.1988, "separation": 20.0},
    ),
    "sine-gordon-collision": Preset(
        "a sine-Gordon kink and antikink pass through each other, each ahead of where it would be alone",
        "sine_gordon",
        {"length": 200.0, "num_x": 1024, "boundary": "even"},
        100.0,
        _pair,
        {"velocity": 0.3, "separation": 20.0},
    ),
    "oscillon": Preset(
        "a bell in a vacuum of φ⁴ settles into an oscillon that radiates very slowly into absorbing ends",
        "phi4",
        {"length": 150.0, "num_x": 512, "boundary": "absorbing"},
        400.0,
        _oscillon,
        {"amplitude": 0.7, "width": 3.0},
    ),
    "collapsing-ring": Preset(
        "a ring-shaped φ⁴ kink on a plane collapses under its tension",
        "phi4",
        {"length": 60.0, "num_x": 192, "boundary": "periodic"},
        40.0,
        _ring,
        {"radius": 18.0},
    ),
}


@dataclass(frozen=True)
class Simulation:
    """A preset with its changes, ready to run."""

    solver: KleinGordon
    phi: Array
    pi: Array
    time: float
    frames: int
    notes: dict[str, Any]

    def run(
        self,
        path: str | Path | None = None,
        *,
        save_every: float = 20.0,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> FieldRun:
        """Run it, and with a path write it as NetCDF at the end and every so many seconds.

        A file that is there is continued, if it is of the same simulation, up to the time that is asked for.

        Raises:
            ValueError: if the file is of another simulation, or the run is refused.
            OSError: if it cannot be written; what was written last stays.
        """
        if path is not None:
            check_file_name(path)
        total, interval = self.frames - 1, self.time / (self.frames - 1)
        run = None
        if path is not None and Path(path).exists():
            run = FieldRun.load(path)
            self._check_same(run, interval)
        each = max(1, -(-total // 50)) if path is not None else total
        saved = monotonic()

        def report(offset: int) -> Callable[[int, int], None] | None:
            if on_progress is None:
                return None
            return lambda done, _: on_progress(offset + done, total)

        while run is None or len(run.t) - 1 < total:
            done = 0 if run is None else len(run.t) - 1
            number = min(each, total - done)
            if run is None:
                run = self.solver.run(
                    self.phi, self.pi, time=interval * number, frames=number + 1, on_progress=report(0)
                ).with_notes(self.notes)
            else:
                run = self.solver.resume(run, frames=number, on_progress=report(done))
            if path is not None and (monotonic() - saved >= save_every or len(run.t) - 1 >= total):
                run.save(path)
                saved = monotonic()
        return run

    def _check_same(self, run: FieldRun, interval: float) -> None:
        then = {**run.settings, **run.notes, "time between frames": round(run.interval, 12)}
        now = {**self.solver.settings(), **self.notes, "time between frames": round(interval, 12)}
        if then != now:
            raise ValueError(
                "the file is of another simulation: "
                + "; ".join(differing_settings(then, now))
                + ". Give another output, or remove the file"
            )


def simulation(preset: str, **changes: Any) -> Simulation:
    """A preset, with changes of its parameters.

    Args:
        preset: one of PRESETS.
        changes: of m, lam and v of the potential; of the solver (SOLVER); of the run: time, frames, noise (amplitude of
            normal random numbers that are added to φ_t) and seed; and of the shape of the initial fields that the
            preset has, such as velocity. None leaves what the preset has.

    Raises:
        ValueError: for names that the preset does not have.
    """
    if preset not in PRESETS:
        hint = did_you_mean(preset, PRESETS) or "."
        raise ValueError(f"unknown preset {preset!r}{hint} There is {', '.join(PRESETS)}")
    chosen = PRESETS[preset]
    given = {name: value for name, value in changes.items() if value is not None}
    known = (*PARAMETERS, *SOLVER, *RUN, *chosen.shape)
    for name in given:
        if name not in known:
            raise ValueError(f"{preset} has no {name!r}{did_you_mean(name, known)}; it has {', '.join(known)}")
    parameters = {name: given[name] for name in PARAMETERS if name in given}
    potential = named_potential(chosen.potential, **parameters)
    settings = {**chosen.solver, **{name: given[name] for name in SOLVER if name in given}}
    plane = preset == "collapsing-ring"
    length, num_x = settings.pop("length"), settings.pop("num_x")
    solver = KleinGordon(
        potential, (length, length) if plane else length, num_x=(num_x, num_x) if plane else num_x, **settings
    )
    shape = {**chosen.shape, **{name: given[name] for name in chosen.shape if name in given}}
    phi, pi = chosen.start(potential, *solver.space.coordinates, **shape)
    noise, seed = float(given.get("noise", 0.0)), int(given.get("seed", 0))
    check_not_negative({"noise": noise})
    if noise:
        random = noise * np.random.default_rng(seed).standard_normal(phi.shape)
        mirrored = {"even": 1, "odd": -1}.get(solver.space.boundary)
        pi = pi + (random if mirrored is None else (random + mirrored * random[::-1]) / np.sqrt(2))
    return Simulation(
        solver,
        phi,
        pi,
        time=float(given.get("time", chosen.time)),
        frames=int(given.get("frames", 401)),
        notes={"preset": preset, **shape, "noise": noise, "seed": seed, "requested_dt": settings.get("dt")},
    )
