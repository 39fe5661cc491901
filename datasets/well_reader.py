"""Opening files of flow fields in the layout of the Well, arXiv:2412.00568, ours and the Well's own."""

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sciml.datasets.field_statistics import FieldStatistics
from sciml.datasets.stored_fields import Fields, StoredField, opened
from sciml.pde.stepper import Field

_GROUPS = ("dimensions", "boundary_conditions", "scalars", "t0_fields", "t1_fields", "t2_fields")
_SPLITS = ("train", "valid", "test")


def open_fields(path: str | Path, split: str | None = None, *, channels: Sequence[str] | None = None) -> Fields:
    """Open a file, or all files of a folder as one.

    Args:
        path: an .hdf5 or .h5 file, a folder of them, or the folder of a data set, which has data/train, data/valid and
            data/test.
        split: "train", "valid" or "test", of the folder of a data set.
        channels: names that the file must have, in this order, such as those a surrogate was trained on.

    Raises:
        FileNotFoundError: if there is nothing.
        ValueError: if a file is truncated, or not of this layout, files do not belong together, or channels are others.
    """
    paths = _files(Path(path), split)
    parts = [_describe(one) for one in paths]
    first = parts[0]
    for other in parts[1:]:
        same = ("name", "fields", "constant_fields", "shape", "boundaries", "lengths")
        if differing := [name for name in same if getattr(other, name) != getattr(first, name)]:
            raise ValueError(
                f"{other.files[0][0]} and {first.files[0][0]} do not belong together: they differ in "
                f"{', '.join(differing)}; keep each set in a folder of its own"
            )
        if other.times.shape[-1] != first.times.shape[-1]:
            raise ValueError(f"{other.files[0][0]} has {other.times.shape[-1]} frames, {first.files[0][0]} "
                             f"{first.times.shape[-1]}; keep them in folders of their own")  # fmt: skip
    if channels is not None and tuple(channels) != first.channels:
        known = set(channels) == set(first.channels)
        raise ValueError(
            f"{path} has the channels {', '.join(first.channels)}; expected {', '.join(channels)}"
            + ("; they are the same in another order: give them in that of the file" if known else "")
        )
    return Fields(**{**vars(first), "files": tuple(part.files[0] for part in parts)})


