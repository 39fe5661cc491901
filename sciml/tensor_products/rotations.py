"""Representations of O(3) in float64, whatever torch's default dtype."""

import torch
from e3nn.o3 import Irreps, spherical_harmonics
from torch import Tensor

from sciml.tensor_products.sphere import sphere_grid


def representation(irreps: Irreps | str, matrix: Tensor) -> Tensor:
    """D(R) of some irreps for orthogonal matrices R, proper or improper: features transform as x → x D(R)ᵀ.

        D_l(R) = ∫ Y_l(R n) Y_l(n)ᵀ dΩ

    is exact on a grid, while e3nn's Euler angles are only as precise as torch's default dtype.

    Args:
        irreps: with their multiplicities; l ≤ 11.
        matrix: (..., 3, 3), float64.

    Returns:
        (..., irreps.dim, irreps.dim), float64.
    """
    irreps = Irreps(irreps)
    determinant = torch.linalg.det(matrix).sign()[..., None, None]
    rotation = matrix * determinant
    grid = sphere_grid(2 * irreps.lmax)
    rotated = grid.points @ rotation.transpose(-1, -2)  # (..., points, 3)
    by_degree = {}
    for l in {ir.l for _, ir in irreps}:
        values = spherical_harmonics(l, grid.points, normalize=False, normalization="integral") * grid.weights[:, None]
        moved = spherical_harmonics(l, rotated, normalize=False, normalization="integral")
        by_degree[l] = moved.transpose(-1, -2) @ values  # (..., 2l+1, 2l+1)
    result = matrix.new_zeros(*matrix.shape[:-2], irreps.dim, irreps.dim)
    start = 0
    for mul, ir in irreps:
        block = by_degree[ir.l] * (determinant if ir.p == -1 else 1)
        for _ in range(mul):
            result[..., start : start + ir.dim, start : start + ir.dim] = block
            start += ir.dim
    return result
