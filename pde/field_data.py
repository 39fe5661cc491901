"""Trajectories to learn from, and windows of consecutive frames of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from sciml.messages import check_positive
from sciml.pde.grid import Grid
from sciml.pde.stepper import Field
from sciml.pde.surrogate import Normalisation


class FieldData(Protocol):
    """What a reader of trajectories offers.

    Attributes:
        frames: (trajectories, frames, fields, num_x, num_y), float32, on the CPU, in physical units.
        fields: what the channels are.
        grid: where the fields live.
        at: where in a cell, see `sciml.pde.Stepper`.
        frame_time: time between frames.
        parameters: (trajectories, parameters), float32.
        parameter_names: of the columns.
        symmetries: of the equation, see `sciml.pde.augmentation.motions`; None if they are not known.
        units: of length and time.
        origins: where each trajectory comes from, for messages.
    """

    frames: Tensor
    fields: Sequence[Field]
    grid: Grid
    at: str
    frame_time: float
    parameters: Tensor
    parameter_names: Sequence[str]
    symmetries: frozenset[str] | None
    units: dict[str, str]
    origins: Sequence[str]


@dataclass
class Trajectories:
    """`FieldData` in memory; see there. A solver's frames become one by `Trajectories.of`.

    Raises:
        ValueError: if shapes do not fit each other, or a frame has values that are no numbers.
    """

    frames: Tensor
    fields: Sequence[Field]
    grid: Grid
    frame_time: float
    at: str = "centers"
    parameters: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    parameter_names: Sequence[str] = ()
    symmetries: frozenset[str] | None = None
    units: dict[str, str] = field(default_factory=dict)
    origins: Sequence[str] = ()

    def __post_init__(self) -> None:
        shape = tuple(self.frames.shape)
        if len(shape) != 5 or shape[2:] != (len(self.fields), *self.grid.shape) or 0 in shape:
            names = ", ".join(one.name for one in self.fields)
            raise ValueError(
                f"got frames of shape {shape}; expected (trajectories, frames, {len(self.fields)}, "
                f"{', '.join(map(str, self.grid.shape))}) with the fields {names}"
            )
        if not self.parameter_names and self.parameters.numel() == 0:
            self.parameters = torch.zeros(shape[0], 0)
        if tuple(self.parameters.shape) != (shape[0], len(self.parameter_names)):
            raise ValueError(
                f"got parameters of shape {tuple(self.parameters.shape)} for {shape[0]} trajectories and the names "
                f"{list(self.parameter_names)}"
            )
        self.origins = self.origins or [f"trajectory {number}" for number in range(shape[0])]
        check_positive({"frame_time": self.frame_time})
        self.frames = self.frames.float()
        # A trajectory at a time: a mask of all of them can be gigabytes.
        for origin, frames in zip(self.origins, self.frames, strict=True):
            if not bool(torch.isfinite(frames.sum())):
                finite = torch.isfinite(frames)
                if not bool(finite.all()):
                    frame, channel = (int(index) for index in (~finite).nonzero()[0][:2])
                    raise ValueError(
                        f"{origin}: frame {frame}, field {self.fields[channel].name} has values that are no numbers; "
                        "leave the trajectory out, or generate it again"
                    )

    def part(self, start: int, stop: int) -> "Trajectories":
        """The trajectories from `start` to before `stop`; frames are not copied."""
        chosen = slice(start, stop)
        return replace(
            self,
            frames=self.frames[chosen],
            parameters=self.parameters[chosen],
            origins=list(self.origins)[chosen],
        )

    def with_parameters(self, names: Sequence[str]) -> "Trajectories":
        """The same with these parameters only, in this order.

        Raises:
            ValueError: if there is no such parameter.
        """
        missing = [name for name in names if name not in self.parameter_names]
        if missing:
            known = ", ".join(self.parameter_names) or "none"
            raise ValueError(f"the data do not have the parameters {', '.join(missing)}; they have {known}")
        columns = [list(self.parameter_names).index(name) for name in names]
        return replace(self, parameters=self.parameters[:, columns], parameter_names=list(names))

    @property
    def varying_parameters(self) -> list[str]:
        """Names of the parameters that are not the same for all trajectories."""
        return [
            name
            for name, column in zip(self.parameter_names, self.parameters.unbind(1), strict=True)
            if bool((column != column[0]).any())
        ]


def field_normalisation(data: FieldData) -> dict[str, Normalisation]:
    """Mean and standard deviation of each field, and of its change from frame to frame, in float64.

    Raises:
        ValueError: if a field is the same everywhere.
    """
    frames = data.frames
    count = frames[:, :, 0].numel()
    mean = _by_trajectory(frames, lambda one: one).sum(0) / count  # (fields,)
    square = _by_trajectory(frames, lambda one: (one - mean[:, None, None]).square()).sum(0) / count
    changes = _by_trajectory(frames, lambda one: one.diff(dim=0).square()).sum(0) / max(frames[:, 1:, 0].numel(), 1)
    found = {}
    for number, one in enumerate(data.fields):
        std, delta_std = float(square[number].sqrt()), float(changes[number].sqrt())
        if not (std > 0 and delta_std > 0):
            what = "in all places" if std == 0 else "in all frames"
            raise ValueError(f"the field {one.name} is the same {what} of the training data; there is nothing to learn")
        found[one.name] = Normalisation(float(mean[number]), std, delta_std)
    return found


def parameter_normalisation(data: FieldData) -> dict[str, Normalisation]:
    """Mean and standard deviation of each parameter over trajectories.

    Raises:
        ValueError: if a parameter is the same for all.
    """
    values = data.parameters.double()
    return {
        name: Normalisation(float(column.mean()), float(column.std(correction=0)))
        for name, column in zip(data.parameter_names, values.unbind(1), strict=True)
    }


def _by_trajectory(frames: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Sum of a function over all but the fields, (trajectories, fields), float64."""
    return torch.stack([function(one.double()).sum(dim=(0, 2, 3)) for one in frames])


