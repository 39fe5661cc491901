"""`sciml compare`: accuracy of trained potentials against what an evaluation costs, and the front of the best."""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.data import chemical_symbols
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from sciml.cli.compare_plot import Point, plot_front
from sciml.cli.figures import save_figure
from sciml.datasets.label import load_structure
from sciml.environment import describe_environment
from sciml.files import atomic_write
from sciml.messages import check_positive
from sciml.potentials.benchmark import box as benchmark_box
from sciml.potentials.calculator import PotentialCalculator
from sciml.potentials.checkpoint import load_potential
from sciml.potentials.interface import Potential
from sciml.potentials.run_folder import RunRecord, read_run

FIRST_WORD = "runs"  # the field that the words before the first flag fill

_NUM_ATOMS = 64
_TIME_STEP = 0.5 * units.fs  # atoms move as in MD, so that neighbour lists are rebuilt as often as there
_WARM_UP = 3


@dataclass
class Config:
    """Compare trained potentials; `sciml compare runs/a runs/b` is `sciml compare --runs runs/a runs/b`.

    Attributes:
        runs: run folders of `sciml train`, checkpoint folders or names of shipped weights.
        structure: what is timed: a file (its last frame), a molecule by name, or shipped weights by name; by default
            a periodic box of 64 atoms of the runs' species.
        calls: timed evaluations of energy and forces of each potential; the median counts.
        device: where they run: cpu, cuda, cuda:1.
        compile: record an evaluation as a CUDA graph, as `PotentialCalculator(compile=True)` does.
        output: folder for compare.json and compare.png.
    """

    runs: list[str]
    structure: str | None = None
    calls: int = 30
    device: str = "cpu"
    compile: bool = False
    output: str = "compare"


def run(config: Config) -> None:
    """Read, time, print the table, and write compare.json and compare.png.

    Raises:
        ValueError: if a run does not exist, has no errors, or does not know an element of the structure.
    """
    check_positive({"calls": config.calls})
    if not config.runs:
        raise ValueError("got no runs; give at least one: `sciml compare runs/a runs/b`")
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, 160))  # a file has no width that the table has to fit
    records = [read_run(name) for name in dict.fromkeys(config.runs)]
    errors_on = common_errors(records)
    potentials = [load_potential(record.checkpoint, device=config.device) for record in records]
    atoms = structure_for(config.structure, records, potentials)
    total = (config.calls + _WARM_UP) * len(records)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("timing", total=total)
        costs = time_in_turn(
            [PotentialCalculator(p, device=config.device, compile=config.compile) for p in potentials],
            atoms,
            calls=config.calls,
            on_call=lambda: progress.advance(task),
        )
    front = on_front([(cost, getattr(r, errors_on)["forces"]) for cost, r in zip(costs, records, strict=True)])
    rows = [
        describe(record, potential, cost=cost, best=best)
        for record, potential, cost, best in zip(records, potentials, costs, front, strict=True)
    ]
    report = {
        "errors_on": errors_on,
        "same_structures": len({getattr(record, f"{errors_on}_data") for record in records}) == 1,
        "units": {"energy_per_atom": "eV/atom", "forces": "eV/Å", "stress": "eV/Å³", "cost_ms": "ms"},
        "structure": {"file": config.structure, "formula": atoms.get_chemical_formula(), "num_atoms": len(atoms)},
        "calls": config.calls,
        "device": config.device,
        "compile": config.compile,
        "runs": rows,
        **describe_environment(),
    }
    output = Path(config.output)
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    atomic_write(output / "compare.json", lambda path: path.write_text(text, encoding="utf-8"))
    points = [Point(r["name"], r["cost_ms"], 1e3 * r[errors_on]["forces"], r["on_front"]) for r in rows]
    where = f"{len(atoms)} atoms ({atoms.get_chemical_formula()}), {config.device}"
    save_figure(plot_front(points, errors_on=errors_on, where=where), output / "compare.png")
    console.print(comparison_table(rows, errors_on=errors_on, where=where))
    if not report["same_structures"]:
        console.print(
            f"[yellow]note:[/yellow] not all runs have the same {errors_on} structures, errors may not compare"
        )
    written = f"written: {output / 'compare.json'}, {output / 'compare.png'}"
    console.print(written, highlight=False, soft_wrap=True)


def common_errors(records: Sequence[RunRecord]) -> str:
    """Which errors of the forces all runs have, "test" rather than "validation".

    Raises:
        ValueError: if they have neither in common.
    """
    for kind in ("test", "validation"):
        if all("forces" in getattr(record, kind) for record in records):
            return kind
    lacking = next(record for record in records if "forces" not in record.validation)
    folder = lacking.checkpoint.parent if lacking.checkpoint.name == "best" else lacking.checkpoint
    kind = "validation " if "forces" in lacking.test else ""
    raise ValueError(
        f"{lacking.name} has no {kind}errors of forces, so that it cannot be compared; evaluate every run on the same "
        f"structures: `sciml evaluate --checkpoint {lacking.checkpoint} --output {folder / 'test'} --data FILE`"
    )


