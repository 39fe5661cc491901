"""What convolutions and upsampling see beyond the ends of each axis."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

PADDINGS = ("zeros", "circular")

# Cubic convolution with a = −3/4 a quarter of the way from the second to the third of four points.
_QUARTER = (-0.10546875, 0.87890625, 0.26171875, -0.03515625)


def read_padding(padding: str | Sequence[str]) -> tuple[str, str]:
    """One padding for each axis, of one for both or of one each.

    Raises:
        ValueError: for an unknown one, or another number of them.
    """
    both = (padding, padding) if isinstance(padding, str) else tuple(padding)
    if len(both) != 2 or any(one not in PADDINGS for one in both):
        raise ValueError(f"got padding={padding!r}; expected one of {', '.join(PADDINGS)}, or one for each of two axes")
    return both[0], both[1]


def padded(x: Tensor, width: int, padding: Sequence[str], *, walls: str = "constant") -> Tensor:
    """Add `width` points beyond all ends of (batch, channels, num_x, num_y).

    Args:
        x: fields.
        width: points.
        padding: of both axes: "circular", or "zeros".
        walls: what "zeros" means: "constant" (zeros) or "replicate" (the last values go on).
    """
    for axis, kind in enumerate(padding):
        sizes = (0, 0, width, width) if axis == 0 else (width, width, 0, 0)
        x = pad(x, sizes, mode="circular" if kind == "circular" else walls)
    return x


class PaddedConv(nn.Conv2d):
    """Convolution of 3 × 3 points whose result has as many points, with a padding for each axis.

    Args:
        channels_in: channels.
        channels_out: of the result.
        padding: of both axes, see `PADDINGS`.
    """

    def __init__(self, channels_in: int, channels_out: int, padding: tuple[str, str]) -> None:
        plain = padding == ("zeros", "zeros")
        super().__init__(channels_in, channels_out, 3, padding=1 if plain else 0)
        self.of_axes = padding

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (batch, channels_in, num_x, num_y)."""
        if self.of_axes == ("zeros", "zeros"):
            return super().forward(x)
        return super().forward(padded(x, 1, self.of_axes))


def upsampled(x: Tensor, padding: Sequence[str]) -> Tensor:
    """Twice as many points along both axes by bicubic interpolation, (batch, channels, 2 num_x, 2 num_y).

    What `torch.nn.functional.interpolate(scale_factor=2, mode="bicubic")` computes, as sums of four shifted fields,
    with a derivative that needs no atomic additions; along circular axes the interpolation goes around.

    Source: R. G. Keys, IEEE Trans. Acoust. Speech Signal Process. 29, 1153 (1981).
    """
    x = padded(x, 2, padding, walls="replicate")
    for dim in (2, 3):
        size = x.shape[dim] - 4
        shifted = [x.narrow(dim, start, size) for start in range(5)]
        even = sum(weight * part for weight, part in zip(reversed(_QUARTER), shifted[:4], strict=True))
        odd = sum(weight * part for weight, part in zip(_QUARTER, shifted[1:], strict=True))
        x = torch.stack([even, odd], dim=dim + 1).flatten(dim, dim + 1)  # type: ignore[list-item]
    return x
