"""U-Net with residual blocks, a strong baseline at many weights."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from sciml.messages import check_positive
from sciml.pde.conditioning import conditioning_layers, parameter_embedding
from sciml.pde.network import Network, in_full_precision
from sciml.pde.padding import PaddedConv, PaddedTransposed, Walls, read_padding, read_walls


class ModernUNet(Network):
    """u (batch, channels_in, num_x, num_y) → (batch, channels_out, num_x, num_y) by a U-Net of residual blocks.

    Down: `blocks` residual blocks at each level, then a convolution with stride 2. Two blocks at the bottom. Up: at
    each level blocks + 1 residual blocks, each of which sees the result of one stage on the way down beside its input,
    then a transposed convolution. Last a norm, GELU and a convolution. The default is the published U-Net-mod-64 of 144
    million weights. Under autocast the first and the last convolution stay in float32.

    Args:
        channels_in: frames of the history times fields.
        channels_out: fields.
        width: channels at the full resolution.
        multipliers: growth of the channels at each level, over the level before.
        blocks: residual blocks of a level on the way down.
        padding: "zeros", "circular", "mirror", or one for each axis.
        walls: what each field is beyond walls, see `sciml.pde.SineNet`.
        num_parameters: numbers that the network is conditioned on.
        conditioning: how, "add" or "adagn".

    Raises:
        ValueError: for sizes that are not positive, an unknown padding, or conditioning on nothing.

    Source: J. Gupta and J. Brandstetter, Towards Multi-spatiotemporal-scale Generalized PDE Modeling,
        arXiv:2209.15616, app. C ("U-Net modern").
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        width: int = 64,
        multipliers: Sequence[int] = (1, 2, 2, 4),
        blocks: int = 2,
        padding: str | Sequence[str] = "zeros",
        walls: Walls | None = None,
        num_parameters: int = 0,
        conditioning: str | None = None,
    ) -> None:
        super().__init__()
        sizes = {"channels_in": channels_in, "channels_out": channels_out, "width": width, "blocks": blocks}
        check_positive({**sizes, "the smallest of multipliers": min(multipliers, default=0)})
        self.embedding = parameter_embedding(num_parameters, conditioning)
        axes = read_padding(padding)
        read_walls(walls, channels_in)
        self.config: dict[str, Any] = {
            **sizes,
            "multipliers": list(multipliers),
            "padding": list(axes),
            "walls": None if walls is None else [list(axis) for axis in walls],
            "num_parameters": num_parameters,
            "conditioning": conditioning,
        }
        self.divisor = 2 ** (len(multipliers) - 1)
        dim = None if self.embedding is None else self.embedding.dim

        def block(channels_in: int, channels_out: int) -> ResidualBlock:
            return ResidualBlock(channels_in, channels_out, axes, dim, conditioning)

        self.lift = PaddedConv(channels_in, width, axes, walls=walls)
        down: list[nn.Module] = []
        kept, here = [width], width
        for level, multiplier in enumerate(multipliers):
            for number in range(blocks):
                down.append(block(here, here * multiplier if number == 0 else here))
                here = here * multiplier if number == 0 else here
                kept.append(here)
            if level < len(multipliers) - 1:
                down.append(PaddedConv(here, here, axes, stride=2))
                kept.append(here)
        self.down = nn.ModuleList(down)
        self.middle = nn.ModuleList([block(here, here), block(here, here)])
        up: list[nn.Module] = []
        for level, multiplier in reversed(list(enumerate(multipliers))):
            for number in range(blocks + 1):
                below = here
                here = here // multiplier if number == blocks else here
                up.append(block(below + kept.pop(), here))
            if level > 0:
                up.append(PaddedTransposed(here, here, axes))
        self.up = nn.ModuleList(up)
        self.norm = nn.GroupNorm(1, width)
        self.project = PaddedConv(width, channels_out, axes)

    def forward(self, u: Tensor, parameters: Tensor | None = None) -> Tensor:
        """The next frame of (batch, channels_in, num_x, num_y), given (batch, num_parameters).

        Raises:
            ValueError: if the levels do not divide the grid, or the channels or parameters are others.
        """
        self.check(u)
        embedding = None if self.embedding is None else self.embedding(parameters)
        x = in_full_precision(self.lift, u)
        kept = [x]
        for layer in self.down:
            x = layer(x, embedding) if isinstance(layer, ResidualBlock) else layer(x)
            kept.append(x)
        for layer in self.middle:
            x = layer(x, embedding)
        for layer in self.up:
            if isinstance(layer, ResidualBlock):
                x = layer(torch.cat([x, kept.pop()], dim=1), embedding)
            else:
                x = layer(x)
        return in_full_precision(self.project, gelu(self.norm(x)))


class ResidualBlock(nn.Module):
    """C₂ σ(N₂ C₁ σ(N₁ x)) + W x, conditioned after N₂; W is 1 × 1, or nothing where the channels stay."""

    def __init__(
        self, channels_in: int, channels_out: int, padding: tuple[str, str], dim: int | None, conditioning: str | None
    ) -> None:
        super().__init__()
        self.first_norm, self.first = nn.GroupNorm(1, channels_in), PaddedConv(channels_in, channels_out, padding)
        self.second_norm, self.second = nn.GroupNorm(1, channels_out), PaddedConv(channels_out, channels_out, padding)
        self.skip = nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)
        (self.condition,) = conditioning_layers(dim, [channels_out], conditioning)

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """Transform (batch, channels_in, num_x, num_y)."""
        h = self.second_norm(self.first(gelu(self.first_norm(x))))
        if self.condition is not None and embedding is not None:
            h = self.condition(h, embedding)
        return self.second(gelu(h)) + self.skip(x)
