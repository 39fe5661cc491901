"""Frames of a molecular dynamics run: a trajectory, a table of energies, and the state that the run continues from."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.io.extxyz import write_extxyz

from sciml.messages import differing_settings
from sciml.potentials.md_result import COLUMNS, MDResult
from sciml.potentials.restart import DynamicsState, append_durably, read_json, replace_json

TRAJECTORY, ENERGIES, RESTART, SETTINGS = "trajectory.xyz", "energies.csv", "restart.json", "settings.json"


class FrameStore:
    """Frames of a run, in a folder or in memory, and the state that it continues from."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.rows: list[dict[str, float]] = []  # of the present segment, or all of them in memory
        self.frames: list[Atoms] = []
        self.pending = 0

    def open(self, settings: Mapping[str, Any]) -> DynamicsState | None:
        """State of the same run if it was begun, else None.

        Raises:
            ValueError: if the folder has a run with other settings.
        """
        if self.folder is None:
            return None
        self.folder.mkdir(parents=True, exist_ok=True)
        saved = read_json(self.folder / SETTINGS)
        if saved is None:
            existing = [name for name in (TRAJECTORY, ENERGIES) if (self.folder / name).exists()]
            if existing:
                raise ValueError(f"{self.folder} has {' and '.join(existing)} of something else; choose another folder")
            replace_json(self.folder / SETTINGS, settings)
        elif differing := differing_settings(saved, settings):
            raise ValueError(
                f"{self.folder} has a run with other settings:\n  " + "\n  ".join(differing) + "\n"
                "give the same settings to continue it, or choose another folder"
            )
        return DynamicsState.load(self.folder / RESTART)

    def add(self, atoms: Atoms, row: dict[str, float]) -> None:
        """Keep a frame until the segment is committed."""
        self.rows.append(row)
        self.frames.append(atoms.copy())
        self.pending += 1

    def commit(self, state: DynamicsState) -> None:
        """Append the frames of the segment to the files, then replace the state."""
        state.frames += self.pending
        self.pending = 0
        if self.folder is None:
            return
        first = not state.lengths
        table = "".join(",".join(repr(float(row[name])) for name in COLUMNS) + "\n" for row in self.rows)
        text = io.StringIO()
        for frame, row in zip(self.frames, self.rows, strict=True):
            frame.info = {name: row[name] for name in ("time", "potential", "temperature")}
            write_extxyz(text, [frame], columns=["symbols", "positions", "momenta"])
        contents = {TRAJECTORY: text.getvalue(), ENERGIES: (",".join(COLUMNS) + "\n" if first else "") + table}
        state.lengths = {
            name: append_durably(self.folder / name, content, offset=state.lengths.get(name, 0))
            for name, content in contents.items()
        }
        state.save(self.folder / RESTART)
        self.rows, self.frames = [], []

    def result(self, atoms: Atoms, state: DynamicsState, *, timestep: float) -> MDResult:
        """All frames of the run that has come to `state`."""
        positions: np.ndarray | None = None
        velocities: np.ndarray | None = None
        if self.folder is None:
            table = np.array([[row[name] for name in COLUMNS] for row in self.rows]).reshape(-1, len(COLUMNS))
            positions = np.array([frame.positions for frame in self.frames])
            velocities = np.array([frame.get_velocities() for frame in self.frames]) * units.fs
        else:
            table = np.loadtxt(self.folder / ENERGIES, delimiter=",", skiprows=1, ndmin=2)
        columns = dict(zip(COLUMNS, table.T, strict=True))
        return MDResult(
            **columns, atoms=atoms, positions=positions, velocities=velocities, steps=max(state.step, 0),
            timestep=timestep, seconds=state.seconds, stopped=state.stopped,
        )  # fmt: skip
