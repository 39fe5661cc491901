"""SineNet: a row of U-shaped networks, each of which carries the fields through a part of the time step.

Zhang et al., SineNet: Learning Temporal Dynamics in Time-Dependent Partial Differential Equations, ICLR 2024,
arXiv:2403.19507. A skip connection of a U-Net meets features that have moved on since; the shorter the part of the time
step that a U stands for, the less they are out of place. What differs from the published network: a padding for each
axis and field, any number of waves, and conditioning that starts from none.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, gelu

from sciml.messages import check_positive, did_you_mean
from sciml.pde.conditioning import conditioning_layers, parameter_embedding
from sciml.pde.network import Network, in_full_precision
from sciml.pde.padding import PaddedConv, Walls, read_padding, read_walls, upsampled

LEVELS = 4

MULTIPLIERS = {1: 2.0, 2: 1.8075, 4: 1.611, 6: 1.5, 8: 1.425, 10: 1.366, 12: 1.318, 16: 1.2435}
"""Growth of the channels from level to level, by number of waves, for about 35.5 million weights at a width of 64.

Up to 8 waves they are those of the published code; those beyond are solved for the same number of weights."""

# Channels in and out: history of frames times fields, and fields.
_EQUATIONS = {"ins": (4 * 3, 3), "cns": (10 * 4, 4), "swe": (2 * 3, 3)}

_SIZES: dict[str, dict[str, Any]] = {
    **{f"sinenet{waves}": {"num_waves": waves} for waves in MULTIPLIERS},
    # SineNet-8 with channels that tensor cores take whole.
    "sinenet8-aligned": {"num_waves": 8, "widths": (64, 88, 128, 184, 264)},
    # Ablations of the paper: skip connections with two tasks at once, and one deep U instead of eight.
    "sinenet8-tangled": {"num_waves": 8, "parallel": False},
    "unet8-deep": {"num_waves": 1, "widths": (64, 91, 129, 185, 263), "blocks": 8},
}


class SineNet(Network):
    """u (batch, channels_in, num_x, num_y) → (batch, channels_out, num_x, num_y): the next frame of the last ones.

        x = P u,        x ← x + V_k(x)  for each wave k,        Q x

    P and Q are convolutions of 3 × 3 points, V_k is a `Wave`. Under autocast, P, Q and the sums x stay in float32.

    Args:
        channels_in: frames of the history times fields.
        channels_out: fields.
        num_waves: number of waves.
        widths: channels at each level, from the full resolution to a sixteenth; by default 64 times powers of the
            multiplier of `MULTIPLIERS`, cut to whole numbers.
        padding: "zeros", "circular", "mirror" (walls), or one for each axis.
        walls: what each field is beyond walls, [axis][field], where the padding is "mirror" (see
            `sciml.pde.padding.wall_rules`); features inside the network are even.
        parallel: whether each level sees a pooled copy of the input of its wave; without it skip connections have to do
            two things at once (the paper's ablation "tangled").
        residual: whether waves add to their input; without it x ← V_k(x).
        blocks: number of `ConvBlock`s in each stage of a wave (the paper's ablation "deeper U-Net" has one wave of 8).
        num_parameters: numbers that the network is conditioned on.
        conditioning: how, "add" or "adagn" (`sciml.pde.conditioning`); None with `num_parameters` 0 only.

    Raises:
        ValueError: for sizes that are not positive, widths for another number of levels, no widths for a number of
            waves that has no multiplier, an unknown padding, or conditioning on nothing.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        num_waves: int = 8,
        widths: Sequence[int] | None = None,
        padding: str | Sequence[str] = "zeros",
        walls: Walls | None = None,
        parallel: bool = True,
        residual: bool = True,
        blocks: int = 1,
        num_parameters: int = 0,
        conditioning: str | None = None,
    ) -> None:
        super().__init__()
        sizes = {"channels_in": channels_in, "channels_out": channels_out, "num_waves": num_waves, "blocks": blocks}
        check_positive(sizes)
        if widths is None:
            if num_waves not in MULTIPLIERS:
                known = ", ".join(map(str, MULTIPLIERS))
                raise ValueError(
                    f"got num_waves={num_waves}; there are widths for {known}: give widths for another number"
                )
            widths = [int(64 * MULTIPLIERS[num_waves] ** level) for level in range(LEVELS + 1)]
        if len(widths) != LEVELS + 1 or min(widths) < 1:
            raise ValueError(f"got widths={list(widths)}; expected {LEVELS + 1} positive numbers")
        self.embedding = parameter_embedding(num_parameters, conditioning)
        axes = read_padding(padding)
        read_walls(walls, channels_in)
        self.config: dict[str, Any] = {
            **sizes,
            "widths": list(widths),
            "padding": list(axes),
            "walls": None if walls is None else [list(axis) for axis in walls],
            "parallel": parallel,
            "residual": residual,
            "num_parameters": num_parameters,
            "conditioning": conditioning,
        }
        self.divisor = 2**LEVELS
        dim = None if self.embedding is None else self.embedding.dim
        self.lift = PaddedConv(channels_in, widths[0], axes, walls=walls)
        self.waves = nn.ModuleList(
            Wave(widths, axes, parallel=parallel, blocks=blocks, dim=dim, conditioning=conditioning)
            for _ in range(num_waves)
        )
        self.project = PaddedConv(widths[0], channels_out, axes)

    @classmethod
    def from_preset(cls, name: str, **options: Any) -> "SineNet":
        """A published size, such as "sinenet8-ins": a size of the paper, and ins, cns or swe.

        Sizes are sinenetK of K waves, sinenet8-aligned, and the ablations sinenet8-tangled and unet8-deep. Exact
        numbers of weights of sinenet8: 35,490,219 (ins), 35,506,924 (cns), 35,486,763 (swe). Compressible flow and
        shallow water have circular padding.

        Raises:
            ValueError: for an unknown name.
        """
        size, _, equation = name.rpartition("-")
        if size not in _SIZES or equation not in _EQUATIONS:
            names = [f"{size}-{equation}" for size in _SIZES for equation in _EQUATIONS]
            hint = did_you_mean(name, names) or ";"
            raise ValueError(f"got the preset {name!r}{hint} available: {', '.join(names)}")
        channels_in, channels_out = _EQUATIONS[equation]
        padding = "zeros" if equation == "ins" else "circular"
        return cls(channels_in, channels_out, **{**_SIZES[size], "padding": padding, **options})

    def regions(self) -> list[nn.Module]:
        """The waves, all alike, so that compiling them takes the time of one."""
        return list(self.waves)

    def forward(self, u: Tensor, parameters: Tensor | None = None) -> Tensor:
        """The next frame of (batch, channels_in, num_x, num_y), given (batch, num_parameters).

        Raises:
            ValueError: if the levels do not divide the grid, or the channels or parameters are others.
        """
        self.check(u)
        embedding = None if self.embedding is None else self.embedding(parameters)
        x = in_full_precision(self.lift, u)
        for wave in self.waves:
            change = wave(x, embedding)
            x = x + change if self.config["residual"] else change
        return in_full_precision(self.project, x)


class Wave(nn.Module):
    """One U: down by pooling, up by bicubic interpolation, every level in a `ConvBlock` with a residual of its own.

        e_l = B_l[ A e_{l−1} , d_l ] + W_l A e_{l−1},    d_l = A d_{l−1},    e_0 = d_0 = x
        g_{l−1} = B'_l[ e_{l−1} , U g_l ] + W'_l U g_l,    g_4 = e_4,    V(x) = g_0

    with A the mean of 2 × 2 points, U the interpolation, W matrices of the channels. d, the pooled input, is left out
    at the first level, where it would be A e_0 again, and without `parallel`. With more than one block in a stage,
    each of the others is s ← s + B s.

    Args:
        widths: channels at each level.
        padding: of both axes.
        parallel: whether there is d.
        blocks: in each stage.
        dim: of the embedding of parameters; None for none.
        conditioning: how blocks take it.
    """

    def __init__(
        self,
        widths: Sequence[int],
        padding: tuple[str, str],
        *,
        parallel: bool,
        blocks: int = 1,
        dim: int | None = None,
        conditioning: str | None = None,
    ) -> None:
        super().__init__()
        self.of_axes, self.parallel = padding, parallel
        down, up = [], []
        for level in range(1, LEVELS + 1):
            above, here = widths[level - 1], widths[level]
            beside = widths[0] if parallel and level > 1 else 0
            options = {"blocks": blocks, "dim": dim, "conditioning": conditioning}
            down.append(Stage(above, beside, here, padding, **options))  # type: ignore[arg-type]
            up.append(Stage(here, above, above, padding, **options))  # type: ignore[arg-type]
        self.down, self.up = nn.ModuleList(down), nn.ModuleList(up)

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """Transform (batch, widths[0], num_x, num_y)."""
        encoded, pooled = [x], x
        for level, stage in enumerate(self.down, start=1):
            below = avg_pool2d(encoded[-1], 2)
            pooled = avg_pool2d(pooled, 2)
            seen = torch.cat([below, pooled], dim=1) if self.parallel and level > 1 else below
            encoded.append(stage(seen, below, embedding))
        x = encoded.pop()
        for stage in reversed(self.up):
            x = upsampled(x, self.of_axes)
            x = stage(torch.cat([encoded.pop(), x], dim=1), x, embedding)
        return x


class Stage(nn.Module):
    """B[s, t] + W s, and with more than one block s ← s + B s for each of the others.

    Args:
        channels_in: of s.
        beside: of t.
        channels_out: of the result.
        padding: of both axes.
        blocks: number of blocks.
        dim: of the embedding of parameters; None for none.
        conditioning: how blocks take it.
    """

    def __init__(
        self,
        channels_in: int,
        beside: int,
        channels_out: int,
        padding: tuple[str, str],
        *,
        blocks: int,
        dim: int | None,
        conditioning: str | None,
    ) -> None:
        super().__init__()
        seen = [channels_in + beside] + [channels_out] * (blocks - 1)
        self.blocks = nn.ModuleList(ConvBlock(number, channels_out, padding, dim, conditioning) for number in seen)
        self.skip = nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, seen: Tensor, carried: Tensor, embedding: Tensor | None) -> Tensor:
        """Transform [s, t] (batch, channels_in + beside, num_x, num_y), s being among them."""
        first, *others = self.blocks
        x = first(seen, embedding) + self.skip(carried)
        for block in others:
            x = x + block(x, embedding)
        return x


class ConvBlock(nn.Module):
    """Twice: convolution, norm over channels and points, GELU; conditioned between the two."""

    def __init__(
        self, channels_in: int, channels_out: int, padding: tuple[str, str], dim: int | None, conditioning: str | None
    ) -> None:
        super().__init__()
        self.first = PaddedConv(channels_in, channels_out, padding)
        self.first_norm = nn.GroupNorm(1, channels_out)
        self.second = PaddedConv(channels_out, channels_out, padding)
        self.second_norm = nn.GroupNorm(1, channels_out)
        (self.condition,) = conditioning_layers(dim, [channels_out], conditioning)

    def forward(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        """Transform (batch, channels_in, num_x, num_y)."""
        x = gelu(self.first_norm(self.first(x)))
        if self.condition is not None and embedding is not None:
            x = self.condition(x, embedding)
        return gelu(self.second_norm(self.second(x)))
