"""What `sciml train` makes of trajectories before the first step: the surrogate, and what the data allow."""

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sciml.pde.augmentation import NAMES
from sciml.pde.checkpoint import build_network, load_surrogate
from sciml.pde.field_data import Trajectories, field_normalisation, parameter_normalisation
from sciml.pde.grid import Grid
from sciml.pde.padding import wall_rules
from sciml.pde.stepper import Field
from sciml.pde.surrogate import Surrogate

if TYPE_CHECKING:
    from sciml.cli.train_fields import Config


def prepare(config: "Config", data: Trajectories) -> Surrogate:
    """The surrogate before training, on the CPU.

    Raises:
        ValueError: if model, checkpoint and data do not fit together.
    """
    if config.init_from is not None:
        surrogate = load_surrogate(config.init_from)
        check_alike(data, surrogate, "training")
        for name in ("history", "bundle", "delta"):
            if getattr(surrogate, name) != getattr(config, name):
                raise ValueError(
                    f"got {name}={getattr(config, name)}, but the checkpoint {config.init_from} has "
                    f"{getattr(surrogate, name)}; give the same"
                )
        return surrogate
    arguments = dict(config.model)
    name = arguments.pop("name", "sinenet")
    walls = arguments.pop("walls", None)
    if isinstance(walls, str):
        if walls not in ("slip", "no_slip"):
            raise ValueError(f"got model.walls={walls!r}; it is slip, no_slip, or a rule for each axis and field")
        walls = wall_rules(data.fields, slip=walls == "slip")
    known: dict[str, Any] = {
        "channels_in": config.history * len(data.fields),
        "channels_out": config.bundle * len(data.fields),
        "padding": ["circular" if kind == "periodic" else "zeros" for kind in data.grid.boundaries],
    }
    if walls is not None:
        known["walls"] = walls
    parameters = {}
    if arguments.get("conditioning") is not None:
        parameters = parameter_normalisation(data.with_parameters(data.varying_parameters))
        if not parameters:
            raise ValueError("got model.conditioning, but no parameter of the data varies; leave it out")
        known["num_parameters"] = len(parameters)
    return Surrogate(
        build_network(name, {**known, **arguments}),
        fields=data.fields,
        grid=data.grid,
        frame_time=data.frame_time,
        normalisation=field_normalisation(data),
        history=config.history,
        bundle=config.bundle,
        delta=config.delta,
        parameters=parameters,
        at=data.at,
        units=data.units,
    )


def check_alike(data: Trajectories, surrogate: Surrogate, which: str) -> None:
    """Raise a ValueError if data are of other fields, or another grid or time between frames, than a surrogate."""

    def described(fields: Sequence[Field], grid: Grid, frame_time: float) -> dict[str, Any]:
        return {
            "fields": [(one.name, one.unit, one.component) for one in fields],
            "boundaries": grid.boundaries,
            "size of cells": tuple(float(f"{spacing:.6g}") for spacing in grid.spacings),
            "frame_time": float(f"{frame_time:.6g}"),
        }

    theirs = described(surrogate.fields, surrogate.grid, surrogate.frame_time)
    for name, value in described(data.fields, data.grid, data.frame_time).items():
        if value != theirs[name]:
            raise ValueError(f"the {which} data have {name} {value}, the surrogate has {theirs[name]}")


def symmetries(wanted: Sequence[str], data: Trajectories) -> list[str]:
    """The symmetries to move windows by.

    Raises:
        ValueError: if the equation does not have one of them.
    """
    if data.symmetries is None:
        if "all" in wanted:
            raise ValueError(
                "got augment=[all], but which symmetries the equation of these data has is not known; name those of "
                f"its boundaries and forces: {', '.join(NAMES)}"
            )
        return list(wanted)
    if list(wanted) == ["all"]:
        return sorted(data.symmetries)
    implied = set(data.symmetries)
    if "reflection" in implied:
        implied |= {"reflection_x", "reflection_y"}
    missing = [name for name in wanted if name not in implied]
    if missing:
        raise ValueError(
            f"got augment={list(wanted)}, but the equation of these data has no {' and no '.join(missing)} (its "
            f"boundaries or forces break it); it has {', '.join(sorted(data.symmetries)) or 'none'}"
        )
    return list(wanted)


def digest(data: Trajectories) -> str:
    """SHA-256 of sums over each frame and field, parameters and grid."""
    sha = hashlib.sha256(json.dumps([list(data.frames.shape), list(data.grid.lengths), data.frame_time]).encode())
    for frames in data.frames:
        sha.update(frames.double().sum(dim=(-2, -1)).numpy().tobytes())
    sha.update(data.parameters.numpy().tobytes())
    return sha.hexdigest()[:16]
