"""`sciml md`: molecular dynamics with a trained potential, or with a reference method."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator
from rich.console import Console
from rich.table import Table

from sciml.cli.calculator_choice import chosen_calculator
from sciml.cli.counting_bar import counting_bar
from sciml.datasets.label import load_structure
from sciml.potentials.molecular_dynamics import run_md
from sciml.potentials.restart import replace_text


@dataclass
class Config:
    """What to simulate. The same command continues a killed run; more steps lengthen a complete one.

    Attributes:
        structure: a file that ASE reads (its last structure counts), a molecule by name, such as CH3CH2OH, or
            the name of shipped weights, for the structure that comes with them.
        output: folder for trajectory.xyz, energies.csv and result.json.
        checkpoint: folder or name of a trained potential.
        calculator: instead of a checkpoint: tblite (GFN2-xTB), emt, lj, or an import path such as package.module:Class.
        calculator_arguments: keyword arguments of the calculator.
        ensemble: nve, langevin (NVT) or npt (volume at a fixed shape of the cell).
        steps: steps after the equilibration.
        timestep: fs.
        temperature: K.
        equilibration_steps: steps before the first frame; an NVE run is equilibrated by Langevin dynamics.
        friction: 1/fs, of the thermostat.
        pressure: GPa, npt.
        barostat_time: fs, response time of the volume, npt.
        thermalize: whether to draw momenta; otherwise those of the structure are used.
        log_interval: steps between two frames.
        segment_steps: steps between two saved states.
        seed: of all random numbers.
        stop_when_extrapolating: end the run, with the structure in question as its last frame, when the potential has
            left what it learned: atoms too close, a force too large, members of a committee that disagree.
        min_distance_ratio: of a pair of atoms to the shortest distance of such a pair in training.
        max_force_ratio: of a force to the largest in training.
        max_forces_spread: eV/Å, of the members of a committee about the force on an atom.
        device: where the potential runs, such as cpu or cuda.
        dtype: float64 or float32, of the potential.
        skin: Å, of the neighbour list.
        max_memory: such as 4GB; what needs more is evaluated in chunks of atoms. By default what is free.
    """

    structure: str
    output: str
    checkpoint: str | None = None
    calculator: str | None = None
    calculator_arguments: dict[str, Any] = field(default_factory=dict)
    ensemble: str = "nve"
    steps: int = 10000
    timestep: float = 0.5
    temperature: float = 300.0
    equilibration_steps: int = 2000
    friction: float = 0.01
    pressure: float = 0.0
    barostat_time: float = 1000.0
    thermalize: bool = True
    log_interval: int = 10
    segment_steps: int = 500
    seed: int = 0
    stop_when_extrapolating: bool = False
    min_distance_ratio: float = 0.9
    max_force_ratio: float = 2.0
    max_forces_spread: float = 0.5
    device: str = "cpu"
    dtype: str = "float64"
    skin: float = 0.5
    max_memory: str | None = None


# quantity: (value in MDResult.summary, its standard error, unit)
ROWS = {
    "temperature": ("temperature_K", "temperature_error_K", "K"),
    "potential energy": ("potential_eV", "potential_error_eV", "eV"),
    "volume": ("volume_A3", "volume_error_A3", "Å³"),
    "pressure": ("pressure_GPa", "pressure_error_GPa", "GPa"),
    "drift of the total energy": ("drift_meV_per_atom_per_ps", "drift_error_meV_per_atom_per_ps", "meV/atom/ps"),
    "time per step": ("ms_per_step", None, "ms"),
    "speed": ("ns_per_day", None, "ns/day"),
    "throughput": ("atom_steps_per_second", None, "atom-steps/s"),
}


def run(config: Config) -> None:
    """Simulate, with a progress bar, and report."""
    console = Console()
    atoms = load_structure(config.structure)
    new_calculator = chosen_calculator(
        config.checkpoint,
        config.calculator,
        config.calculator_arguments,
        device=config.device,
        dtype=config.dtype,
        skin=config.skin,
        max_memory=config.max_memory,
    )
    atoms.calc = new_calculator()
    folder = Path(config.output)
    stop_when, limits = extrapolation_check(config, atoms.calc)
    with counting_bar(console, "steps") as progress:
        task = progress.add_task(f"{config.ensemble} {atoms.get_chemical_formula()}", total=None)
        result = run_md(
            atoms,
            steps=config.steps,
            ensemble=config.ensemble,
            temperature=config.temperature,
            timestep=config.timestep,
            equilibration_steps=config.equilibration_steps,
            friction=config.friction,
            pressure=config.pressure,
            barostat_time=config.barostat_time,
            thermalize=config.thermalize,
            log_interval=config.log_interval,
            segment_steps=config.segment_steps,
            seed=config.seed,
            folder=folder,
            new_calculator=new_calculator,
            provenance={
                "checkpoint": config.checkpoint,
                **weights_of(config.checkpoint),
                "calculator": config.calculator,
                "calculator_arguments": config.calculator_arguments,
                "dtype": config.dtype,
                "skin": config.skin,
                **limits,
            },
            stop_when=stop_when,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
        complete = progress.tasks[task].total is None  # no step was taken
        progress.update(task, visible=not complete)
    if complete:
        console.print(f"{folder} is complete with {result.steps} steps; nothing to do but to report it")
    if result.stopped is not None:
        console.print(f"[bold red]stopped because the potential extrapolates[/bold red] at {result.stopped}")
    summary = result.summary()
    if config.ensemble != "nve":  # a thermostat exchanges energy, so the total is not conserved
        summary["drift_meV_per_atom_per_ps"] = summary["drift_error_meV_per_atom_per_ps"] = math.nan
    finite = {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in summary.items()}
    replace_text(
        folder / "result.json",
        json.dumps({"ensemble": config.ensemble, "stopped": result.stopped, **finite}, indent=2, ensure_ascii=False)
        + "\n",
    )
    console.print(_table(summary, title=f"{config.ensemble}, {result.steps} steps of {config.timestep:g} fs"))
    console.print(f"wrote trajectory.xyz, energies.csv and result.json to {folder}")


def extrapolation_check(
    config: Config, calculator: Calculator
) -> tuple[Callable[[Atoms], str | None] | None, dict[str, Any]]:
    """What stops the run, None if nothing is to stop it, and the settings that this adds to those of the run.

    Raises:
        ValueError: if it is asked for and nothing is known of what the potential has learned.
    """
    if not config.stop_when_extrapolating:
        return None, {}
    if config.checkpoint is None:
        raise ValueError("stop_when_extrapolating needs a --checkpoint; a reference method has not learned anything")
    from sciml.potentials.calculator import PotentialCalculator
    from sciml.potentials.committee import Committee
    from sciml.potentials.extrapolation import ExtrapolationCheck, Limits
    from sciml.potentials.training_domain import read_training_domain

    assert isinstance(calculator, PotentialCalculator)
    domain = read_training_domain(config.checkpoint)
    committee = isinstance(calculator.potential, Committee)
    if domain is None and not committee:
        raise ValueError(
            f"the checkpoint {config.checkpoint} does not say what it was trained on (no training_domain in its "
            "config.json: it was saved without, or by an older version), so that nobody can tell when it extrapolates; "
            "train it anew, further with --init_from, use a committee, or leave out stop_when_extrapolating"
        )
    limits = Limits(distance=config.min_distance_ratio, force=config.max_force_ratio, spread=config.max_forces_spread)
    check = ExtrapolationCheck(domain, cutoff=calculator.potential.cutoff, limits=limits, committee=committee)
    names = ("stop_when_extrapolating", "min_distance_ratio", "max_force_ratio", "max_forces_spread")
    return check, {name: getattr(config, name) for name in names}


def weights_of(checkpoint: str | None) -> dict[str, str]:
    """Fingerprint of the weights, so that no run is continued with others that were put into the same folder."""
    if checkpoint is None:
        return {}
    from sciml.environment import sha256  # imports torch, which a reference method need not wait for
    from sciml.potentials.checkpoint import checkpoint_folder

    return {"weights": sha256(checkpoint_folder(checkpoint) / "model.safetensors")[:16]}


def _table(summary: dict[str, Any], *, title: str) -> Table:
    table = Table(title=title)
    table.add_column("quantity")
    table.add_column("value", justify="right")
    table.add_column("unit")
    for name, (value, error, unit) in ROWS.items():
        if math.isnan(summary[value]):
            continue
        spread = "" if error is None or math.isnan(summary[error]) else f" ± {summary[error]:.2g}"
        table.add_row(name, f"{summary[value]:.6g}{spread}", unit)
    return table
