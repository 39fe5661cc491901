"""`sciml relax`: relax positions, and the cell if asked for."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ase.io
from ase.io.formats import UnknownFileTypeError, filetype, get_ioformat
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sciml.cli.calculator_choice import chosen_calculator
from sciml.datasets.label import load_structure
from sciml.potentials.relaxation import relax


@dataclass
class Config:
    """What to relax; the exit code is 1 if it did not converge.

    Attributes:
        structure: a file that ASE reads (its last structure counts), a molecule by name, such as CH3CH2OH, or
            the name of shipped weights, for the structure that comes with them.
        output: file for the final structure; its ending chooses the format (.xyz, .cif, ...).
        checkpoint: folder or name of a trained potential.
        calculator: instead of a checkpoint: tblite (GFN2-xTB), emt, lj, or an import path such as package.module:Class.
        calculator_arguments: keyword arguments of the calculator.
        cell: whether the cell moves too.
        pressure: external pressure, GPa; only with cell.
        fmax: converged when no force is larger, eV/Å.
        max_steps: stop after this many steps.
        optimizer: fire (robust), lbfgs or bfgs (fewer steps near a minimum).
        path: extended XYZ file for the structures on the way; by default the output with the ending .path.xyz.
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
    cell: bool = False
    pressure: float = 0.0
    fmax: float = 0.01
    max_steps: int = 500
    optimizer: str = "fire"
    path: str | None = None
    device: str = "cpu"
    dtype: str = "float64"
    skin: float = 0.5
    max_memory: str | None = None


def run(config: Config) -> None:
    """Relax, and write the result.

    Raises:
        SystemExit: with code 1 if it did not converge.
    """
    console = Console()
    atoms = load_structure(config.structure)
    output = Path(config.output)
    if not _writable(output):
        raise ValueError(f"the ending of {output} names no format that ASE writes; use for example .xyz")
    atoms.calc = chosen_calculator(
        config.checkpoint,
        config.calculator,
        config.calculator_arguments,
        device=config.device,
        dtype=config.dtype,
        skin=config.skin,
        max_memory=config.max_memory,
    )()
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task(f"relax {atoms.get_chemical_formula()}")
        result = relax(
            atoms,
            cell=config.cell,
            pressure=config.pressure,
            fmax=config.fmax,
            max_steps=config.max_steps,
            optimizer=config.optimizer,
            path=Path(config.path) if config.path else output.with_suffix(".path.xyz"),
            on_step=lambda step, force: progress.update(
                task, description=f"step {step}: largest force {force:.4f} eV/Å"
            ),
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    ase.io.write(output, result.atoms)
    console.print(
        f"energy {result.initial_energy:.6f} → {result.energy:.6f} eV in {result.steps} steps, "
        f"largest force {result.max_force:.4f} eV/Å"
        + ("" if result.pressure is None else f", pressure {result.pressure:.4f} GPa")
    )
    console.print(f"wrote {output}")
    if not result.converged:
        console.print(
            f"[bold red]not converged[/bold red] to {config.fmax:g} eV/Å in {config.max_steps} steps; "
            f"continue from {output} or raise max_steps"
        )
        sys.exit(1)


def _writable(path: Path) -> bool:
    """Whether ASE has a writer for the ending of `path`; asked before the work, not after it."""
    try:
        return bool(get_ioformat(filetype(str(path), read=False)).can_write)
    except UnknownFileTypeError:
        return False
