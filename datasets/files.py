"""Frames of the files that a user names: patterns are expanded, and every frame is given a name for messages."""

import difflib
import glob
import gzip
import io
import os
from collections.abc import Sequence
from pathlib import Path

import ase.db
import ase.io
from ase import Atoms
from ase.io.formats import string2index


def read_frames(paths: str | Path | Sequence[str | Path], index: str = ":") -> list[tuple[str, Atoms]]:
    """Read the frames of all files, each with its origin ("file, frame number").

    Args:
        paths: files in any format that `ase.io` reads, or glob patterns, expanded in alphabetical order; a path may
            end in "@index", and begin with an environment variable, "$SCIML_DATA/acac/train_300K.xyz.gz", or "~".
        index: frames to read of the files without such an ending.

    Raises:
        FileNotFoundError: if a file does not exist or a pattern matches none.
        ValueError: if a file is given twice, is empty or cannot be read.
    """
    frames: list[tuple[str, Atoms]] = []
    for path, selection in _expand(paths, index):
        found = _read_file(path, selection)
        suffix = "" if selection == ":" else f" of those selected by {selection!r}"
        frames.extend((f"{path}, frame {number}{suffix}", atoms) for number, atoms in enumerate(found))
    return frames


def _expand(paths: str | Path | Sequence[str | Path], index: str) -> list[tuple[Path, str]]:
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    if not given:
        raise ValueError("got no files to read; give at least one path or pattern")
    files: list[tuple[Path, str]] = []
    for entry in given:
        pattern, selection = os.path.expanduser(os.path.expandvars(str(entry))), index
        if not Path(pattern).exists() and "@" in Path(pattern).name:
            pattern, selection = pattern.rsplit("@", 1)
        # A name such as "data[1].xyz" is a file first and a pattern second.
        matches = [pattern] if Path(pattern).exists() else sorted(glob.glob(pattern, recursive=True))
        if not matches:
            raise FileNotFoundError(f"no file matches {pattern!r}; {_similar_file(Path(pattern))}")
        files.extend((Path(match), selection) for match in matches)
    twice = {str(path) for path, selection in files if files.count((path, selection)) > 1}
    if twice:
        raise ValueError(f"these files are given more than once: {', '.join(sorted(twice))}; their frames would repeat")
    return files


def _similar_file(path: Path) -> str:
    if path.parts and path.parts[0].startswith("$"):
        return f"the environment variable {path.parts[0][1:]} is not set"
    if not path.parent.is_dir():
        return f"the folder {str(path.parent)!r} does not exist"
    similar = difflib.get_close_matches(path.name, [other.name for other in path.parent.iterdir()], n=1)
    return (
        f"did you mean {str(path.parent / similar[0])!r}?" if similar else f"nothing in {str(path.parent)!r} is similar"
    )


def _read_file(path: Path, index: str) -> list[Atoms]:
    if path.is_dir() and path.suffix != ".bundle":  # the one format of ASE that is a folder
        raise ValueError(f"{path} is a folder; expected a file, or a pattern such as {str(path / '*.xyz')!r}")
    if path.is_file() and path.stat().st_size == 0:
        raise ValueError(f"{path} is empty; expected at least one structure")
    try:
        frames = _read_by_format(path, index)
    except Exception as error:  # the readers of ase.io raise whatever comes up, from KeyError to struct.error
        raise ValueError(
            f"{path} cannot be read by ase.io (index {index!r}): {type(error).__name__}: {error}"
        ) from error
    if not frames:
        raise ValueError(f"{path} holds no structure (index {index!r}); expected at least one")
    return frames


def _read_by_format(path: Path, index: str) -> list[Atoms]:
    if path.suffix in (".db", ".json"):
        return _read_database(path, index)
    if path.name.endswith((".xyz.gz", ".extxyz.gz")):
        # ASE seeks back and forth, which on a compressed stream costs the square of its length: unpack it first.
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            frames = ase.io.read(io.StringIO(stream.read()), index=index, format="extxyz")
    else:
        frames = ase.io.read(path, index=index, do_not_split_by_at_sign=True)
    return [frames] if isinstance(frames, Atoms) else frames


def _read_database(path: Path, index: str) -> list[Atoms]:
    """Rows with their key-value pairs and data, which `ase.io` drops, in `atoms.info`."""
    with ase.db.connect(path) as database:
        try:
            selection = string2index(index)
        except ValueError:
            selection = index
        # What is neither a number nor a slice is a query such as "natoms<10".
        rows = list(database.select(selection if isinstance(selection, str) else None))
        if not isinstance(selection, str):
            rows = rows[selection] if isinstance(selection, slice) else [rows[selection]]
    frames = []
    for row in rows:
        atoms = row.toatoms()
        atoms.info.update({**row.data, **row.key_value_pairs})
        frames.append(atoms)
    return frames
