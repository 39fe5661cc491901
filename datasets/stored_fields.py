"""Flow fields that lie in files, and how they are read."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sciml.datasets.field_statistics import MOMENTS, FieldStatistics, trajectory_moments
from sciml.datasets.well_writer import check_finite, require_h5py
from sciml.pde.grid import Grid
from sciml.pde.stepper import Field


@dataclass(frozen=True)
class StoredField:
    """A field as it is stored: its group, name, channels, and which axes its array has."""

    group: str
    name: str
    channels: tuple[Field, ...]
    by_trajectory: bool
    by_time: bool
    by_axis: tuple[bool, ...]


@dataclass(frozen=True)
class Fields:
    """One split of a set of fields, in one file or several. Files are open only while something is read.

    Attributes:
        name: of the data.
        files: paths and numbers of trajectories.
        fields: channels that change in time, in the order of `frames`: scalars, vectors, tensors.
        constant_fields: channels that do not, in the order of `constants`.
        times: of the frames, (frames,), or (trajectories of the first file, frames) where they differ.
        coordinates: of the points along each axis.
        lengths: of the box along each axis.
        boundaries: of each axis: "periodic", "wall" or "open", or two of them, "wall/open", for its two ends.
        at: where in a cell values are, "centers" or "nodes".
        parameters: of the equation, by name.
        scalars: arrays of the first file by name: (), (frames,), (trajectories,) or (trajectories, frames).
        attributes: all of the root of the first file.
        statistics: of the training split, if the file has them; else see `measured_statistics`.
    """

    name: str
    files: tuple[tuple[Path, int], ...]
    fields: tuple[Field, ...]
    constant_fields: tuple[Field, ...]
    times: np.ndarray
    coordinates: tuple[np.ndarray, ...]
    lengths: tuple[float, ...]
    boundaries: tuple[str, ...]
    at: str
    parameters: Mapping[str, float]
    scalars: Mapping[str, np.ndarray]
    attributes: Mapping[str, Any]
    statistics: FieldStatistics | None
    stored: tuple[StoredField, ...]

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels of `frames`."""
        return tuple(field.name for field in self.fields)

    @property
    def trajectories(self) -> int:
        """Number of trajectories."""
        return sum(count for _, count in self.files)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of points along each axis."""
        return tuple(len(points) for points in self.coordinates)

    @property
    def frame_time(self) -> float:
        """Time between frames."""
        times = self.times if self.times.ndim == 1 else self.times[0]
        return float(times[1] - times[0])

    @property
    def grid(self) -> Grid:
        """The grid that solvers use.

        Raises:
            ValueError: if an end of an axis is open.
        """
        return Grid(self.shape, self.lengths, self.boundaries)

    def frames(self, trajectories: slice | int = slice(None), times: slice | int = slice(None)) -> np.ndarray:
        """Read (trajectories, frames, channels, *grid) in float32.

        Raises:
            ValueError: if a number is out of range, a slice goes backwards, or a value is NaN or infinite.
        """
        return self._read([one for one in self.stored if one.by_time], trajectories, times)

    def constants(self, trajectories: slice | int = slice(None)) -> np.ndarray:
        """Read fields that do not change, (trajectories, channels, *grid) in float32; errors as of `frames`."""
        return self._read([one for one in self.stored if not one.by_time], trajectories, slice(0, 1))[:, 0]

    def measured_statistics(self, *, history: int = 1) -> FieldStatistics:
        """Of all trajectories of this split; reads them all, one after the other."""
        moments = np.empty((self.trajectories, len(MOMENTS), len(self.fields)))
        for number in range(self.trajectories):
            moments[number] = trajectory_moments(torch.from_numpy(self.frames(number)), history=history)[0]
        return FieldStatistics.from_moments(moments)

    def _read(self, stored: Sequence[StoredField], trajectories: slice | int, times: slice | int) -> np.ndarray:
        wanted = _range(trajectories, self.trajectories, "trajectory")
        at_times = _range(times, self.times.shape[-1], "frame")
        channels = [field.name for one in stored for field in one.channels]
        result = np.empty((len(wanted), len(at_times), len(channels), *self.shape), dtype=np.float32)
        done = first = 0
        for path, count in self.files:
            inside = range(*_overlap(wanted, first, count))
            if inside:
                with opened(path) as file:
                    part = result[done : done + len(inside)]
                    channel = 0
                    for one in stored:
                        into = part[:, :, channel : channel + len(one.channels)]
                        _read_field(file, one, _slice(inside), _slice(at_times), into)
                        channel += len(one.channels)
                if not np.isfinite(part).all():
                    check_finite(part, channels, first=inside[0], where=f"{path} holds what is no number")
                done += len(inside)
            first += count
        return result


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """An HDF5 file to read.

    Raises:
        ValueError: if it is none, or not whole.
    """
    try:
        file = require_h5py().File(path, "r")
    except OSError as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise
        reason = "is truncated: its end is missing" if "truncated" in str(error) else "is no HDF5 file, or is damaged"
        raise ValueError(f"{path} {reason} ({error}); copy, download or generate it again") from error
    with file:
        yield file


def _read_field(file: Any, one: StoredField, trajectories: slice, times: slice, into: np.ndarray) -> None:
    """Read into (trajectories, frames, channels, *grid), repeating along axes that the array does not have."""
    array = file[one.group][one.name]
    index = (*([trajectories] if one.by_trajectory else []), *([times] if one.by_time else []))
    values = array[index] if index else array[...]
    leading = sum((one.by_trajectory, one.by_time, *one.by_axis))
    values = np.moveaxis(values.reshape(*values.shape[:leading], len(one.channels)), -1, 0)
    missing = [number for number, has in enumerate((one.by_trajectory, one.by_time, *one.by_axis)) if not has]
    into[...] = np.moveaxis(np.expand_dims(values, [1 + number for number in missing]), 0, 2)


def _range(wanted: slice | int, size: int, what: str) -> range:
    if isinstance(wanted, int):
        if not -size <= wanted < size:
            raise ValueError(f"there is no {what} {wanted}; the {what} numbers are 0 to {size - 1}")
        wanted = slice(wanted % size, wanted % size + 1)
    numbers = range(size)[wanted]
    if numbers.step < 0:
        raise ValueError(f"got {wanted}; {what} numbers must rise, reverse the result instead")
    return numbers


def _overlap(wanted: range, first: int, count: int) -> tuple[int, int, int]:
    """Numbers of `wanted` among first, ..., first + count - 1, counted from `first`."""
    skipped = max(0, -((wanted.start - first) // wanted.step))
    start = wanted.start + skipped * wanted.step
    return start - first, min(wanted.stop - first, count), wanted.step


def _slice(numbers: range) -> slice:
    return slice(numbers.start, numbers.stop, numbers.step)
