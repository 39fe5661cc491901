"""Means, deviations and changes from frame to frame of the channels of a set of fields."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from sciml.pde.metrics import scaled_l2

# Means of u, u², Δu, Δu² over times and points, and over times of the error of repeating the last frame.
MOMENTS = ("value", "square", "change", "square_of_change", "persistence")


@dataclass(frozen=True)
class FieldStatistics:
    """Of each channel, over all trajectories, frames and points of a training split, in its unit.

    Attributes:
        mean: of the values.
        std: standard deviation of the values.
        mean_delta: of the changes from one frame to the next.
        std_delta: standard deviation of these changes.
        persistence: `sciml.pde.metrics.scaled_l2` of predicting the last frame again, one step ahead, from every
            frame that ends a history.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    mean_delta: tuple[float, ...]
    std_delta: tuple[float, ...]
    persistence: tuple[float, ...]

    @property
    def mean_persistence(self) -> float:
        """Mean of `persistence` over the channels, as SineNet's errors are meant (arXiv:2403.19507)."""
        return float(np.mean(self.persistence))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Sequence[float]]) -> "FieldStatistics":
        """Of arrays by the names of the attributes, each (channels,)."""
        return cls(**{field.name: tuple(float(value) for value in arrays[field.name]) for field in fields(cls)})

    @classmethod
    def from_moments(cls, moments: np.ndarray) -> "FieldStatistics":
        """Of what `trajectory_moments` returns, (trajectories, 5, channels)."""
        value, square, change, square_of_change, persistence = moments.mean(axis=0)
        return cls.from_arrays(
            {
                "mean": value,
                "std": np.sqrt((square - value**2).clip(0)),
                "mean_delta": change,
                "std_delta": np.sqrt((square_of_change - change**2).clip(0)),
                "persistence": persistence,
            }
        )


def trajectory_moments(frames: Tensor, *, history: int = 1) -> np.ndarray:
    """The means `MOMENTS` of each trajectory in float64, computed where the frames are, (trajectories, 5, channels).

    Args:
        frames: (trajectories, frames, channels, num_x, num_y), more than `history` of them.
        history: frames that a surrogate is given, so that it predicts none of the first ones.
    """
    result = []
    for trajectory in frames:  # one after the other, so that the means know nothing of the batch
        u = trajectory.double()
        change = u[1:] - u[:-1]
        parts = [part.mean(dim=(0, 2, 3)) for part in (u, u.square(), change, change.square())]
        result.append(torch.stack([*parts, scaled_l2(u[history - 1 : -1], u[history:]).mean(dim=0)]))
    return torch.stack(result).cpu().numpy()
