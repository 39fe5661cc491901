"""The state a killed simulation continues from, and the append-only files that are cut back to it.

A run appends frames to its files and now and then replaces one small state file, which holds everything that the next
step depends on and how long each file was at that moment. After a crash the files are cut back to these lengths, so
that no frame is lost or written twice, and the steps since then are taken again, with the same result to the last bit.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from sciml.files import atomic_write


@dataclass
class DynamicsState:
    """Everything that the next step of a simulation depends on.

    Attributes:
        step: steps taken; negative while equilibrating.
        positions: (atoms, 3), Å.
        momenta: (atoms, 3), ASE's units.
        cell: (3, 3), Å.
        random: state of the numpy bit generator.
        barostat: momentum of the barostat, ASE's units.
        frames: frames written.
        lengths: size in bytes of each file that belongs to this state.
        seconds: wall-clock time spent so far.
        stopped: why the simulation ended before its last step, None if it did not.
    """

    step: int
    positions: list[list[float]]
    momenta: list[list[float]]
    cell: list[list[float]]
    random: dict[str, Any]
    barostat: float = 0.0
    frames: int = 0
    lengths: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    stopped: str | None = None

    @classmethod
    def capture(cls, atoms: Atoms, generator: np.random.Generator, *, step: int) -> "DynamicsState":
        """State of `atoms` and of the generator of random numbers."""
        return cls(
            step=step,
            positions=atoms.positions.tolist(),
            momenta=atoms.get_momenta().tolist(),
            cell=atoms.cell.array.tolist(),
            random=dict(generator.bit_generator.state),
        )

    def restore(self, atoms: Atoms, generator: np.random.Generator) -> None:
        """Bring `atoms` and the generator back into this state."""
        atoms.set_cell(np.array(self.cell), scale_atoms=False)
        atoms.positions[:] = self.positions
        atoms.set_momenta(np.array(self.momenta), apply_constraint=False)
        generator.bit_generator.state = self.random

    def save(self, path: Path) -> None:
        """Replace the state file; a crash leaves the old one or the new one."""
        replace_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> "DynamicsState | None":
        """Read a state file; None if there is none. Numbers come back to the last bit."""
        content = read_json(path)
        return None if content is None else cls(**content)


def read_json(path: Path) -> dict[str, Any] | None:
    """Content of a JSON file, None if there is no such file."""
    return json.loads(path.read_text()) if path.exists() else None


def replace_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace the file `path` by `content` as JSON; a crash leaves the old file or the new one."""
    replace_text(path, json.dumps(content))


def replace_text(path: Path, text: str) -> None:
    """Replace the file `path` by `text`; a crash leaves the old file or the new one."""
    atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def append_durably(path: Path, text: str, *, offset: int) -> int:
    """Cut the file back to `offset` bytes, append `text`, flush it to the disk; return the new length in bytes."""
    with path.open("ab") as file:
        if file.tell() < offset:
            raise ValueError(
                f"{path} has {file.tell()} bytes, but {offset} were written; it was changed from outside: "
                "delete the unfinished output and start again"
            )
        file.truncate(offset)
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
        return offset + len(text.encode())
