"""What convolutions and upsampling see beyond the ends of each axis."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, pad

from sciml.pde.stepper import Field

PADDINGS = ("zeros", "circular", "mirror")

WALL_RULES = ("even", "odd", "zero")
"""What a field is beyond a wall: its mirror image, that with the other sign, or nothing."""

# Cubic convolution with a = −3/4 a quarter of the way from the second to the third of four points.
_QUARTER = (-0.10546875, 0.87890625, 0.26171875, -0.03515625)

Walls = Sequence[Sequence[str]]


def read_padding(padding: str | Sequence[str]) -> tuple[str, str]:
    """One padding for each axis, of one for both or of one each.

    Raises:
        ValueError: for an unknown one, or another number of them.
    """
    both = (padding, padding) if isinstance(padding, str) else tuple(padding)
    if len(both) != 2 or any(one not in PADDINGS for one in both):
        raise ValueError(f"got padding={padding!r}; expected one of {', '.join(PADDINGS)}, or one for each of two axes")
    return both[0], both[1]


def wall_rules(fields: Sequence[Field], *, slip: bool = True) -> list[list[str]]:
    """Rule of each field at the walls of each axis: [axis][field], of `WALL_RULES`.

    Nothing goes through a wall, so that the velocity across it is odd; all else is even. Without slip, fluid sticks to
    walls and velocities beyond them are zero, as `sciml.pde.BuoyantSmoke` has it.
    """

    def rule(field: Field, axis: int) -> str:
        if field.component is None or (slip and field.component != axis):
            return "even"
        return "odd" if slip else "zero"

    return [[rule(field, axis) for field in fields] for axis in (0, 1)]


def read_walls(walls: Walls | None, channels: int) -> list[list[str]]:
    """Rules [axis][channel] of `channels` channels, which repeat those of the fields frame by frame.

    Raises:
        ValueError: for an unknown rule, or numbers of rules that do not divide the channels.
    """
    if walls is None:
        return [["even"] * channels for _ in (0, 1)]
    if (
        len(walls) != 2
        or any(rule not in WALL_RULES for axis in walls for rule in axis)
        or any(len(axis) == 0 or channels % len(axis) for axis in walls)
    ):
        raise ValueError(
            f"got walls={walls!r}; expected for each of two axes one of {', '.join(WALL_RULES)} for each field, "
            f"whose number divides the {channels} channels"
        )
    return [list(axis) * (channels // len(axis)) for axis in walls]


def padded(
    x: Tensor, width: int, padding: Sequence[str], *, zeros: str = "constant", signs: Tensor | None = None
) -> Tensor:
    """Add `width` points beyond all ends of (batch, channels, num_x, num_y).

    Args:
        x: fields.
        width: points.
        padding: of both axes: "circular" (the other end goes on), "zeros", or "mirror" (the wall is half a point
            outside, and beyond it is the mirror image).
        zeros: what "zeros" means: "constant" (zeros) or "replicate" (the last values go on).
        signs: (2, channels), factor of the mirror image across each axis: 1, −1 or 0; None for 1.
    """
    for axis, kind in enumerate(padding):
        dim = 2 + axis
        size = x.shape[dim]
        if kind == "mirror":
            lower, upper = x.narrow(dim, 0, min(width, size)), x.narrow(dim, max(size - width, 0), min(width, size))
            lower, upper = lower.flip(dim), upper.flip(dim)
            if signs is not None:
                factor = signs[axis].to(x.dtype)[:, None, None]
                lower, upper = factor * lower, factor * upper
            x = torch.cat([lower, x, upper], dim=dim)
            left = width - size
            if left > 0:  # the coarsest level can have a single point: its mirror images have images, at twice the way
                x = padded(x, left, ["mirror" if other == axis else "none" for other in (0, 1)], signs=signs)
        elif kind == "circular" and width > size:
            places = torch.arange(-width, size + width, device=x.device) % size
            x = x.index_select(dim, places)
        elif kind != "none":
            sizes = (0, 0, width, width) if axis == 0 else (width, width, 0, 0)
            x = pad(x, sizes, mode="circular" if kind == "circular" else zeros)
    return x


def signs_of(rules: Sequence[Sequence[str]]) -> Tensor:
    """Factors of mirror images by rule, (axes, channels)."""
    factors = {"even": 1.0, "odd": -1.0, "zero": 0.0}
    return torch.tensor([[factors[rule] for rule in axis] for axis in rules])


class PaddedConv(nn.Conv2d):
    """Convolution of 3 × 3 points with a padding for each axis; the result has as many points, or 1/stride of them.

    Args:
        channels_in: channels.
        channels_out: of the result.
        padding: of both axes, see `PADDINGS`.
        dilation: between the points that it sees.
        stride: between those of the result.
        walls: rules of the channels where the padding is "mirror", see `read_walls`; by default all are even.
    """

    signs: Tensor | None

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        padding: tuple[str, str],
        *,
        dilation: int = 1,
        stride: int = 1,
        walls: Walls | None = None,
    ) -> None:
        super().__init__(channels_in, channels_out, 3, stride=stride, dilation=dilation)
        self.of_axes, self.width = padding, dilation
        signs = None if walls is None or "mirror" not in padding else signs_of(read_walls(walls, channels_in))
        self.register_buffer("signs", signs, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (batch, channels_in, num_x, num_y)."""
        width = self.width
        if self.of_axes == ("zeros", "zeros"):
            return conv2d(x, self.weight, self.bias, self.stride, width, self.dilation)
        x = padded(x, width, self.of_axes, signs=self.signs)
        return conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation)


class PaddedTransposed(nn.ConvTranspose2d):
    """Transposed convolution of 4 × 4 points to twice as many points along both axes.

    Args:
        channels_in: channels.
        channels_out: of the result.
        padding: of both axes, see `PADDINGS`.
    """

    def __init__(self, channels_in: int, channels_out: int, padding: tuple[str, str]) -> None:
        super().__init__(channels_in, channels_out, 4, stride=2)
        self.of_axes = padding

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Transform (batch, channels_in, num_x, num_y)."""
        if self.of_axes == ("zeros", "zeros"):
            return conv_transpose2d(x, self.weight, self.bias, stride=2, padding=1)
        # A point more at each end gives two more of the result, which are cut off with the usual one.
        return conv_transpose2d(padded(x, 1, self.of_axes), self.weight, self.bias, stride=2, padding=3)


def upsampled(x: Tensor, padding: Sequence[str]) -> Tensor:
    """Twice as many points along both axes by bicubic interpolation, (batch, channels, 2 num_x, 2 num_y).

    What `torch.nn.functional.interpolate(scale_factor=2, mode="bicubic")` computes, as sums of four shifted fields,
    with a derivative that needs no atomic additions; along circular axes the interpolation goes around.

    Source: R. G. Keys, IEEE Trans. Acoust. Speech Signal Process. 29, 1153 (1981).
    """
    x = padded(x, 2, padding, zeros="replicate")
    for dim in (2, 3):
        size = x.shape[dim] - 4
        shifted = [x.narrow(dim, start, size) for start in range(5)]
        even = sum(weight * part for weight, part in zip(reversed(_QUARTER), shifted[:4], strict=True))
        odd = sum(weight * part for weight, part in zip(_QUARTER, shifted[1:], strict=True))
        x = torch.stack([even, odd], dim=dim + 1).flatten(dim, dim + 1)  # type: ignore[list-item]
    return x