def structure_for(file: str | None, records: Sequence[RunRecord], potentials: Sequence[Potential]) -> Atoms:
    """The structure that all potentials are timed on, its atoms moving at 300 K.

    Raises:
        ValueError: naming each run that lacks an element of it, and the elements.
    """
    atoms: Atoms | None = None
    if file is not None:
        atoms = load_structure(file)
        atoms.calc = None
        wanted, what = set(atoms.numbers.tolist()), file
    else:
        wanted, what = set().union(*(potential.species for potential in potentials)), "the common box"
    lacking = [
        f"{record.name} lacks {', '.join(chemical_symbols[z] for z in sorted(wanted - set(potential.species)))}"
        for record, potential in zip(records, potentials, strict=True)
        if wanted - set(potential.species)
    ]
    if lacking:
        shared = sorted(set.intersection(*(set(potential.species) for potential in potentials)))
        known = f"of {', '.join(chemical_symbols[z] for z in shared)}" if shared else "but they share no element"
        raise ValueError(f"not all runs know the elements of {what}: {'; '.join(lacking)}; give --structure {known}")
    if atoms is None:
        return benchmark_box(potentials[0], _NUM_ATOMS)
    thermal = np.sqrt(units.kB * 300 / atoms.get_masses())
    atoms.set_velocities(thermal[:, None] * np.random.default_rng(0).normal(size=(len(atoms), 3)))
    return atoms


def time_in_turn(
    calculators: Sequence[PotentialCalculator], atoms: Atoms, *, calls: int, on_call: Callable[[], object]
) -> list[float]:
    """Median milliseconds that each calculator takes for energy and forces of the moving atoms.

    Every structure goes to all of them before the next comes, in alternating order, so that what else the machine does
    hits all alike. Neighbour lists count.

    Raises:
        ValueError: if forces are not finite.
    """
    atoms = atoms.copy()
    times: list[list[float]] = [[] for _ in calculators]
    order = list(enumerate(calculators))
    for call in range(calls + _WARM_UP):
        atoms.positions += atoms.get_velocities() * _TIME_STEP
        for index, calculator in order if call % 2 else reversed(order):
            start = time.perf_counter()
            calculator.calculate(atoms, ["energy", "forces"])
            times[index].append(time.perf_counter() - start)
            if not np.isfinite(calculator.results["forces"]).all():
                raise ValueError(
                    f"potential {index + 1} of the runs gives forces that are not finite; give --structure"
                )
            on_call()
    return [1e3 * statistics.median(values[_WARM_UP:]) for values in times]


def on_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Whether each (cost, error) is on the Pareto front: no other is as good in both and better in one.

    >>> on_front([(1.0, 9.0), (2.0, 5.0), (3.0, 6.0)])
    [True, True, False]
    """
    return [not any(other != p and other[0] <= p[0] and other[1] <= p[1] for other in points) for p in points]


def describe(record: RunRecord, potential: Potential, *, cost: float, best: bool) -> dict[str, Any]:
    """One run as JSON values; errors in eV/atom, eV/Å and eV/Å³, cost in ms."""
    return {
        "name": record.name,
        "checkpoint": str(record.checkpoint),
        "model": record.model,
        "species": [chemical_symbols[z] for z in potential.species],
        "num_weights": sum(parameter.numel() for parameter in potential.parameters()),
        "validation": record.validation,
        "test": record.test,
        "epoch": record.epoch,
        "epochs": record.epochs,
        "steps": record.steps,
        "training_seconds": record.seconds,
        "equivariance_error": record.equivariance_error,
        "cost_ms": cost,
        "on_front": best,
    }


def comparison_table(rows: Sequence[dict[str, Any]], *, errors_on: str, where: str) -> Table:
    """The runs from the fastest to the slowest, those on the front with a star."""
    table = Table(
        title=f"RMSE against cost: {where}",
        caption=f"E in meV/atom, F in meV/Å; ms: energy and forces, median; ★: on the front by F ({errors_on}).",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("")
    table.add_column("run", overflow="fold")
    table.add_column("model", no_wrap=True)
    right = ["weights", "valid\nE", "valid\nF", "test\nE", "test\nF", "best of\nepochs", "steps", "training\nmin"]
    for heading in [*right, "equivar.\nerror", "ms"]:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in sorted(rows, key=lambda row: row["cost_ms"]):
        errors = [
            _shown(row[kind].get(key), 1e3) for kind in ("validation", "test") for key in ("energy_per_atom", "forces")
        ]
        epochs = f"{row['epoch']}/{row['epochs']}" if row["epoch"] and row["epochs"] else _shown(row["epoch"])
        table.add_row(
            "★" if row["on_front"] else "",
            escape(row["name"]),
            row["model"],
            str(row["num_weights"]),
            *errors,
            epochs,
            _shown(row["steps"]),
            _shown(row["training_seconds"], 1 / 60),
            "–" if row["equivariance_error"] is None else f"{row['equivariance_error']:.0e}",
            _shown(row["cost_ms"]),
        )
    return table


def _shown(value: float | None, scale: float = 1.0) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) and scale == 1 else f"{value * scale:.4g}"
