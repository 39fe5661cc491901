"""Cost of the calculator over the bare model, and how exactly a checkpoint obeys the laws.

    python -m sciml.potentials.benchmark --checkpoint runs/ethanol/best

The structure is a periodic box of 64 atoms of the potential's species at 0.1 atoms per Å³ (as in liquid ethanol). They
move at every call as free particles do at 300 K in 0.5 fs, so that neighbour lists are rebuilt as often as in MD.
"""

import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet
from rich.console import Console
from rich.table import Table

from sciml.environment import describe_environment
from sciml.files import atomic_write
from sciml.graphs import graph_from_atoms
from sciml.neighbors import neighbor_list
from sciml.potentials.calculator import PotentialCalculator
from sciml.potentials.checkpoint import load_potential, potential_dtype
from sciml.potentials.interface import Potential
from sciml.testing import measure_potential

_DENSITY = 0.1  # atoms per Å³
_TIME_STEP = 0.5 * units.fs
_WARM_UP = 10  # calls that are not counted


def run(
    checkpoint: str,
    *,
    device: str = "cpu",
    dtype: str | None = None,
    num_atoms: int = 64,
    num_calls: int = 200,
    laws: bool = True,
    output: str = "benchmark.json",
) -> None:
    """Benchmark a checkpoint, print the table and write it as JSON.

    Args:
        checkpoint: a checkpoint folder, or the name of shipped weights.
        device: where the potential runs.
        dtype: float32 or float64; by default that of the checkpoint.
        num_atoms: atoms in the box.
        num_calls: timed calls.
        laws: also measure the laws of `sciml.testing.check_potential`, in float64.
        output: JSON file.
    """
    console = Console()
    potential = load_potential(checkpoint, device=device, dtype=dtype)
    with console.status("timing"):
        rows = time_calculator(potential, box(potential, num_atoms), num_calls=num_calls)
        rows["import_sciml_s"] = import_time()
    if laws:
        with console.status("laws in float64"):
            rows |= {f"law_{name}": error for name, error in measure_potential(potential).errors.items()}
    report = {
        "checkpoint": checkpoint,
        "device": device,
        "dtype": str(potential_dtype(potential)).removeprefix("torch."),
        "num_atoms": num_atoms,
        "num_calls": num_calls,
        "results": rows,
        **describe_environment(),
    }
    text = json.dumps(report, indent=2) + "\n"
    atomic_write(Path(output), lambda path: path.write_text(text, encoding="utf-8"))
    table = Table(title=f"{checkpoint}: {report['dtype']}, {device}, {num_atoms} atoms")
    table.add_column("measured")
    table.add_column("value", justify="right")
    for name, value in rows.items():
        table.add_row(name, f"{value:.4g}")
    console.print(table)
    console.print(f"written: {output}", highlight=False)


def box(potential: Potential, num_atoms: int, *, seed: int = 0) -> Atoms:
    """Periodic box with `num_atoms` of the potential's species in turn on a jittered lattice, moving at 300 K."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(num_atoms ** (1 / 3)))
    sites = np.array(list(itertools.product(range(side), repeat=3)))
    length = (num_atoms / _DENSITY) ** (1 / 3)
    chosen = sites[rng.permutation(len(sites))[:num_atoms]]
    positions = (chosen + rng.uniform(-0.1, 0.1, chosen.shape)) * length / side
    atoms = Atoms(np.resize(potential.species, num_atoms), positions=positions, cell=np.eye(3) * length, pbc=True)
    thermal = np.sqrt(units.kB * 300 / atoms.get_masses())
    atoms.set_velocities(thermal[:, None] * rng.normal(size=positions.shape))
    return atoms


def time_calculator(potential: Potential, atoms: Atoms, *, num_calls: int) -> dict[str, float]:
    """Median times of a force call by the bare model and by the calculator, called in turn; and of an MD step.

    Raises:
        ValueError: if the calculator and the model disagree, in which case no time means anything.
    """
    device = next(itertools.chain(potential.parameters(), potential.buffers()), torch.empty(0)).device
    calculator = PotentialCalculator(potential, device=device)
    frozen = calculator.potential
    atoms = atoms.copy()
    atoms.calc = calculator

    def advance() -> None:
        atoms.positions += atoms.get_velocities() * _TIME_STEP

    graph = graph_from_atoms(atoms, potential.cutoff).to(device)
    exact, measured = frozen(graph).forces.cpu().numpy(), atoms.get_forces()
    if np.abs(exact - measured).max() > 1e-3 * np.abs(exact).max():
        raise ValueError("the calculator's forces are not those of the model, so there is nothing to time")
    tasks: dict[str, Callable[[], Any]] = {
        "model": lambda: frozen(graph).forces.cpu(),
        "calculator": atoms.get_forces,
        "neighbors": lambda: neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, potential.cutoff),
    }
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for index in range(num_calls + _WARM_UP):
        advance()
        graph = graph_from_atoms(atoms, potential.cutoff).to(device)
        for name in sorted(tasks, reverse=bool(index % 2)):
            times[name].append(_seconds(tasks[name]))
    median_ms = {name: 1e3 * statistics.median(values[_WARM_UP:]) for name, values in times.items()}

    # So short a step that even a potential that does not fit the box keeps its atoms where they are.
    dynamics = VelocityVerlet(atoms, timestep=1e-4 * units.fs)
    steps = [_seconds(lambda: dynamics.run(1)) for _ in range(max(num_calls // 4, 5))]
    return {
        "num_edges": graph.num_edges,
        "model_ms": median_ms["model"],
        "calculator_ms": median_ms["calculator"],
        "calculator_overhead": median_ms["calculator"] / median_ms["model"] - 1,
        "neighbor_list_ms": median_ms["neighbors"],
        "neighbor_list_builds_per_call": calculator.num_neighbor_builds / (num_calls + _WARM_UP + 1),
        "md_step_ms": 1e3 * statistics.median(steps),
    }


def import_time(repeats: int = 5) -> float:
    """Median seconds that `import sciml` takes in a fresh interpreter."""
    code = "import time; start = time.perf_counter(); import sciml; print(time.perf_counter() - start)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return statistics.median(
        float(subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True).stdout)
        for _ in range(repeats)
    )


def _seconds(task: Callable[[], Any]) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(run, as_positional=False)
