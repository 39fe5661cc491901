"""One walker: a Langevin trajectory under a reference method that writes labelled frames and survives being killed."""

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculatorError
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import write_extxyz
from ase.md.langevin import Langevin
from filelock import FileLock, Timeout

from sciml.datasets.calculators import calculator_factory, single_thread
from sciml.potentials.ensembles import check_stable, free_energy, integrator, thermal_momenta
from sciml.potentials.restart import DynamicsState, append_durably

LOCK_SECONDS = 60


class LabellingError(ValueError):
    """A walker cannot go on; the message names the walker and the step."""


@dataclass(frozen=True)
class Walker:
    """What one trajectory depends on.

    Attributes:
        index: number of the walker; its random numbers follow from (seed, index).
        temperature: K.
        frames: frames to write.
        seed: seed of the whole data set.
        stride: steps between two frames.
        timestep: fs.
        friction: 1/fs.
        equilibration_steps: steps before the first `stride`.
        calculator: name or import path, see `calculator_factory`.
        calculator_arguments: its keyword arguments.
    """

    index: int
    temperature: float
    frames: int
    seed: int
    stride: int
    timestep: float
    friction: float
    equilibration_steps: int
    calculator: str
    calculator_arguments: Mapping[str, Any]

    def files(self, folder: Path) -> tuple[Path, Path]:
        """The file of frames and the state file."""
        stem = f"walker-{self.index:03d}"
        return folder / f"{stem}.xyz", folder / f"{stem}.json"


def run_walker(walker: Walker, start: Atoms, folder: Path, *, owner: int | None = None) -> None:
    """Write the frames that are still missing.

    A block of steps leads from one saved state to the next. Each begins with a new calculator, so that a frame depends
    on the state before it and on nothing else, such as the electron density of the step before: a resumed walker
    writes the same frames as an uninterrupted one. The frame goes to the disk before the state that counts it.

    Args:
        walker: what to run.
        start: structure without momenta.
        folder: where the files of the walker are.
        owner: process that started this one; when it is gone the walker stops after its frame, because the
            command may have been started again. None: keep going.

    Raises:
        LabellingError: if the calculator fails, the simulation blows up, or another process runs the same walker.
    """
    path, state_path = walker.files(folder)
    try:
        with FileLock(state_path.with_suffix(".lock"), timeout=LOCK_SECONDS), single_thread():
            _run(walker, start.copy(), path, state_path, owner)
    except Timeout:
        raise LabellingError(f"walker {walker.index} is being run by another process; wait for it or end it") from None


def _run(walker: Walker, atoms: Atoms, path: Path, state_path: Path, owner: int | None) -> None:
    new_calculator = calculator_factory(walker.calculator, walker.calculator_arguments)
    generator = np.random.default_rng([walker.seed, walker.index])
    state = DynamicsState.load(state_path)
    if state is None:
        thermal_momenta(atoms, walker.temperature, generator)
        state = DynamicsState.capture(atoms, generator, step=-walker.equilibration_steps)
    state.restore(atoms, generator)
    while state.frames < walker.frames:
        where = f"walker {walker.index} ({walker.temperature:g} K), step {state.step}"
        if owner is not None and owner not in (os.getpid(), os.getppid()):
            raise LabellingError(f"{where}: the process that started this walker is gone")
        equilibrating = state.step < 0
        steps = min(walker.stride, -state.step) if equilibrating else walker.stride
        atoms.calc = new_calculator()
        try:
            dynamics = integrator(
                atoms,
                "langevin",
                generator,
                timestep=walker.timestep,
                temperature=walker.temperature,
                friction=walker.friction,
            )
            assert isinstance(dynamics, Langevin)  # whose `step` takes forces
            forces = None
            for _ in range(steps):  # handing the forces on saves two comparisons of all arrays per step of `run`
                forces = dynamics.step(forces)
            where = f"walker {walker.index} ({walker.temperature:g} K), step {state.step + steps}"
            atoms.calc = new_calculator()
            energy = free_energy(atoms)
            check_stable(atoms, energy, atoms.get_temperature(), target=walker.temperature, where=where)
            frame = None if equilibrating else _labelled(atoms, energy, walker, step=state.step + steps)
        except (CalculatorError, RuntimeError, np.linalg.LinAlgError) as error:
            raise LabellingError(f"{where}: the calculator {walker.calculator!r} failed: {error}") from error
        following = DynamicsState.capture(atoms, generator, step=state.step + steps)
        following.frames, following.lengths = state.frames, dict(state.lengths)
        if frame is not None:
            text = io.StringIO()
            write_extxyz(text, [frame])
            following.lengths["frames"] = append_durably(path, text.getvalue(), offset=state.lengths.get("frames", 0))
            following.frames += 1
        following.save(state_path)
        state = following


def _labelled(atoms: Atoms, energy: float, walker: Walker, *, step: int) -> Atoms:
    """Copy of `atoms` with energy, forces and, if there is one, stress as labels."""
    # Constraints hold during the sampling; as labels, their zeros would contradict the energy.
    labels: dict[str, Any] = {"energy": energy, "forces": atoms.get_forces(apply_constraint=False)}
    if atoms.pbc.all() and "stress" in getattr(atoms.calc, "implemented_properties", ()):
        labels["stress"] = atoms.get_stress(apply_constraint=False)
    frame = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    frame.info = {
        "config_type": f"{walker.temperature:g}K_MD",
        "temperature": walker.temperature,
        "seed": walker.seed,
        "walker": walker.index,
        "step": step,
        "time": step * walker.timestep,
    }
    frame.calc = SinglePointCalculator(frame, **labels)
    return frame
