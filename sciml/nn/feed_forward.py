"""Feed-forward networks of features, and read-outs from every depth of a network."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciml.nn.activations import GELU, RMSNorm


class FeedForward(nn.Sequential):
    """W₂ GELU(W₁ x + b₁) + b₂, biases zero at the start.

    Args:
        channels: of x and the result.
        hidden_channels: in between.
    """

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__(nn.Linear(channels, hidden_channels), GELU(), nn.Linear(hidden_channels, channels))
        without_biases(self)


class Readout(nn.Module):
    """GELU( W [r_0, r_1, …] ),  r_n = x_n + FeedForward_n( RMSNorm( x_n ) ), of features x_n of every depth n.

    Args:
        channels: of all x_n and of the result.
        depth: how many.
    """

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(
            nn.Sequential(RMSNorm(channels), FeedForward(channels, 2 * channels)) for _ in range(depth)
        )
        self.join = without_biases(nn.Sequential(nn.Linear(depth * channels, channels), GELU()))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """(..., channels) from as many of this shape as the read-out is deep."""
        return self.join(torch.cat([x + part(x) for x, part in zip(features, self.parts, strict=True)], dim=-1))


def without_biases(module: nn.Module) -> nn.Module:
    """Set the biases of all linear layers to zero; returns the module."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return module
