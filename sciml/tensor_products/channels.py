"""Between the layouts of features and (batch, channels, components), also where multiplicities differ."""

from collections.abc import Sequence

import torch
from e3nn.o3 import Irreps
from torch import Tensor

Blocks = tuple[tuple[int, int], ...]
"""(mul, 2l+1) of each block: plain numbers, because `torch.compile` cannot trace irreps."""


def blocks_of(irreps: Irreps) -> Blocks:
    """Sizes of the blocks."""
    return tuple((mul, ir.dim) for mul, ir in irreps)


def split_blocks(features: Tensor, sizes: Blocks, layout: str) -> list[Tensor]:
    """(batch, irreps.dim) → (batch, mul, 2l+1) for each block."""
    blocks = []
    for (mul, dim), block in zip(sizes, features.split([mul * dim for mul, dim in sizes], 1), strict=True):
        ir_mul = layout == "ir_mul"
        block = block.unflatten(1, (dim, mul) if ir_mul else (mul, dim))
        blocks.append(block.transpose(1, 2) if ir_mul else block)
    return blocks


def join_blocks(blocks: Sequence[Tensor], layout: str) -> Tensor:
    """The inverse of `split_blocks`."""
    flat = [(block.transpose(1, 2) if layout == "ir_mul" else block).flatten(1) for block in blocks]
    return torch.cat(flat, dim=1) if len(flat) > 1 else flat[0]


class ChannelArrays:
    """Features of some irreps as one array (batch, channels, components), zero where a block has fewer channels.

    Args:
        irreps: the blocks.
        layout: of the features: "mul_ir" (components contiguous) or "ir_mul" (channels contiguous).

    Attributes:
        num_channels: the largest multiplicity.
        num_components: Σ (2l+1) over the blocks.
    """

    def __init__(self, irreps: Irreps, layout: str) -> None:
        self.sizes = blocks_of(irreps)
        self.layout = layout
        self.num_channels = max(mul for mul, _ in irreps)
        self.num_components = sum(ir.dim for _, ir in irreps)
        # Components of equal multiplicity whose channels are contiguous are one array already.
        self.strided = layout == "ir_mul" and all(mul == self.num_channels for mul, _ in irreps)

    def pack(self, features: Tensor, *, components_first: bool = False) -> Tensor:
        """(batch, irreps.dim) → (batch, channels, components); in memory in this order, or with components first."""
        if self.strided:
            return features.unflatten(1, (self.num_components, self.num_channels)).transpose(1, 2)
        if self.num_channels == 1:
            return features.unsqueeze(1)
        blocks = [
            torch.nn.functional.pad(block, (0, 0, 0, self.num_channels - block.shape[1]))
            if block.shape[1] < self.num_channels
            else block
            for block in split_blocks(features, self.sizes, self.layout)
        ]
        if components_first:
            return torch.cat([block.permute(2, 0, 1) for block in blocks]).permute(1, 2, 0)
        return torch.cat(blocks, dim=2) if len(blocks) > 1 else blocks[0]

    def unpack(self, array: Tensor) -> Tensor:
        """The inverse of `pack`; channels that a block does not have are dropped."""
        if self.strided:
            return array.transpose(1, 2).flatten(1)
        blocks = array.split([dim for _, dim in self.sizes], 2)
        narrowed = [block[:, :mul] for (mul, _), block in zip(self.sizes, blocks, strict=True)]
        return join_blocks(narrowed, self.layout)
