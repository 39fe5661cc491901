"""Norms of equivariant features whose denominators stay away from zero."""

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from sciml.nn.constants import ConstantsModule
from sciml.nn.linear import rows_of_blocks


class IrrepScale(nn.Module):
    """x^b → s_b ⊙ x^b for each irrep b, with a learned scale s_b per channel.

    Args:
        irreps: blocks b, one channel each.
        channels: number of channels.
        initial_scale: value of all s_b at the start.
    """

    block_of_row: Tensor

    def __init__(self, irreps: Irreps | str, channels: int, *, initial_scale: float) -> None:
        super().__init__()
        irreps = Irreps(irreps)
        self.scale = nn.Parameter(torch.full((len(irreps), channels), initial_scale))
        self.register_buffer("block_of_row", rows_of_blocks(irreps), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Scale (nodes, components, channels)."""
        return x * self.scale.index_select(0, self.block_of_row)


class BoundedNorm(ConstantsModule):
    """x^b → s_b ⊙ x^b / √(1 + mean_{m c} |x^b|²) for each irrep b, with a learned scale s_b per channel.

    A plain RMS norm divides a feature that fades at the cutoff by its own size, which turns the smooth end of a radial
    function into a step; with 1 under the root the map is analytic and the slope at most one.

    Args:
        irreps: blocks b, one channel each.
        channels: number of channels.
        initial_scale: value of all s_b at the start; zero makes a residual branch start as the identity.
    """

    block_of_row: Tensor
    average: Tensor

    def __init__(self, irreps: Irreps | str, channels: int, *, initial_scale: float = 1.0) -> None:
        super().__init__()
        irreps = Irreps(irreps)
        self.scale = nn.Parameter(torch.full((len(irreps), channels), initial_scale))
        block_of_row = rows_of_blocks(irreps)
        average = nn.functional.one_hot(block_of_row, len(irreps)).double()
        self.register_buffer("block_of_row", block_of_row, persistent=False)
        self.register_constant("average", average / average.sum(dim=0))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (nodes, components, channels)."""
        mean_square = x.square().mean(dim=2) @ self.average  # (nodes, blocks)
        factor = (1 + mean_square).rsqrt()[:, :, None] * self.scale  # (nodes, blocks, channels)
        return x * factor.index_select(1, self.block_of_row)
