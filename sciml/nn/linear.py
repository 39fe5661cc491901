"""Equivariant linear maps of features (nodes, components, channels)."""

import torch
from e3nn.o3 import Irrep, Irreps
from torch import Tensor, nn


def rows_of_blocks(irreps: Irreps) -> Tensor:
    """Block of each component of `irreps` (one channel each): 0e+1o → [0, 1, 1, 1]."""
    return torch.tensor([block for block, (_, ir) in enumerate(irreps) for _ in range(ir.dim)])


class EquivariantLinear(nn.Module):
    """z_{(b m) d} = Σ_c x_{(b m) c} W^b_{cd}: one matrix per irrep b, the same for all its components m.

    Args:
        irreps: the blocks b, one channel each ("0e+1o+2e"); a feature has their components times C channels.
        channels_in: C.
        channels_out: number of output channels.
    """

    block_of_row: Tensor

    def __init__(self, irreps: Irreps | str, channels_in: int, channels_out: int) -> None:
        super().__init__()
        irreps = Irreps(irreps)
        self.weight = nn.Parameter(torch.randn(len(irreps), channels_in, channels_out) / channels_in**0.5)
        self.register_buffer("block_of_row", rows_of_blocks(irreps), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (nodes, components, channels_in) to (nodes, components, channels_out)."""
        weight = self.weight.index_select(0, self.block_of_row)  # (components, channels_in, channels_out)
        return torch.bmm(x.transpose(0, 1), weight).transpose(0, 1)


class PathLinear(nn.Module):
    """Mix the channels of all paths p that lead to one irrep: z^l_{m d} = Σ_{p→l} Σ_c x^p_{m c} W^p_{cd}.

    Args:
        irreps_paths: one block per path, equal irreps side by side, as `tensor_product(...).irreps_out` gives them.
        irreps_out: order of the irreps in the result, one channel each.
        channels_out: number of output channels.
    """

    def __init__(self, irreps_paths: Irreps, irreps_out: Irreps, channels_out: int) -> None:
        super().__init__()
        channels = irreps_paths[0].mul
        starts: dict[Irrep, int] = {}
        num_paths = dict.fromkeys((ir for _, ir in irreps_paths), 0)
        start = 0
        for _, ir in irreps_paths:
            starts.setdefault(ir, start)
            num_paths[ir] += 1
            start += ir.dim
        self.blocks = [(starts[ir], num_paths[ir], ir.dim) for _, ir in irreps_out]
        self.weights = nn.ParameterList(
            torch.randn(n * channels, channels_out) / (n * channels) ** 0.5 for _, n, _ in self.blocks
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (nodes, components of all paths, channels) to (nodes, components of irreps_out, channels_out)."""
        mixed = []
        for (start, n, dim), weight in zip(self.blocks, self.weights, strict=True):
            block = x[:, start : start + n * dim].unflatten(1, (n, dim))  # (nodes, paths, 2l+1, channels)
            mixed.append(block.transpose(1, 2).flatten(2) @ weight)  # (nodes, 2l+1, channels_out)
        return torch.cat(mixed, dim=1)
