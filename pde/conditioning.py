"""How numbers that the fields do not show (a lead time, a buoyancy) reach the layers of a network."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from sciml.messages import check_positive

Kind = Literal["add", "adagn"]
KINDS = ("add", "adagn")

_FREQUENCIES = 32


def sinusoids(values: Tensor) -> Tensor:
    """cos(z ω_i), sin(z ω_i) with ω_i = 10000^(−i/32), i = 0 … 31: (batch,) → (batch, 64).

    Source: A. Vaswani et al., arXiv:1706.03762.
    """
    steps = torch.arange(_FREQUENCIES, device=values.device, dtype=values.dtype)
    angles = values[:, None] * 10000.0 ** (-steps / _FREQUENCIES)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class ParameterEmbedding(nn.Module):
    """Σ_p MLP_p(sinusoids(z_p)), (batch, parameters) → (batch, dim).

    A parameter that hardly varies hardly varies its sinusoids: standardise it before, and multiply by ten or so.

    Args:
        num_parameters: p.
        dim: of the embedding, and of the hidden layer of each MLP.

    Raises:
        ValueError: for sizes that are not positive.
    """

    def __init__(self, num_parameters: int, dim: int = 256) -> None:
        super().__init__()
        check_positive({"num_parameters": num_parameters, "dim": dim})
        self.dim = dim
        self.of_parameters = nn.ModuleList(
            nn.Sequential(nn.Linear(2 * _FREQUENCIES, dim), nn.GELU(), nn.Linear(dim, dim))
            for _ in range(num_parameters)
        )

    def forward(self, parameters: Tensor | None) -> Tensor:
        """Embed (batch, parameters).

        Raises:
            ValueError: if there are none, or another number of them.
        """
        expected = len(self.of_parameters)
        if parameters is None or parameters.dim() != 2 or parameters.shape[1] != expected:
            got = None if parameters is None else tuple(parameters.shape)
            raise ValueError(f"got parameters of shape {got}; the network is conditioned on (batch, {expected})")
        columns = zip(self.of_parameters, parameters.unbind(1), strict=True)
        return torch.stack([of_one(sinusoids(column)) for of_one, column in columns]).sum(0)


def parameter_embedding(num_parameters: int, conditioning: str | None) -> ParameterEmbedding | None:
    """What embeds the parameters of a network; None for a network without.

    Raises:
        ValueError: if there are parameters without a kind of conditioning, or the other way round.
    """
    if (num_parameters > 0) != (conditioning is not None):
        raise ValueError(
            f"got num_parameters={num_parameters} and conditioning={conditioning!r}; give both, or neither"
        )
    return ParameterEmbedding(num_parameters) if num_parameters else None


class Conditioned(nn.Module):
    """h ← h + L e ("add"), or h ← h (1 + a) + b with (a, b) = L e ("adagn"), e the embedding, for each channel.

    At the start L is zero, and the network that of no conditioning.

    Args:
        dim: of the embedding.
        channels: of the features.
        kind: "add" or "adagn".

    Raises:
        ValueError: for another kind.

    Source: J. Gupta and J. Brandstetter, arXiv:2209.15616, sec. 4.2; P. Dhariwal and A. Nichol, arXiv:2105.05233.
    """

    def __init__(self, dim: int, channels: int, kind: str) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"got the conditioning {kind!r}; available: {', '.join(KINDS)}")
        self.kind = kind
        self.linear = nn.Linear(dim, channels if kind == "add" else 2 * channels)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        """Transform (batch, channels, num_x, num_y) by (batch, dim)."""
        found = self.linear(embedding)[:, :, None, None]
        if self.kind == "add":
            return h + found
        scale, shift = found.chunk(2, dim=1)
        return h * (1 + scale) + shift


def conditioning_layers(dim: int | None, channels: Sequence[int], kind: str | None) -> list[Conditioned | None]:
    """One layer for each number of channels, or None for each without conditioning."""
    if dim is None or kind is None:
        return [None] * len(channels)
    return [Conditioned(dim, number, kind) for number in channels]
