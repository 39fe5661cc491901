"""Attention of all points to all points, with rotary embeddings of their coordinates in space."""

import math

import torch
from torch import Tensor, nn

from sciml.nn.constants import ConstantsModule
from sciml.nn.feed_forward import FeedForward


class RotaryAngles(ConstantsModule):
    """Angles ω_k x, ω_k y, ω_k z, with ω_k = 2π/λ_k and wavelengths λ_k in a geometric series.

    Args:
        number: of wavelengths.
        shortest: λ of the last, Å.
        longest: λ of the first, Å.
    """

    frequencies: Tensor

    def __init__(self, number: int, *, shortest: float, longest: float) -> None:
        super().__init__()
        exponents = torch.linspace(0, 1, number, dtype=torch.float64) if number > 1 else torch.ones(1).double()
        wavelengths = longest * (shortest / longest) ** exponents
        # In float64: positions have that precision, and an angle that is rounded after it grew is rounded coarsely.
        self.register_constant("frequencies", 2 * math.pi / wavelengths, keep_float64=True)

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines, (..., 3 · number) each, float64, of positions (..., 3), Å, float64."""
        angles = (positions[..., :, None] * self.frequencies).flatten(-2)
        return angles.cos(), angles.sin()


def turn_pairs(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turn the pairs (x_k, x_{k + n/2}) of n channels by n/2 angles; -sines turns them back.

    Args:
        x: (..., n).
        cosines: of the angles, (..., n/2).
        sines: likewise.
    """
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cosines - b * sines, a * sines + b * cosines], dim=-1)


class RotaryAttention(nn.Module):
    """Attention in which every quantity is seen from the point that looks:

        α_ij = softmax_j( q_i · R(r_j − r_i) k_j / √n ),        o_i = Σ_j α_ij R(r_j − r_i) v_j

    with R(r) = R(−r)ᵀ, which turns pairs of channels by the angles of `RotaryAngles`. It is applied as R(r_j − r_i) =
    R(r_i)ᵀ R(r_j), to points instead of pairs (RoFormer, arXiv:2104.09864; of values too: GTA, arXiv:2310.10375). Hence
    only differences of positions matter.

    Plain matrix products, not torch's fused attention, which cannot be differentiated twice: forces in a loss are.
    Memory: systems · heads · width² numbers for each layer.

    Args:
        channels: of the points.
        num_heads: they share the channels.
        rotate_values: whether o_i is as above, or Σ_j α_ij v_j.
    """

    def __init__(self, channels: int, num_heads: int, *, rotate_values: bool) -> None:
        super().__init__()
        self.num_heads, self.rotate_values = num_heads, rotate_values
        self.query_key_value = nn.Linear(channels, 3 * channels, bias=False)
        self.output = nn.Linear(channels, channels, bias=False)

    def forward(self, x: Tensor, cosines: Tensor, sines: Tensor, occupied: Tensor) -> Tensor:
        """Of points (systems, width, channels), of which only the `occupied` (systems, width) are seen.

        Args:
            x: the points.
            cosines: (systems, 1, width, channels / num_heads / 2).
            sines: likewise.
            occupied: (systems, width).
        """
        parts = self.query_key_value(x).unflatten(2, (3, self.num_heads, -1))
        q, k, v = parts.permute(2, 0, 3, 1, 4)  # (systems, heads, width, n) each
        q, k = turn_pairs(q, cosines, sines), turn_pairs(k, cosines, sines)
        logits = q @ k.transpose(2, 3) * q.shape[3] ** -0.5  # (systems, heads, width, width)
        # Not minus infinity, which makes a system without atoms (padding of a batch) NaN, and its zero gradient too.
        logits = logits.masked_fill(~occupied[:, None, None, :], torch.finfo(logits.dtype).min)
        if self.rotate_values:
            v = turn_pairs(v, cosines, sines)
        seen = logits.softmax(dim=3) @ v
        if self.rotate_values:
            seen = turn_pairs(seen, cosines, -sines)
        return self.output(seen.transpose(1, 2).flatten(2))


class RotaryBlock(nn.Module):
    """x ← x + Attention(RMSNorm(x));  x ← x + FeedForward(RMSNorm(x)).

    Args:
        channels: of x.
        num_heads: of the attention.
        rotate_values: see `RotaryAttention`.
        expansion: hidden channels of the feed-forward network, in units of the channels.
    """

    def __init__(self, channels: int, num_heads: int, *, rotate_values: bool, expansion: int = 4) -> None:
        super().__init__()
        self.norm_attention = nn.RMSNorm(channels)
        self.attention = RotaryAttention(channels, num_heads, rotate_values=rotate_values)
        self.norm_feed_forward = nn.RMSNorm(channels)
        self.feed_forward = FeedForward(channels, expansion * channels)

    def forward(self, x: Tensor, cosines: Tensor, sines: Tensor, occupied: Tensor) -> Tensor:
        """Update (systems, width, channels); the arguments are those of `RotaryAttention`."""
        x = x + self.attention(self.norm_attention(x), cosines, sines, occupied)
        return x + self.feed_forward(self.norm_feed_forward(x))
