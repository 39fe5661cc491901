"""Writing flow fields as HDF5 in the layout of the Well, arXiv:2412.00568."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from sciml.datasets.field_statistics import FieldStatistics
from sciml.files import atomic_write
from sciml.pde.grid import Grid
from sciml.pde.stepper import Field

AXES = "xyz"


@dataclass(frozen=True)
class FieldSet:
    """What a file of fields says of itself.

    Attributes:
        name: of the data.
        grid: where the fields are.
        fields: the channels: first scalars, then the components of each vector, velocity_x and velocity_y.
        times: of the frames.
        at: where in a cell values are: "centers", "nodes" or "faces", as `sciml.pde.Stepper.at`.
        parameters: of the equation, the same for all trajectories.
        units: what L and T stand for; they stay in the units of fields otherwise.
        attributes: what else is to be known: versions, seeds, sources.
        statistics: of the training split.
    """

    name: str
    grid: Grid
    fields: Sequence[Field]
    times: Sequence[float]
    at: str = "centers"
    parameters: Mapping[str, float] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, str | int | float] = field(default_factory=dict)
    statistics: FieldStatistics | None = None

    def __post_init__(self) -> None:
        self.groups()  # complain now

    def groups(self) -> dict[str, list[int]]:
        """Channels of each stored field, in order: one of a scalar, one per axis of a vector.

        Raises:
            ValueError: if channels are not in the order that files have.
        """
        names = [one.name for one in self.fields]
        scalars = {one.name: [i] for i, one in enumerate(self.fields) if one.component is None}
        vectors: dict[str, list[int]] = {}
        for channel, one in enumerate(self.fields):
            if one.component is not None:
                vectors.setdefault(one.name.removesuffix(f"_{AXES[one.component]}"), []).append(channel)
        expected = list(scalars)
        for name in vectors:
            expected += [f"{name}_{axis}" for axis in AXES[: len(self.grid.shape)]]
        if names != expected:
            raise ValueError(
                f"got the channels {', '.join(names)}; expected {', '.join(expected)}: first scalars, then all "
                "components of each vector, x first"
            )
        return {**scalars, **vectors}

    def unit(self, channel: int) -> str:
        """Unit of the values of a channel."""
        return "".join(self.units.get(letter, letter) for letter in self.fields[channel].unit)


def require_h5py() -> ModuleType:
    """The module h5py.

    Raises:
        ValueError: if it is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise ValueError("h5py is not installed; pip install h5py") from error
    return h5py


def write_fields(path: str | Path, content: FieldSet, blocks: Iterable[np.ndarray], *, trajectories: int) -> None:
    """Write one file, which appears whole or not at all; the same content gives the same bytes.

    Args:
        path: ends in .hdf5 or .h5.
        content: what is written.
        blocks: of trajectories, (any number, frames, channels, *grid), in float32 or to be rounded to it.
        trajectories: in all blocks.

    Raises:
        ValueError: if a block has another shape, there are more or fewer trajectories, or a value is not a number.
    """
    h5py = require_h5py()

    def write(temporary: Path) -> None:
        with h5py.File(temporary, "w") as file:
            _write_metadata(file, content, trajectories)
            stored = _create_fields(file, content, trajectories)
            done = 0
            for block in blocks:
                _check_block(block, content, first=done, trajectories=trajectories)
                for dataset, channels in stored:
                    values = (
                        block[:, :, channels[0]] if len(channels) == 1 else np.moveaxis(block[:, :, channels], 2, -1)
                    )
                    dataset[done : done + len(block)] = np.ascontiguousarray(values, dtype=np.float32)
                done += len(block)
            if done != trajectories:
                raise ValueError(f"got {done} trajectories; expected {trajectories}")

    atomic_write(Path(path), write)


def check_finite(frames: np.ndarray, names: Sequence[str], *, first: int, where: str) -> None:
    """Raise a ValueError with the first trajectory, frame and channel at which fields are no numbers.

    Args:
        frames: (trajectories, frames, channels, *grid).
        names: of the channels.
        first: number of the first trajectory.
        where: what the message begins with.
    """
    finite = np.isfinite(frames)
    if not finite.all():
        bad = finite.all(axis=tuple(range(3, frames.ndim)))
        trajectory, frame, channel = np.argwhere(~bad)[0]
        raise ValueError(
            f"{where}: trajectory {first + trajectory}, frame {frame}: {names[channel]} is NaN or infinite; leave this "
            "trajectory out, or generate it again with a smaller time step"
        )


