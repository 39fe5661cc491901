"""Floating-point operations of the tensor products, by the way they are computed."""

import math

from sciml.tensor_products.bilinear import PointwiseProduct
from sciml.tensor_products.clebsch_gordan import ClebschGordan
from sciml.tensor_products.couplings import path_tensor
from sciml.tensor_products.gaunt_fourier import GauntFourier
from sciml.tensor_products.interface import TensorProduct


def flops(tp: TensorProduct) -> dict[str, int]:
    """Floating-point operations per sample of the forward product with weights, by the way it is computed.

    With d1, d2, d3 components of one channel, U, V, W channels of x, y and z, (n1, n2, n12, n3) channels of x and of y
    that are brought to the R points, are multiplied there, and are brought back, which are

        "uuu":  (C, C, C, C), C = min(U, V)      "uvu":  (U V, V, U V, U)      "uvw":  (V W, V, V W, W),

    and P pairs of channels that a path multiplies (as in `TensorProductProblem.num_elements` for each channel of z):

        clebsch_gordan   channelwise   2 d1 d2 K + 2 d1 K U + K U,  K = Σ_p (2 l3 + 1)
                         dense         Σ_pairs of blocks P (2 l1 + 1)(2 l2 + 1)(1 + 2 Σ_p (2 l3 + 1)) + weights
                         sparse        3 P non-zeros of C^p, summed over p, + weights
                         weights       Σ_p (2 l3 + 1)·(P in "uuu", 2 P in "uvu", 2 P W in "uvw")
        bilinear         2 R (d1 n1 + d2 n2 + d3 n3) + R n12 + weights; sums over y's channels count as R n12 more
        Fourier          the same with 4 (L+1)² N_θ + 5/2 N log2 N (a real FFT), N = N_θ N_φ, instead of 2 R d for each
                         signal, and 2 d (L+1)² that place the components of irreps into it

    Raises:
        ValueError: for a product of another kind.
    """
    if isinstance(tp, ClebschGordan):
        return _flops_clebsch_gordan(tp)
    if isinstance(tp, PointwiseProduct):
        name = "fourier" if isinstance(tp, GauntFourier) else "bilinear"
        return {name: _flops_pointwise(tp)}
    raise ValueError(f"got a {type(tp).__name__}; its operations are not known here")


def _flops_clebsch_gordan(tp: ClebschGordan) -> dict[str, int]:
    problem = tp.problem
    blocks1, blocks2 = problem.irreps_in1, problem.irreps_in2
    dense = sparse = weights = 0
    pairs: dict[tuple[int, int], int] = {}
    for path in tp.paths:
        mul1, mul2, dim = blocks1[path.block1].mul, blocks2[path.block2].mul, path.irrep_out.dim
        met = min(mul1, mul2) if problem.mode == "uuu" else mul1 * mul2
        per_element = {"uuu": 1, "uvu": 2, "uvw": 2 * problem.channels_out(path)}[problem.mode]
        weights += dim * met * per_element
        sparse += 3 * met * int((path_tensor(problem, path).abs() > 1e-12).sum())
        products = met * blocks1[path.block1].ir.dim * blocks2[path.block2].ir.dim
        dense += 2 * products * dim
        pairs[path.block1, path.block2] = products
    found = {"dense": dense + sum(pairs.values()) + weights, "sparse": sparse + weights}
    if tp.way == "channelwise":
        rows, dim1 = sum(path.irrep_out.dim for path in tp.paths), blocks1.dim // tp.channels
        found["channelwise"] = rows * (2 * dim1 * blocks2.dim + 2 * dim1 * tp.channels + tp.channels)
    return found


def _flops_pointwise(tp: PointwiseProduct) -> int:
    mode, points = tp.problem.mode, tp.num_points
    in1, in2, out = tp.num_channels1, tp.arrays2.num_channels, tp.num_channels_out
    d1, d2, d3 = (arrays.num_components for arrays in (tp.arrays1, tp.arrays2, tp.arrays_out))
    n1, n2, n3 = {"uuu": (in1, in1, in1), "uvu": (in1 * in2, in2, in1), "uvw": (in2 * out, in2, out)}[mode]
    weights = {"uuu": d1 * in1, "uvu": d1 * in1 * in2, "uvw": 2 * d1 * in1 * in2 * out}[mode]
    multiply = points * n1 * (1 if in2 == 1 or mode == "uuu" else 2)
    if not isinstance(tp, GauntFourier):
        return 2 * points * (d1 * n1 + d2 * n2 + d3 * n3) + multiply + weights
    moved = 0.0
    for dim, number, transform in (
        (d1, n1, tp.transform1),
        (d2, n2, tp.transform2),
        (d3, n3, tp.transform_out),
    ):
        degrees, (polar, azimuthal) = (transform.lmax + 1) ** 2, transform.size
        fft = 2.5 * polar * azimuthal * math.log2(polar * azimuthal)
        moved += number * tp.num_signals * (2 * dim * degrees + 4 * degrees * polar + fft)
    return round(moved) + multiply + weights
