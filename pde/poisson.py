"""Exact solution of the discrete Poisson equation in a closed box by cosine transforms."""

import math
from functools import lru_cache

import torch
from torch import Tensor

from sciml.pde.grid import Grid


@lru_cache(maxsize=16)
def _cosines(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Orthonormal matrix C_kj = √(2/n) cos(π k (j + ½) / n), its first row divided by √2: the DCT-II, (size, size)."""
    k, j = torch.arange(size, dtype=torch.float64)[:, None], torch.arange(size, dtype=torch.float64)[None, :]
    matrix = torch.cos(math.pi * k * (j + 0.5) / size) * (2 / size) ** 0.5
    matrix[0] /= 2**0.5
    return matrix.to(device, dtype)


@lru_cache(maxsize=16)
def _eigenvalues(grid: Grid, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Of the negative Laplacian of five points with closed ends, in the basis of the cosines; infinite for the mean."""
    parts = [
        (2 - 2 * torch.cos(math.pi * torch.arange(size, dtype=torch.float64) / size)) / spacing**2
        for size, spacing in zip(grid.shape, grid.spacings, strict=True)
    ]
    values = parts[0][:, None] + parts[1][None, :]
    values[0, 0] = math.inf
    return values.to(device, dtype)


def solve_closed(source: Tensor, grid: Grid) -> Tensor:
    """Pressure p with ∇²p = source at the centres of cells and no slope through any wall; the mean of p is zero.

    ∇² is the Laplacian of five points, whose eigenvectors with these ends are cosines: the solution is exact. The mean
    of the source is left out, since nothing solves it. Matrix products transform the cosines, at 8 n³ operations on a
    square of n² points, for which a GPU has no better use at the sizes of such data.

    Args:
        source: (..., num_x, num_y).
        grid: closed along both axes.

    Source: G. Strang, The Discrete Cosine Transform, SIAM Rev. 41, 135 (1999).
    """
    x, y = (_cosines(size, source.dtype, source.device) for size in grid.shape)
    coefficients = x @ source @ y.T
    return x.T @ (-coefficients / _eigenvalues(grid, source.dtype, source.device)) @ y