def _check_block(block: np.ndarray, content: FieldSet, *, first: int, trajectories: int) -> None:
    expected = (len(content.times), len(content.fields), *content.grid.shape)
    if block.shape[1:] != expected or first + len(block) > trajectories:
        raise ValueError(
            f"got trajectories {first} to {first + len(block) - 1} of shape {block.shape[1:]}; expected {trajectories} "
            f"of (frames, channels, *grid) = {expected}"
        )
    check_finite(block, [one.name for one in content.fields], first=first, where=f"{content.name} is not written")


def _write_metadata(file: Any, content: FieldSet, trajectories: int) -> None:
    grid = content.grid
    axes = list(AXES[: len(grid.shape)])
    file.attrs.update(
        {
            "dataset_name": content.name,
            "grid_type": "cartesian",
            "n_spatial_dims": len(axes),
            "n_trajectories": trajectories,
            "simulation_parameters": _texts(content.parameters),
            **{name: float(value) for name, value in content.parameters.items()},
            **content.attributes,
        }
    )
    dimensions = file.create_group("dimensions")
    dimensions.attrs["spatial_dims"] = _texts(axes)
    dimensions.attrs["lengths"] = [float(length) for length in grid.lengths]
    dimensions.attrs["values_at"] = content.at
    offset = 0.0 if content.at == "nodes" else 0.5
    coordinates = {
        axis: (np.arange(size) + offset) * spacing
        for axis, size, spacing in zip(axes, grid.shape, grid.spacings, strict=True)
    }
    for name, values in {"time": np.asarray(content.times), **coordinates}.items():
        dataset = dimensions.create_dataset(name, data=np.asarray(values, dtype=np.float32))
        dataset.attrs["sample_varying"] = False
        if name != "time":
            dataset.attrs["time_varying"] = False
        dataset.attrs["units"] = content.units.get("T" if name == "time" else "L", "T" if name == "time" else "L")
    boundaries = file.create_group("boundary_conditions")
    for axis, kind, size in zip(axes, grid.boundaries, grid.shape, strict=True):
        boundary = boundaries.create_group(f"{axis}_{kind}")
        boundary.attrs.update({"associated_dims": _texts([axis]), "associated_fields": _texts([])})
        boundary.attrs.update({"bc_type": kind.upper(), "sample_varying": False, "time_varying": False})
        mask = np.zeros(size, dtype=bool)
        mask[[0, -1]] = True
        boundary.create_dataset("mask", data=mask)
    scalars = file.create_group("scalars")
    scalars.attrs["field_names"] = _texts(content.parameters)
    for name, value in content.parameters.items():
        dataset = scalars.create_dataset(name, data=np.float32(value))
        dataset.attrs.update({"sample_varying": False, "time_varying": False})
    if content.statistics is not None:
        statistics = file.create_group("statistics")
        statistics.attrs["channels"] = _texts(one.name for one in content.fields)
        for name, values in asdict(content.statistics).items():
            statistics.create_dataset(name, data=np.asarray(values, dtype=np.float64))


def _create_fields(file: Any, content: FieldSet, trajectories: int) -> list[tuple[Any, list[int]]]:
    """Empty datasets, and the channels that belong into each."""
    shape, axes = content.grid.shape, len(content.grid.shape)
    groups = [file.create_group(f"t{order}_fields") for order in range(3)]
    stored: list[tuple[Any, list[int]]] = []
    names: list[list[str]] = [[], [], []]
    for name, channels in content.groups().items():
        order = int(len(channels) > 1)
        sizes = (trajectories, len(content.times), *shape, *[axes] * order)
        dataset = groups[order].create_dataset(name, shape=sizes, dtype="f4")
        dataset.attrs.update({"dim_varying": [True] * axes, "sample_varying": True, "time_varying": True})
        dataset.attrs["units"] = content.unit(channels[0])
        stored.append((dataset, channels))
        names[order].append(name)
    for group, inside in zip(groups, names, strict=True):
        group.attrs["field_names"] = _texts(inside)
    return stored


def _texts(values: Iterable[str]) -> Any:
    """A list of strings as h5py stores them, empty ones too."""
    return np.array(list(values), dtype=require_h5py().string_dtype())
