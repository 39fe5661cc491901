"""Labelled structures by MD under a reference method, on the processes of a machine or of a Dask cluster."""

import io
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import joblib
from ase import Atoms
from ase.build import molecule
from ase.collections import g2
from ase.data import chemical_symbols
from ase.io import read
from ase.io.extxyz import write_extxyz
from ase.io.jsonio import encode

from sciml.datasets.calculators import calculator_factory, single_thread
from sciml.datasets.isolated_atoms import isolated_atom
from sciml.datasets.walker import LabellingError, Walker, run_walker
from sciml.datasets.workers import polling, workers
from sciml.files import atomic_write
from sciml.messages import differing_settings
from sciml.potentials.checkpoint import available_weights, shipped_structure
from sciml.potentials.relaxation import relax
from sciml.potentials.restart import DynamicsState, read_json, replace_json, replace_text

__all__ = ["LabellingError", "Sampling", "label", "load_structure"]


@dataclass(frozen=True)
class Sampling:
    """Which structures to sample. The frames follow from these settings and the structure.

    Attributes:
        temperatures: K; each has its own walkers.
        frames: frames per temperature, shared among its walkers.
        walkers: independent trajectories per temperature.
        stride: steps between two frames.
        timestep: fs.
        friction: 1/fs, of the Langevin thermostat.
        equilibration_steps: steps before sampling.
        seed: of all random numbers; walker i draws from the generator seeded with (seed, i).
        relax: whether to relax the positions first.
        isolated_atoms: whether one isolated atom of each element is labelled too (`isolated_atom`), written first, from
            which a training takes its reference energies. None: if the structure has no periodic axis, since methods
            for crystals often fail on one atom.
        calculator: reference method: tblite (GFN2-xTB), emt, lj, or an import path such as package.module:Class.
        calculator_arguments: its keyword arguments, such as charge or method for tblite.
    """

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
    calculator: str = "tblite"
    calculator_arguments: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.temperatures or not all(temperature > 0 for temperature in self.temperatures):
            raise ValueError(f"temperatures must be positive, got {self.temperatures}")
        if len(set(self.temperatures)) < len(self.temperatures):
            raise ValueError(f"a temperature is there twice in {self.temperatures}; use walkers for more trajectories")
        for name in ("frames", "walkers", "stride", "timestep", "friction"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.equilibration_steps < 0 or self.seed < 0:
            raise ValueError(
                f"equilibration_steps={self.equilibration_steps} and seed={self.seed} must not be negative"
            )
        if self.walkers > self.frames:
            raise ValueError(f"{self.walkers} walkers cannot share {self.frames} frames; ask for fewer walkers")

    def atoms_of(self, structure: Atoms) -> list[str]:
        """Elements of which an isolated atom is labelled, in the order of their atomic numbers."""
        wanted = not structure.pbc.any() if self.isolated_atoms is None else self.isolated_atoms
        return [chemical_symbols[number] for number in sorted(set(structure.numbers.tolist()))] if wanted else []

    def plan(self) -> list[Walker]:
        """The walkers, temperature by temperature."""
        share, rest = divmod(self.frames, self.walkers)
        return [
            Walker(
                index=number * self.walkers + replica,
                temperature=float(temperature),
                frames=share + (replica < rest),
                seed=self.seed,
                stride=self.stride,
                timestep=self.timestep,
                friction=self.friction,
                equilibration_steps=self.equilibration_steps,
                calculator=self.calculator,
                calculator_arguments=self.calculator_arguments,
            )
            for number, temperature in enumerate(self.temperatures)
            for replica in range(self.walkers)
        ]


def load_structure(name: str) -> Atoms:
    """The last structure of a file that `ase.io.read` knows, that of shipped weights, or a molecule that ASE knows.

    Raises:
        ValueError: if it is none of these.
    """
    if Path(name).is_file():
        try:
            structure = read(name, index=-1)
            assert isinstance(structure, Atoms)  # one frame, since the index is a number
            return structure
        except Exception as error:  # the readers of ASE raise whatever they come across
            raise ValueError(f"{name} cannot be read as a structure: {error or type(error).__name__}") from error
    if name in available_weights():
        return shipped_structure(name)
    try:
        return molecule(name)
    except KeyError:
        raise ValueError(
            f"{name!r} is neither a file, nor shipped weights, nor a molecule that ASE knows, such as "
            f"{', '.join(sorted(g2.names)[:3])} or CH3CH2OH"
        ) from None


def label(
    structure: Atoms,
    output: str | Path,
    *,
    sampling: Sampling,
    processes: int = 1,
    dask: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> bool:
    """Sample `structure` and write isolated atoms and the labelled frames as extended XYZ to `output`.

    Beside it stand `output`.json with the settings and, until all frames are there, `output`.parts/ with a file of
    frames and a state per walker. The same call continues what a killed one left, and the frames are the same as
    without the interruption.

    Args:
        structure: where all walkers start.
        output: extended XYZ file with energy (eV), forces (eV/Å), for periodic structures stress (eV/Å³), and the keys
            config_type, temperature, seed, walker, step and time (for isolated atoms config_type only).
        sampling: what to sample.
        processes: walkers at a time on this machine.
        dask: address of a Dask scheduler, or "local" for one started here with `processes` workers. Its workers must
            see the folder of `output`.
        on_progress: called every 0.2 s with the frames written and to write.

    Returns:
        False if `output` was complete already, and nothing was done.

    Raises:
        ValueError: if `output` was made with other settings, or not by this function.
        LabellingError: if the calculator fails or a walker blows up.
    """
    output = Path(output)
    parts = output.with_name(output.name + ".parts")
    settings_path = output.with_name(output.name + ".json")
    walkers = sampling.plan()
    calculator_factory(sampling.calculator, sampling.calculator_arguments)()  # complain now, not in a worker
    settings = {**_describe(structure), **asdict(sampling)}
    saved = read_json(settings_path)
    if saved is not None and (differing := differing_settings(saved, settings)):
        raise ValueError(
            f"{output} was begun with other settings:\n  " + "\n  ".join(differing) + "\n"
            f"give the same settings to continue, choose another output, or delete {settings_path.name}, {parts.name} "
            f"and {output.name}"
        )
    if saved is None and (output.exists() or parts.exists()):
        raise ValueError(f"{output if output.exists() else parts} exists, but not its settings {settings_path.name}")
    if saved is not None and output.exists():
        shutil.rmtree(parts, ignore_errors=True)
        return False
    replace_json(settings_path, settings)  # first: whoever finds parts without settings refuses to continue
    parts.mkdir(parents=True, exist_ok=True)
    parts = parts.resolve()  # workers of a cluster may have another working directory

    total = sum(walker.frames for walker in walkers)
    progress = (lambda: on_progress(_frames_written(walkers, parts), total)) if on_progress else None
    with workers(processes, dask) as parallel, polling(progress):
        owner = None if dask else os.getpid()
        try:
            parallel([joblib.delayed(_label_isolated_atoms)(structure, sampling, parts / "isolated_atoms.xyz")])
        except LabellingError:  # they come first, so that nothing is lost, and the next call may do without them
            shutil.rmtree(parts)
            settings_path.unlink()
            raise
        parallel([joblib.delayed(_relaxed_start)(structure, sampling, parts / "start.json")])
        parallel(joblib.delayed(_run_from_start)(walker, structure, parts, owner=owner) for walker in walkers)
    _merge([parts / "isolated_atoms.xyz", *(walker.files(parts)[0] for walker in walkers)], output)
    shutil.rmtree(parts, ignore_errors=True)
    return True


def _label_isolated_atoms(structure: Atoms, sampling: Sampling, path: Path) -> None:
    """Label the isolated atoms once; the file appears whole or not at all, and may hold none."""
    if path.exists():
        return
    text = io.StringIO()
    with single_thread():
        for symbol in sampling.atoms_of(structure):
            write_extxyz(text, [isolated_atom(symbol, sampling.calculator, sampling.calculator_arguments)])
    replace_text(path, text.getvalue())


def _relaxed_start(structure: Atoms, sampling: Sampling, path: Path) -> None:
    """Relax once for all walkers, and keep the positions to the last bit."""
    if path.exists():
        return
    start = structure.copy()
    if sampling.relax:
        with single_thread():
            start.calc = calculator_factory(sampling.calculator, sampling.calculator_arguments)()
            result = relax(start, fmax=0.05)
        if not result.converged:
            raise LabellingError(
                f"the relaxation did not converge in {result.steps} steps (largest force {result.max_force:.2f} eV/Å); "
                "start from a better structure or set relax to false"
            )
        start = result.atoms
    replace_json(path, {"positions": start.positions.tolist()})


def _run_from_start(walker: Walker, structure: Atoms, parts: Path, *, owner: int | None) -> None:
    start = structure.copy()
    start.positions[:] = (read_json(parts / "start.json") or {})["positions"]
    run_walker(walker, start, parts, owner=owner)


def _frames_written(walkers: list[Walker], parts: Path) -> int:
    states = (DynamicsState.load(walker.files(parts)[1]) for walker in walkers)
    return sum(state.frames for state in states if state is not None)


def _merge(paths: list[Path], output: Path) -> None:
    """Join the parts in the order of the walkers; the output appears whole or not at all."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as merged:
            for path in paths:
                with path.open("rb") as part:
                    shutil.copyfileobj(part, merged)

    atomic_write(output, write)


def _describe(structure: Atoms) -> Mapping[str, Any]:
    """The structure as it is compared when a run is continued; what few structures have is there only if they do."""
    charges, moments = structure.get_initial_charges(), structure.get_initial_magnetic_moments()
    return {
        "numbers": structure.numbers.tolist(),
        "positions": structure.positions.tolist(),
        "cell": structure.cell.array.tolist(),
        "pbc": structure.pbc.tolist(),
        **({"initial_charges": charges.tolist()} if charges.any() else {}),
        **({"initial_magmoms": moments.tolist()} if moments.any() else {}),
        **({"constraints": encode(structure.constraints)} if structure.constraints else {}),
    }
