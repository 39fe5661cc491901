"""Symmetries of an equation as augmentation: fields mirrored and turned with their vectors, or shifted around."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sciml.messages import did_you_mean
from sciml.pde.grid import Grid
from sciml.pde.stepper import Field

NAMES = ("translation", "rotation", "reflection", "reflection_x", "reflection_y")


class Motion(NamedTuple):
    """Mirror along axes, then exchange the axes; the eight of them are the symmetries of a square.

    Attributes:
        mirror_x: whether x is reversed.
        mirror_y: whether y is.
        exchange: whether x and y are exchanged.
    """

    mirror_x: bool = False
    mirror_y: bool = False
    exchange: bool = False


def motions(symmetries: Collection[str], grid: Grid) -> list[Motion]:
    """The motions of the grid that an equation with these symmetries allows, the identity first.

    Args:
        symmetries: of `NAMES`: "rotation" by 90°, "reflection" along either axis, or along one of them only.
        grid: where the fields live.

    Raises:
        ValueError: for an unknown symmetry, or rotations of a grid that is not the same along both axes.
    """
    for name in symmetries:
        if name not in NAMES:
            raise ValueError(f"got the symmetry {name!r}{did_you_mean(name, NAMES) or ';'} it is one of {NAMES}")
    if "rotation" in symmetries and not grid.is_square:
        raise ValueError(
            f"a turn by 90° does not leave a grid of {grid.shape} points, lengths {grid.lengths} and boundaries "
            f"{grid.boundaries} as it is; leave rotation out"
        )
    found = [Motion()]
    generators = []
    if "rotation" in symmetries:
        generators.append(Motion(mirror_y=True, exchange=True))
    if {"reflection", "reflection_x"} & set(symmetries):
        generators.append(Motion(mirror_x=True))
    if {"reflection", "reflection_y"} & set(symmetries):
        generators.append(Motion(mirror_y=True))
    for motion in found:  # grows while there are products that are not in it
        found += [new for generator in generators if (new := after(generator, motion)) not in found]
    return found


def after(second: Motion, first: Motion) -> Motion:
    """`first`, then `second`, as one motion."""
    mirrors = (second.mirror_y, second.mirror_x) if first.exchange else (second.mirror_x, second.mirror_y)
    return Motion(first.mirror_x != mirrors[0], first.mirror_y != mirrors[1], first.exchange != second.exchange)


def moved(u: Tensor, motion: Motion, fields: Sequence[Field], at: str = "centers") -> Tensor:
    """Fields (..., fields, num_x, num_y) after a motion, vectors turned with them.

    Args:
        u: fields. Pseudoscalars such as vorticity are not known as such: do not mirror them.
        motion: what is done.
        fields: what the channels are.
        at: where the values are: "centers" of cells, "nodes" (lower corners), or "faces" (components of vectors at the
            lower faces across their axis, all else at centres).
    """
    for axis, reverse in enumerate((motion.mirror_x, motion.mirror_y)):
        if reverse:
            u = _mirrored(u, axis, fields, at)
    if motion.exchange:
        other = {field.component: channel for channel, field in enumerate(fields) if field.component is not None}
        order = [c if f.component is None else other[1 - f.component] for c, f in enumerate(fields)]
        u = u.transpose(-1, -2)[..., order, :, :]
    return u


def _mirrored(u: Tensor, axis: int, fields: Sequence[Field], at: str) -> Tensor:
    dim, channels = axis - 2, []
    for field, channel in zip(fields, u.flip(dim).unbind(-3), strict=True):
        own = field.component == axis
        # What is at a lower end is mirrored at the end 0, which stays: at a wall, or around a periodic axis.
        placed = channel.roll(1, dim) if at == "nodes" or (at == "faces" and own) else channel
        channels.append(-placed if own else placed)
    return torch.stack(channels, dim=-3)


class Augmentation:
    """Draws a motion, and a shift along periodic axes, for each sample.

    Random numbers come from torch's own generator of the CPU, which the training loop seeds for each epoch.

    Args:
        symmetries: see `motions`; with "translation" samples are shifted along periodic axes.
        fields: what the channels are.
        grid: where the fields live.
        at: where in a cell the values are.

    Raises:
        ValueError: see `motions`; or if there are not both components of a vector that is to be turned.
    """

    def __init__(self, symmetries: Collection[str], *, fields: Sequence[Field], grid: Grid, at: str) -> None:
        self.motions = motions(symmetries, grid)
        self.fields, self.at = tuple(fields), at
        components = sorted(field.component for field in fields if field.component is not None)
        if len(self.motions) > 1 and components not in ([], [0, 1]):
            raise ValueError(f"got vectors with the components {components}; motions need one vector, or none")
        shifts = "translation" in symmetries
        self.axes = [axis for axis, kind in enumerate(grid.boundaries) if shifts and kind == "periodic"]

    def __call__(self, frames: Tensor) -> Tensor:
        """Move each sample of (batch, times, fields, num_x, num_y), all of its frames alike."""
        chosen = torch.randint(len(self.motions), (len(frames),)).tolist()
        result = list(frames.unbind(0))
        for number in set(chosen):
            members = [sample for sample, own in enumerate(chosen) if own == number]
            together = moved(torch.stack([result[one] for one in members]), self.motions[number], self.fields, self.at)
            for sample, one in zip(members, together, strict=True):
                result[sample] = one
        for sample, one in enumerate(result):
            shifts = [int(torch.randint(one.shape[axis - 2], ())) for axis in self.axes]
            if shifts:
                result[sample] = one.roll(shifts, [axis - 2 for axis in self.axes])
        return torch.stack(result)
