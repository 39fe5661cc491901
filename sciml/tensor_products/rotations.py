"""Representations of O(3) in float64, whatever torch's default dtype, and how well a product commutes with them."""

import torch
from e3nn.o3 import Irreps, spherical_harmonics
from torch import Tensor

from sciml.tensor_products.channels import blocks_of, join_blocks, split_blocks
from sciml.tensor_products.interface import TensorProduct
from sciml.tensor_products.sphere import sphere_grid


def wigner_d(l: int, rotations: Tensor) -> Tensor:
    """D^l(R)_ij = ∫ Y_i(R n) Y_j(n) dΩ by exact quadrature, (rotations, 2l+1, 2l+1), float64.

    e3nn's `wigner_D` is a representation only to 1e-7 as long as torch's default dtype is float32.
    """
    grid = sphere_grid(2 * l)
    original = spherical_harmonics(l, grid.points, False, normalization="integral")
    turned = spherical_harmonics(l, grid.points @ rotations.transpose(1, 2), False, normalization="integral")
    return torch.einsum("g,rgi,gj->rij", grid.weights, turned, original)


def representation(irreps: Irreps | str, matrix: Tensor) -> Tensor:
    """D(R) of some irreps for an orthogonal matrix R, proper or improper: features transform as x → x D(R)ᵀ.

    Args:
        irreps: with their multiplicities; l ≤ 11. Features are in the layout mul_ir.
        matrix: (3, 3), float64.

    Returns:
        (irreps.dim, irreps.dim), float64.
    """
    determinant = torch.linalg.det(matrix).sign()
    blocks = []
    for mul, ir in Irreps(irreps):
        block = wigner_d(ir.l, (determinant * matrix)[None])[0]
        blocks += [block if ir.p == 1 else determinant * block] * mul
    return torch.block_diag(*blocks)


def equivariance_error(
    tp: TensorProduct, *, dtype: torch.dtype = torch.float64, seed: int = 0, samples: int = 256
) -> float:
    """Rms |T(Dx, Dy) - D T(x, y)| / rms |T(x, y)| for random orthogonal matrices, with and without inversion.

    The matrices D are exact to rounding and applied in float64, so that the error is that of the product alone.

    Args:
        tp: the product; converted to `dtype` and left as it was found.
        dtype: which the product computes in.
        seed: of samples, weights and rotations.
        samples: number of x and y, each with its own rotation.
    """
    generator = torch.Generator().manual_seed(seed)
    previous = next(tp.buffers()).dtype
    tp.to(dtype)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x, y, weights = (
        normal(samples, tp.problem.irreps_in1.dim),
        normal(samples, tp.problem.irreps_in2.dim),
        normal(tp.weight_numel),
    )
    rotations = torch.linalg.qr(normal(samples, 3, 3)).Q  # half of them with inversion, more or less

    def product(x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            return tp(x.to(dtype), y.to(dtype), weights.to(dtype)).double()

    def turned(features: Tensor, irreps: Irreps) -> Tensor:
        signs = torch.linalg.det(rotations).sign()[:, None, None]
        turned_blocks = []
        for (_, ir), block in zip(irreps, split_blocks(features, blocks_of(irreps), tp.layout), strict=True):
            matrices = wigner_d(ir.l, signs * rotations) * (1 if ir.p == 1 else signs)
            turned_blocks.append(torch.einsum("bij,bmj->bmi", matrices, block))
        return join_blocks(turned_blocks, tp.layout)

    z = product(x, y)
    difference = product(turned(x, tp.problem.irreps_in1), turned(y, tp.problem.irreps_in2)) - turned(z, tp.irreps_out)
    tp.to(previous)
    return float(difference.norm() / z.norm())