def _files(path: Path, split: str | None) -> list[Path]:
    if split is not None and split not in _SPLITS:
        raise ValueError(f"got split={split!r}; expected one of {', '.join(_SPLITS)}")
    if path.is_file():
        return [path]
    if not path.is_dir():
        near = difflib.get_close_matches(path.name, [one.name for one in path.parent.glob("*")], n=1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise FileNotFoundError(f"there is no file or folder {path}{hint}")
    if (path / "data").is_dir():
        if split is None:
            raise ValueError(f"{path} has several splits; name one of {', '.join(_SPLITS)}")
        path = path / "data" / split
    elif split is not None and (path / split).is_dir():
        path = path / split
    found = sorted(one for one in path.glob("*") if one.suffix in (".hdf5", ".h5") and not one.name.startswith("."))
    if not found:
        raise FileNotFoundError(f"{path} holds no .hdf5 or .h5 file")
    return found


def _describe(path: Path) -> Fields:
    """What one file holds, checked."""
    with opened(path) as file:
        missing = [name for name in _GROUPS if name not in file]
        if missing:
            raise ValueError(
                f"{path} is not of the layout of the Well: the group{'s' * (len(missing) > 1)} {', '.join(missing)} "
                "is missing; convert it with sciml.datasets.write_fields"
            )
        try:
            return _described(path, file)
        except KeyError as error:
            raise ValueError(
                f"{path} is not of the layout of the Well: {error.args[0]}; convert it with sciml.datasets.write_fields"
            ) from error


def _described(path: Path, file: Any) -> Fields:
    dimensions = file["dimensions"]
    axes = _names(dimensions.attrs["spatial_dims"])
    coordinates = tuple(np.asarray(dimensions[axis][...], dtype=np.float64) for axis in axes)
    if any(points.ndim != 1 or len(points) < 2 for points in coordinates):
        raise ValueError(f"{path} has points that differ between trajectories or times; only fixed grids can be read")
    lengths = dimensions.attrs.get("lengths", [(c[-1] - c[0]) * len(c) / (len(c) - 1) for c in coordinates])
    times = np.asarray(dimensions["time"][...], dtype=np.float64)
    count = int(file.attrs["n_trajectories"])
    stored = tuple(_stored_fields(path, file, axes, (count, times.shape[-1], *map(len, coordinates))))
    parameters = [name for name in _names(file.attrs["simulation_parameters"]) if name in file.attrs]
    return Fields(
        name=_text(file.attrs["dataset_name"]),
        files=((path, count),),
        fields=tuple(field for one in stored if one.by_time for field in one.channels),
        constant_fields=tuple(field for one in stored if not one.by_time for field in one.channels),
        times=times,
        coordinates=coordinates,
        lengths=tuple(float(length) for length in lengths),
        boundaries=_boundaries(file["boundary_conditions"], axes),
        at=_text(dimensions.attrs.get("values_at", "centers")),
        parameters={name: float(np.ravel(file.attrs[name])[0]) for name in parameters},
        scalars={name: file["scalars"][name][...] for name in _names(file["scalars"].attrs["field_names"])},
        attributes={name: _text(value) for name, value in file.attrs.items()},
        statistics=_statistics(file),
        stored=stored,
    )


def _stored_fields(path: Path, file: Any, axes: list[str], sizes: tuple[int, ...]) -> Iterator[StoredField]:
    """The fields in the order of their groups; their arrays must have the `sizes` (trajectories, frames, *grid)."""
    for order in range(3):
        group = file[f"t{order}_fields"]
        endings = [""]
        for _ in range(order):
            endings = [ending + axis for ending in endings for axis in axes]
        for name in _names(group.attrs["field_names"]):
            array = group[name]
            by_axis = tuple(bool(varying) for varying in array.attrs["dim_varying"])
            varying = (bool(array.attrs["sample_varying"]), bool(array.attrs["time_varying"]), *by_axis)
            expected = tuple(size for size, varies in zip(sizes, varying, strict=True) if varies)
            count = len(axes) ** order
            if array.shape[: len(expected)] != expected or np.prod(array.shape[len(expected) :]) != count:
                raise ValueError(
                    f"{path}: {group.name}/{name} has the shape {array.shape}; expected {expected} and {count} "
                    f"component{'s' * (count > 1)} by its attributes and dimensions"
                )
            unit = _text(array.attrs.get("units", "1"))
            channels = tuple(
                Field(f"{name}_{ending}" if ending else name, unit, number if order == 1 else None)
                for number, ending in enumerate(endings)
            )
            yield StoredField(f"t{order}_fields", name, channels, varying[0], varying[1], by_axis)


def _boundaries(group: Any, axes: list[str]) -> tuple[str, ...]:
    ends = [["open", "open"] for _ in axes]
    for condition in group.values():
        names = _names(condition.attrs["associated_dims"])
        for axis in names:
            mask = np.asarray(condition["mask"][...]).reshape(-1) if len(names) == 1 else np.ones(2, dtype=bool)
            for end in (0, -1):
                if mask[end]:
                    ends[axes.index(axis)][end] = _text(condition.attrs["bc_type"]).lower()
    return tuple(low if low == high else f"{low}/{high}" for low, high in ends)


def _statistics(file: Any) -> FieldStatistics | None:
    if "statistics" not in file:
        return None
    return FieldStatistics.from_arrays({name: values[...] for name, values in file["statistics"].items()})


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _names(values: Any) -> list[str]:
    return [_text(value) for value in np.ravel(values)]
