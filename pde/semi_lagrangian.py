"""Looking up fields between grid points."""

import torch
from torch import Tensor


def look_up(values: Tensor, x: Tensor, y: Tensor, *, outside: str) -> Tensor:
    """Bilinear interpolation of `values` (batch, n_x, n_y) at places (batch, ...) in units of its indices.

    No value beyond those of the four neighbours comes out.

    Args:
        values: at whole indices.
        x: along the first axis.
        y: along the second axis.
        outside: "edge" (beyond the array values are those of its edge) or "zero".
    """
    num_x, num_y = values.shape[1:]
    if outside == "zero":  # a ring of zeros, whose edge goes on
        values = torch.nn.functional.pad(values, (1, 1, 1, 1))
        num_x, num_y, x, y = num_x + 2, num_y + 2, x + 1, y + 1
    x, y = x.clamp(0, num_x - 1), y.clamp(0, num_y - 1)
    i, j = x.floor().clamp_max(num_x - 2), y.floor().clamp_max(num_y - 2)
    f, g = x - i, y - j
    # A place that is no number gives a value that is none, and must not be an index that a GPU stumbles over.
    index = (i * num_y + j).long().clamp(0, (num_x - 1) * num_y - 2).flatten(1)
    flat = values.flatten(1)
    corners = [flat.gather(1, index + shift).view(x.shape) for shift in (0, 1, num_y, num_y + 1)]
    return (1 - f) * ((1 - g) * corners[0] + g * corners[1]) + f * ((1 - g) * corners[2] + g * corners[3])
