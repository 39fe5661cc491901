"""What every network of this package is: (batch, channels_in, num_x, num_y) → (batch, channels_out, num_x, num_y)."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn


class Network(nn.Module, ABC):
    """A network that maps the last frames to the next ones, in normalised units.

    Attributes:
        config: keyword arguments that build it again, JSON values; among them channels_in and channels_out.
        divisor: what both sizes of a grid have to be multiples of.
    """

    config: dict[str, Any]
    divisor: int = 1

    @abstractmethod
    def forward(self, u: Tensor, parameters: Tensor | None = None) -> Tensor:
        """The next frames of (batch, channels_in, num_x, num_y), given (batch, num_parameters) if it is conditioned."""

    def regions(self) -> list[nn.Module]:
        """Parts that are compiled one by one; by default none, and the whole network is compiled."""
        return []

    def check(self, u: Tensor) -> None:
        """Raise a ValueError if u has other channels, or a grid that the levels do not divide."""
        if u.dim() != 4 or u.shape[1] != self.config["channels_in"]:
            raise ValueError(
                f"got fields of shape {tuple(u.shape)}; expected (batch, {self.config['channels_in']}, num_x, num_y)"
            )
        self.check_grid(u.shape[2], u.shape[3])

    def check_grid(self, num_x: int, num_y: int) -> None:
        """Raise a ValueError if the levels do not divide the grid."""
        if num_x % self.divisor or num_y % self.divisor:
            raise ValueError(
                f"got a grid of {num_x} x {num_y} points; the levels of {type(self).__name__} need multiples of "
                f"{self.divisor}"
            )


def in_full_precision(layer: nn.Module, x: Tensor) -> Tensor:
    """`layer(x)` without autocast, in the precision of the layer's weights.

    The output of a network is rounded to bfloat16 otherwise, by 0.2 %, which is not little beside an error of 1 %.
    """
    if not torch.is_autocast_enabled(x.device.type):
        return layer(x)
    with torch.autocast(x.device.type, enabled=False):
        return layer(x.to(next(layer.parameters()).dtype))
