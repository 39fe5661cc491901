"""Trajectories of fields from HDF5 files, for the jobs on surrogates."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from sciml.cli.counting_bar import counting_bar
from sciml.datasets.flow_blocks import trajectories
from sciml.datasets.flows import FLOWS, flow_of
from sciml.datasets.stored_fields import Fields
from sciml.datasets.well_reader import open_fields
from sciml.pde.field_data import Trajectories

# Trajectories that are read at a time, for the progress bar.
_AT_A_TIME = 64

# Stands where sets have the number of their split, so that these trajectories are others.
_SHOWN = 1_000_000


def read_trajectories(files: Sequence[str]) -> Trajectories:
    """All trajectories of some files, or folders of files, in the layout of the Well.

    Names may be patterns, and have environment variables in them. Parameters are those of each file, or of each
    trajectory where the file says so. Symmetries are those of the solver if the data are of `sciml generate`, and
    unknown otherwise.

    Raises:
        ValueError: if a file is not of the layout, files do not belong together, or values are no numbers.
        FileNotFoundError: if there is nothing.
    """
    parts = [open_fields(path) for path in _paths(files)]
    first = parts[0]
    for other in parts[1:]:
        for name in ("fields", "shape", "lengths", "boundaries", "at"):
            if getattr(other, name) != getattr(first, name):
                raise ValueError(
                    f"{other.files[0][0]} and {first.files[0][0]} do not belong together: {name} are "
                    f"{getattr(other, name)} and {getattr(first, name)}"
                )
        if other.times.shape[-1] != first.times.shape[-1] or not np.isclose(other.frame_time, first.frame_time):
            raise ValueError(
                f"{other.files[0][0]} has {other.times.shape[-1]} frames {other.frame_time:g} apart, "
                f"{first.files[0][0]} {first.times.shape[-1]} frames {first.frame_time:g} apart"
            )
    total = sum(part.trajectories for part in parts)
    shape = (total, first.times.shape[-1], len(first.fields), *first.shape)
    if len(first.shape) != 2:
        raise ValueError(f"{first.files[0][0]} has fields along {len(first.shape)} axes; surrogates are for two")
    frames = np.empty(shape, dtype=np.float32)
    origins: list[str] = []
    names = list(first.parameters)
    with counting_bar(Console(stderr=True), "trajectories") as progress:
        task = progress.add_task("read", total=total)
        for part in parts:
            for start in range(0, part.trajectories, _AT_A_TIME):
                count = min(_AT_A_TIME, part.trajectories - start)
                frames[len(origins) : len(origins) + count] = part.frames(slice(start, start + count))
                origins += [f"{part.files[0][0]}, trajectory {start + number}" for number in range(count)]
                progress.advance(task, count)
    return Trajectories(
        torch.from_numpy(frames),
        first.fields,
        first.grid,
        first.frame_time,
        at=first.at,
        parameters=torch.cat([_parameters(part, names) for part in parts]),
        parameter_names=names,
        symmetries=_symmetries(parts),
        units=_units(first),
        origins=origins,
    )


def made_trajectories(flow_name: str, resolution: int, count: int, *, seed: int) -> Trajectories:
    """Trajectories of a flow of `sciml generate`, computed now; none of them is in a set that was generated.

    Raises:
        ValueError: if there is no such flow.
    """
    flow = flow_of(flow_name)
    solver = flow.solver(resolution)
    _, every = flow.steps(resolution)
    numbers = range(count)
    return Trajectories(
        trajectories(flow, resolution, [(seed, _SHOWN, number) for number in numbers]),
        solver.fields,
        solver.grid,
        every * solver.dt,
        at=solver.at,
        symmetries=solver.symmetries,
        origins=[f"trajectory {number} of seed {seed}" for number in numbers],
    )


def _paths(files: Sequence[str]) -> list[Path]:
    """The files that names, patterns and folders stand for."""
    found: list[Path] = []
    for name in files:
        expanded = os.path.expandvars(name)
        if "$" in expanded:
            raise ValueError(f"{name} names an environment variable that is not set")
        matches = sorted(glob.glob(expanded)) if glob.has_magic(expanded) else [expanded]
        if not matches:
            raise FileNotFoundError(f"no file matches {name}")
        for match in matches:
            path = Path(match)
            found += [file for file, _ in open_fields(path).files] if path.is_dir() else [path]
    if not found:
        raise ValueError("got no files of trajectories")
    return list(dict.fromkeys(found))


def _parameters(part: Fields, names: Sequence[str]) -> torch.Tensor:
    """(trajectories, parameters) of one file."""
    if missing := [name for name in names if name not in part.parameters]:
        raise ValueError(f"{part.files[0][0]} does not have the parameters {', '.join(missing)}")
    columns = np.empty((part.trajectories, len(names)), dtype=np.float32)
    for column, name in enumerate(names):
        values = np.asarray(part.scalars.get(name, part.parameters[name]))
        columns[:, column] = values if values.shape == (part.trajectories,) else part.parameters[name]
    return torch.from_numpy(columns)


def _symmetries(parts: Sequence[Fields]) -> frozenset[str] | None:
    """Those that the solvers of all files have; None if one is not known."""
    common: frozenset[str] | None = None
    for part in parts:
        if part.name not in FLOWS or part.at != flow_of(part.name).solver(32).at:
            return None
        known = {name: value for name, value in part.parameters.items() if name in vars(flow_of(part.name))}
        symmetries = flow_of(part.name, known).solver(part.shape[0]).symmetries
        common = symmetries if common is None else common & symmetries
    return common


def _units(part: Fields) -> dict[str, str]:
    """Those of length and time, from that of a velocity; nothing without one."""
    for field in part.fields:
        length, slash, time = field.unit.partition("/")
        if field.component is not None and slash and "/" not in time:
            return {"length": length, "time": time}
    return {}
