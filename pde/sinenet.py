"""SineNet: a row of U-shaped networks, each of which carries the fields through a part of the time step.

Zhang et al., SineNet: Learning Temporal Dynamics in Time-Dependent Partial Differential Equations, ICLR 2024,
arXiv:2403.19507. A skip connection of a U-Net meets features that have moved on since; the shorter the part of the time
step that a U stands for, the less they are out of place. What differs from the published network: a padding for each
axis, and any number of waves.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from sciml.messages import check_positive, did_you_mean
from sciml.pde.padding import PaddedConv, read_padding, upsampled

LEVELS = 4

MULTIPLIERS = {1: 2.0, 2: 1.8075, 4: 1.611, 6: 1.5, 8: 1.425, 10: 1.366, 12: 1.318, 16: 1.2435}
"""Growth of the channels from level to level, by number of waves, for about 35.5 million weights at a width of 64.

Up to 8 waves they are those of the published code; those beyond are solved for the same number of weights."""

# Channels in and out: history of frames times fields, and fields.
_EQUATIONS = {"ins": (4 * 3, 3), "cns": (10 * 4, 4), "swe": (2 * 3, 3)}

# SineNet-8 with channels that tensor cores take whole.
_ALIGNED = (64, 88, 128, 184, 264)


class SineNet(nn.Module):
    """u (batch, channels_in, num_x, num_y) → (batch, channels_out, num_x, num_y): the next frame of the last ones.

        x = P u,        x ← x + V_k(x)  for each wave k,        Q x

    P and Q are convolutions of 3 × 3 points, V_k is a `Wave`.

    Args:
        channels_in: frames of the history times fields.
        channels_out: fields.
        num_waves: number of waves.
        widths: channels at each level, from the full resolution to a sixteenth; by default 64 times powers of the
            multiplier of `MULTIPLIERS`, cut to whole numbers.
        padding: "zeros", "circular", or one for each axis.
        parallel: whether each level sees a pooled copy of the input of its wave; without it skip connections have to do
            two things at once (the paper's ablation "tangled").

    Raises:
        ValueError: for sizes that are not positive, widths for another number of levels, no widths for a number of
            waves that has no multiplier, or an unknown padding.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        num_waves: int = 8,
        widths: Sequence[int] | None = None,
        padding: str | Sequence[str] = "zeros",
        parallel: bool = True,
    ) -> None:
        super().__init__()
        check_positive({"channels_in": channels_in, "channels_out": channels_out, "num_waves": num_waves})
        if widths is None:
            if num_waves not in MULTIPLIERS:
                known = ", ".join(map(str, MULTIPLIERS))
                raise ValueError(
                    f"got num_waves={num_waves}; there are widths for {known}: give widths for another number"
                )
            widths = [int(64 * MULTIPLIERS[num_waves] ** level) for level in range(LEVELS + 1)]
        if len(widths) != LEVELS + 1 or min(widths) < 1:
            raise ValueError(f"got widths={list(widths)}; expected {LEVELS + 1} positive numbers")
        self.of_axes = read_padding(padding)
        self.config: dict[str, Any] = {
            "channels_in": channels_in,
            "channels_out": channels_out,
            "num_waves": num_waves,
            "widths": list(widths),
            "padding": list(self.of_axes),
            "parallel": parallel,
        }
        self.lift = PaddedConv(channels_in, widths[0], self.of_axes)
        self.waves = nn.ModuleList(Wave(widths, self.of_axes, parallel=parallel) for _ in range(num_waves))
        self.project = PaddedConv(widths[0], channels_out, self.of_axes)

    @classmethod
    def from_preset(cls, name: str, **options: Any) -> "SineNet":
        """A published size, such as "sinenet8-ins": sinenetK or sinenet8-aligned, and ins, cns or swe.

        Exact numbers of weights of sinenet8: 35,490,219 (ins), 35,506,924 (cns), 35,486,763 (swe). Compressible flow
        and shallow water have circular padding.

        Raises:
            ValueError: for an unknown name.
        """
        size, _, equation = name.rpartition("-")
        sizes = {f"sinenet{waves}": {"num_waves": waves} for waves in MULTIPLIERS}
        sizes["sinenet8-aligned"] = {"num_waves": 8, "widths": _ALIGNED}  # type: ignore[dict-item]
        if size not in sizes or equation not in _EQUATIONS:
            names = [f"{size}-{equation}" for size in sizes for equation in _EQUATIONS]
            hint = did_you_mean(name, names) or ";"
            raise ValueError(f"got the preset {name!r}{hint} available: {', '.join(names)}")
        channels_in, channels_out = _EQUATIONS[equation]
        padding = "zeros" if equation == "ins" else "circular"
        return cls(channels_in, channels_out, **{**sizes[size], "padding": padding, **options})

    def forward(self, u: Tensor) -> Tensor:
        """The next frame of (batch, channels_in, num_x, num_y).

        Raises:
            ValueError: if the levels do not divide the grid, or the channels are others.
        """
        if u.dim() != 4 or u.shape[1] != self.config["channels_in"]:
            raise ValueError(
                f"got fields of shape {tuple(u.shape)}; expected (batch, {self.config['channels_in']}, num_x, num_y)"
            )
        if any(size % 2**LEVELS for size in u.shape[2:]):
            raise ValueError(
                f"got a grid of {u.shape[2]} x {u.shape[3]} points; {LEVELS} levels need multiples of {2**LEVELS}"
            )
        x = self.lift(u)
        for wave in self.waves:
            x = x + wave(x)
        return self.project(x)


