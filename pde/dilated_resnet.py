"""Dilated residual network: one resolution, and convolutions that see far."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import relu

from sciml.messages import check_positive
from sciml.pde.network import Network, in_full_precision
from sciml.pde.padding import PaddedConv, Walls, read_padding, read_walls


class DilatedResNet(Network):
    """u (batch, channels_in, num_x, num_y) → (batch, channels_out, num_x, num_y) by x ← x + D(x), a few times.

    D is a row of convolutions of 3 × 3 points that are 1, 2, 4, 8, 4, 2, 1 points apart, each after a norm and a
    rectifier. Two matrices of the channels lead in, and two out. The default has 4.17 million weights. The sums x stay
    in float32 under autocast.

    Args:
        channels_in: frames of the history times fields.
        channels_out: fields.
        width: channels.
        blocks: number of D.
        dilations: of the convolutions of D; an axis needs at least as many points as the largest.
        padding: "zeros", "circular", "mirror", or one for each axis.
        walls: accepted for the common interface; the first layer sees single points, and features are even.

    Raises:
        ValueError: for sizes that are not positive, or an unknown padding.

    Source: K. Stachenfeld et al., Learned Coarse Models for Efficient Turbulence Simulation, arXiv:2112.15275, with the
        norms of arXiv:2209.15616.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        width: int = 128,
        blocks: int = 4,
        dilations: Sequence[int] = (1, 2, 4, 8, 4, 2, 1),
        padding: str | Sequence[str] = "zeros",
        walls: Walls | None = None,
    ) -> None:
        super().__init__()
        sizes = {"channels_in": channels_in, "channels_out": channels_out, "width": width, "blocks": blocks}
        check_positive({**sizes, "the smallest of dilations": min(dilations, default=0)})
        axes = read_padding(padding)
        read_walls(walls, channels_in)
        self.config: dict[str, Any] = {
            **sizes,
            "dilations": list(dilations),
            "padding": list(axes),
            "walls": None if walls is None else [list(axis) for axis in walls],
        }
        self.lift = nn.Sequential(nn.Conv2d(channels_in, width, 1), nn.ReLU(), nn.Conv2d(width, width, 1))
        self.blocks = nn.ModuleList(
            nn.ModuleList(DilatedLayer(width, axes, dilation) for dilation in dilations) for _ in range(blocks)
        )
        self.project = nn.Sequential(nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, channels_out, 1))

    def check_grid(self, num_x: int, num_y: int) -> None:
        """Raise a ValueError if the widest convolution would see beyond the next image of the grid."""
        largest = max(self.config["dilations"])
        if min(num_x, num_y) < largest:
            raise ValueError(f"got a grid of {num_x} x {num_y} points; a dilation of {largest} needs as many")

    def forward(self, u: Tensor, parameters: Tensor | None = None) -> Tensor:
        """The next frame of (batch, channels_in, num_x, num_y).

        Raises:
            ValueError: if the channels are others, the grid is too small, or there are parameters.
        """
        self.check(u)
        if parameters is not None:
            raise ValueError("DilatedResNet is not conditioned on parameters; SineNet and ModernUNet can be")
        x = in_full_precision(self.lift, u)
        for block in self.blocks:
            h = x
            for layer in block:  # type: ignore[attr-defined]
                h = layer(h)
            x = x + h
        return in_full_precision(self.project, x)


class DilatedLayer(nn.Module):
    """Norm over channels and points, rectifier, convolution."""

    def __init__(self, width: int, padding: tuple[str, str], dilation: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.conv = PaddedConv(width, width, padding, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        """Transform (batch, width, num_x, num_y)."""
        return self.conv(relu(self.norm(x)))
