"""`sciml simulate klein-gordon PRESET`: Klein-Gordon fields, written as NetCDF."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from sciml.cli.counting_bar import counting_bar
from sciml.cli.figures import save_figure
from sciml.integrators.field_presets import PRESETS, Simulation, simulation
from sciml.integrators.field_run import FieldRun

FIRST_WORD = "preset"  # the field that a first word without dashes fills


@dataclass
class Config:
    """What to simulate. What is not given is as the preset has it. The same command continues a killed run.

    Attributes:
        preset: linear-wave, kink, boosted-kink, breather, kink-antikink, two-bounce, sine-gordon-collision, oscillon or
            collapsing-ring.
        output: NetCDF file of φ, π, energy, momentum and topological charge at every saved time.
        picture: PNG of φ over space and time.
        film: GIF or MP4 of φ.
        velocity: of kinks, below 1.
        separation: of kink and antikink.
        center: of a kink.
        frequency: of a breather, between 0 and m.
        amplitude: of a Gaussian or a bell.
        width: of a Gaussian or a bell.
        radius: of a ring.
        m: mass of the linear and the sine-Gordon potential.
        lam: coupling λ of φ⁴.
        v: vacuum value.
        time: how long, in 1/mass.
        frames: saved times.
        length: of the box.
        num_x: points.
        boundary: periodic, antiperiodic, neumann, odd, even or absorbing.
        scheme: stormer_verlet, yoshida_4, yoshida_6, yoshida_8, kahan_li_8, blanes_moan_4, blanes_moan_6 or
            blanes_moan_6_14.
        dt: largest time step; by default half of what is stable.
        dealias: take the force on twice as many points.
        exponential: solve the linear part exactly.
        compensated: compensate the rounding of sums.
        fixed_point: integers, which run backwards bit by bit.
        noise: amplitude of random numbers that are added to φ_t.
        seed: of the random numbers.
    """

    preset: str
    output: str
    picture: str | None = None
    film: str | None = None
    velocity: float | None = None
    separation: float | None = None
    center: float | None = None
    frequency: float | None = None
    amplitude: float | None = None
    width: float | None = None
    radius: float | None = None
    m: float | None = None
    lam: float | None = None
    v: float | None = None
    time: float | None = None
    frames: int | None = None
    length: float | None = None
    num_x: int | None = None
    boundary: str | None = None
    scheme: str | None = None
    dt: float | None = None
    dealias: bool | None = None
    exponential: bool | None = None
    compensated: bool | None = None
    fixed_point: bool | None = None
    noise: float | None = None
    seed: int | None = None


def run(config: Config) -> None:
    """Simulate, with a progress bar, and report."""
    changes = asdict(config)
    preset, output = changes.pop("preset"), changes.pop("output")
    picture, film = changes.pop("picture"), changes.pop("film")
    chosen = simulation(preset, **changes)
    console = Console()
    console.print(f"{preset}: {PRESETS[preset].about}")
    with counting_bar(console, "frames") as progress:
        task = progress.add_task(preset, total=chosen.frames - 1)
        done = chosen.run(output, on_progress=lambda number, _: progress.update(task, completed=number))
        progress.update(task, completed=chosen.frames - 1)
    console.print(_table(chosen, done))
    console.print(f"wrote {output}")
    if picture is not None:
        from sciml.integrators.field_pictures import space_time_map

        save_figure(space_time_map(done), Path(picture))
        console.print(f"wrote {picture}")
    if film is not None:
        from sciml.integrators.field_pictures import write_film

        with counting_bar(console, "frames") as progress:
            task = progress.add_task("film", total=None)
            write_film(done, film, on_progress=lambda n, total: progress.update(task, completed=n, total=total))
        console.print(f"wrote {film}")


def _table(chosen: Simulation, run: FieldRun) -> Table:
    solver = chosen.solver
    table = Table(
        title=f"{solver.potential.name}, {solver.space.boundary}, {' × '.join(map(str, solver.space.shape))} points"
    )
    for column in ("quantity", "at the start", "at the end", "largest change"):
        table.add_column(column, justify="left" if column == "quantity" else "right")

    def add(name: str, values: np.ndarray) -> None:
        table.add_row(name, f"{values[0]:.10g}", f"{values[-1]:.10g}", f"{np.abs(values - values[0]).max():.2e}")

    add("energy", run.energy + run.absorbed)
    for axis, values in zip("xy", run.momentum.T, strict=False):
        add(f"momentum along {axis}", values)
    if run.topological_charge is not None:
        add("topological charge", run.topological_charge)
    table.caption = (
        f"t = 0 … {run.t[-1]:g} in {run.steps * (len(run.t) - 1)} steps of {abs(run.dt):.4g} by {solver.scheme.name}"
    )
    return table