class Batch(NamedTuple):
    """Windows of frames.

    Attributes:
        frames: (batch, times, fields, num_x, num_y), physical units.
        parameters: (batch, parameters), or None.
    """

    frames: Tensor
    parameters: Tensor | None

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        parameters = None if self.parameters is None else self.parameters.to(device, non_blocking=True)
        return Batch(self.frames.to(device, non_blocking=True), parameters)


class Windows:
    """All windows of consecutive frames, for `sciml.training.loading.Loader`.

    Args:
        data: trajectories.
        length: frames of a window.
        stride: frames between the starts of windows.
        device: where the frames are kept; on that of the training, batches are gathered there.

    Attributes:
        items: trajectory and first frame of each window.

    Raises:
        ValueError: if the trajectories are shorter than a window.
    """

    def __init__(self, data: FieldData, length: int, *, stride: int = 1, device: torch.device | None = None) -> None:
        check_positive({"length": length, "stride": stride})
        trajectories, times = data.frames.shape[:2]
        if times < length:
            raise ValueError(
                f"got trajectories of {times} frames; history and predicted frames need {length}: give a shorter "
                "history, fewer unrolled steps, or longer trajectories"
            )
        self.length, self.origins = length, data.origins
        self.frames = data.frames if device is None else data.frames.to(device)
        self.parameters = data.parameters.to(self.frames.device)
        self.items = [(one, start) for one in range(trajectories) for start in range(0, times - length + 1, stride)]
        self.offsets = torch.arange(length, device=self.frames.device)

    def collate(self, items: Sequence[tuple[int, int]]) -> Batch:
        """The windows of some items."""
        index = torch.tensor(items, device=self.frames.device)
        frames = self.frames[index[:, :1], index[:, 1:] + self.offsets]
        return Batch(frames, self.parameters[index[:, 0]] if self.parameters.shape[1] else None)

    def describe(self, number: int) -> str:
        """Where a window comes from."""
        trajectory, start = self.items[number]
        return f"{self.origins[trajectory]}, frames {start} to {start + self.length - 1}"
