"""Representations of O(3) in float64, whatever torch's default dtype, and how well a product commutes with them."""

import copy

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
    """D(R) of some irreps for orthogonal matrices R, proper or improper: features transform as x → x D(R)ᵀ.

    Args:
        irreps: with their multiplicities; l ≤ 11. Features are in the layout mul_ir.
        matrix: (..., 3, 3), float64.

    Returns:
        (..., irreps.dim, irreps.dim), float64.
    """
    irreps = Irreps(irreps)
    matrices = matrix.reshape(-1, 3, 3)
    determinants = torch.linalg.det(matrices).sign()[:, None, None]
    blocks = {l: wigner_d(l, determinants * matrices) for l in {ir.l for _, ir in irreps}}
    whole = matrices.new_zeros(len(matrices), irreps.dim, irreps.dim)
    start = 0
    for mul, ir in irreps:
        for _ in range(mul):
            rows = slice(start, start + ir.dim)
            whole[:, rows, rows] = blocks[ir.l] if ir.p == 1 else determinants * blocks[ir.l]
            start += ir.dim
    return whole.reshape(*matrix.shape[:-2], irreps.dim, irreps.dim)


def equivariance_error(
    tp: TensorProduct, *, dtype: torch.dtype = torch.float64, seed: int = 0, samples: int = 256
) -> float:
    """Rms |T(Dx, Dy) - D T(x, y)| / rms |T(x, y)| for random rotations, every other one with inversion.

    The matrices D are exact to rounding and applied in float64, so that the error is that of the product alone.

    Args:
        tp: the product; a copy on the CPU is measured.
        dtype: which the product computes in.
        seed: of samples, weights and rotations.
        samples: number of x and y, each with its own rotation.
    """
    generator = torch.Generator().manual_seed(seed)
    tp = copy.deepcopy(tp).to("cpu", dtype)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x, y, weights = (
        normal(samples, tp.problem.irreps_in1.dim),
        normal(samples, tp.problem.irreps_in2.dim),
        normal(tp.weight_numel),
    )
    matrices = torch.linalg.qr(normal(samples, 3, 3)).Q  # of determinant one: LAPACK reflects twice
    signs = (1.0 - 2.0 * (torch.arange(samples) % 2))[:, None, None]  # every other one with inversion
    degrees = {ir.l for irreps in (tp.problem.irreps_in1, tp.problem.irreps_in2, tp.irreps_out) for _, ir in irreps}
    representations = {l: wigner_d(l, matrices) for l in degrees}

    def product(x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            return tp(x.to(dtype), y.to(dtype), weights.to(dtype)).double()

    def turned(features: Tensor, irreps: Irreps) -> Tensor:
        turned_blocks = []
        for (_, ir), block in zip(irreps, split_blocks(features, blocks_of(irreps), tp.layout), strict=True):
            rotated = torch.einsum("bij,bmj->bmi", representations[ir.l], block)
            turned_blocks.append(rotated if ir.p == 1 else signs * rotated)
        return join_blocks(turned_blocks, tp.layout)

    z = product(x, y)
    difference = product(turned(x, tp.problem.irreps_in1), turned(y, tp.problem.irreps_in2)) - turned(z, tp.irreps_out)
    return float(difference.norm() / z.norm())