class Wave(nn.Module):
    """One U: down by pooling, up by bicubic interpolation, every level in a `ConvBlock` with a residual of its own.

        e_l = B_l[ A e_{l−1} , d_l ] + W_l A e_{l−1},    d_l = A d_{l−1},    e_0 = d_0 = x
        g_{l−1} = B'_l[ e_{l−1} , U g_l ] + W'_l U g_l,    g_4 = e_4,    V(x) = g_0

    with A the mean of 2 × 2 points, U the interpolation, W matrices of the channels. d, the pooled input, is left out
    at the first level, where it would be A e_0 again, and without `parallel`.

    Args:
        widths: channels at each level.
        padding: of both axes.
        parallel: whether there is d.
    """

    def __init__(self, widths: Sequence[int], padding: tuple[str, str], *, parallel: bool) -> None:
        super().__init__()
        self.of_axes, self.parallel = padding, parallel
        down, down_skips, up, up_skips = [], [], [], []
        for level in range(1, LEVELS + 1):
            above, here = widths[level - 1], widths[level]
            beside = widths[0] if parallel and level > 1 else 0
            down.append(ConvBlock(above + beside, here, padding))
            down_skips.append(nn.Conv2d(above, here, 1))
            up.append(ConvBlock(above + here, above, padding))
            up_skips.append(nn.Conv2d(here, above, 1))
        self.down, self.down_skips = nn.ModuleList(down), nn.ModuleList(down_skips)
        self.up, self.up_skips = nn.ModuleList(up), nn.ModuleList(up_skips)

    def forward(self, x: Tensor) -> Tensor:
        """Transform (batch, widths[0], num_x, num_y)."""
        encoded, pooled = [x], x
        for level, (block, skip) in enumerate(zip(self.down, self.down_skips, strict=True), start=1):
            below = avg_pool2d(encoded[-1], 2)
            pooled = avg_pool2d(pooled, 2)
            seen = torch.cat([below, pooled], dim=1) if self.parallel and level > 1 else below
            encoded.append(block(seen) + skip(below))
        x = encoded.pop()
        for block, skip in zip(reversed(self.up), reversed(self.up_skips), strict=True):
            x = upsampled(x, self.of_axes)
            x = block(torch.cat([encoded.pop(), x], dim=1)) + skip(x)
        return x


class ConvBlock(nn.Sequential):
    """Twice: convolution, norm over channels and points, GELU."""

    def __init__(self, channels_in: int, channels_out: int, padding: tuple[str, str]) -> None:
        super().__init__(
            PaddedConv(channels_in, channels_out, padding),
            nn.GroupNorm(1, channels_out),
            nn.GELU(),
            PaddedConv(channels_out, channels_out, padding),
            nn.GroupNorm(1, channels_out),
            nn.GELU(),
        )
