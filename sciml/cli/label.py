"""`sciml label`: sample structures by MD under a reference method and write them with their labels."""

from dataclasses import dataclass, field
from typing import Any

import joblib
from rich.console import Console

from sciml.cli.counting_bar import counting_bar
from sciml.datasets.label import Sampling, label, load_structure


@dataclass
class Config:
    """What to sample, under which method, and where the frames go. The same command continues a killed run.

    Attributes:
        structure: a file that ASE reads (its last structure counts) or a molecule by name, such as CH3CH2OH.
        output: extended XYZ file to write.
        calculator: reference method: tblite (GFN2-xTB), emt, lj, or an import path such as package.module:Class.
        calculator_arguments: its keyword arguments, such as {"charge": 1} for tblite.
        temperatures: K; each has its own walkers.
        frames: frames per temperature, shared among its walkers.
        walkers: independent trajectories per temperature.
        stride: MD steps between two frames.
        timestep: fs.
        friction: 1/fs, of the Langevin thermostat.
        equilibration_steps: MD steps before sampling.
        seed: of all random numbers.
        relax: whether to relax the positions first.
        isolated_atoms: whether an isolated atom of each element is labelled too, for the reference energies of a
            training. By default if the structure has no periodic axis.
        processes: walkers at a time on this machine; 0 takes all cores, as far as there are walkers.
        dask: address of a Dask scheduler (tcp://host:8786), or local for one that is started here.
    """

    structure: str
    output: str
    calculator: str = "tblite"
    calculator_arguments: dict[str, Any] = field(default_factory=dict)
    temperatures: list[float] = field(default_factory=lambda: [300.0])
    frames: int = 100
    walkers: int = 1
    stride: int = 40
    timestep: float = 0.5
    friction: float = 0.01
    equilibration_steps: int = 1000
    seed: int = 0
    relax: bool = True
    isolated_atoms: bool | None = None
    processes: int = 0
    dask: str | None = None


def run(config: Config) -> None:
    """Label, with a progress bar."""
    console = Console()
    sampling = Sampling(
        temperatures=config.temperatures,
        frames=config.frames,
        walkers=config.walkers,
        stride=config.stride,
        timestep=config.timestep,
        friction=config.friction,
        equilibration_steps=config.equilibration_steps,
        seed=config.seed,
        relax=config.relax,
        isolated_atoms=config.isolated_atoms,
        calculator=config.calculator,
        calculator_arguments=config.calculator_arguments,
    )
    if config.processes < 0:
        raise ValueError(f"processes must not be negative, got {config.processes}")
    walkers = sampling.plan()
    processes = min(config.processes or joblib.cpu_count(), len(walkers))
    structure = load_structure(config.structure)
    with counting_bar(console, "frames") as progress:
        task = progress.add_task(f"label {structure.get_chemical_formula()}", total=sum(w.frames for w in walkers))
        fresh = label(
            structure,
            config.output,
            sampling=sampling,
            processes=processes,
            dask=config.dask,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
        progress.update(task, completed=sum(w.frames for w in walkers))
    contents = f"{sum(walker.frames for walker in walkers)} frames of {len(walkers)} walkers"
    if elements := sampling.atoms_of(structure):
        contents += f" and the isolated atoms {', '.join(elements)}"
    if fresh:
        console.print(f"wrote {contents} to {config.output}")
    else:
        console.print(f"{config.output} is complete with {contents}; nothing to do")
