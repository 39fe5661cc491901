"""The Gaunt product by Fourier series on the torus and FFT."""

from torch import Tensor

from sciml.tensor_products.bilinear import PointwiseProduct
from sciml.tensor_products.gaunt import gaunt_coefficient, sphere_signals
from sciml.tensor_products.problem import TensorProductProblem
from sciml.tensor_products.torus import TorusTransform

path_weight = gaunt_coefficient


class GauntFourier(PointwiseProduct):
    """z^{l3} = P_{l3}[ f(n) g(n) ] with f and g as 2D Fourier series: a sum over all paths of even l1+l2+l3.

    Y_lm(θ, φ), continued to θ in [0, 2π), is Σ_{|u|≤l} y^{lm}_{u,±m} e^{i(uθ ± mφ)}. The series of the product is the
    convolution of the series: by FFT with 2(L1+L2)+1 frequencies in θ, and as many in φ as keep those up to L3 free of
    aliases, L1+L2+L3+1. Its projection on Y_lm integrates each frequency over the sphere analytically.

    Costs O(L³) for the series, O(L² log L) for the product, as the grid does but over twice the sphere: the grid is
    faster. Any order of derivative; float32 and float64; CPU and CUDA.

    Args:
        problem: what to compute.
        layout: see `TensorProduct`.
        implementation: see `TensorProduct`.

    Attributes:
        weight_numel: one weight per (block, channel) of x, see `PointwiseProduct`; paths have none of their own.

    Source: Luo et al., arXiv:2401.10216; first by Xin et al., ACM Trans. Graph. 40(6) (2021).
    """

    placement1: Tensor
    placement2: Tensor
    placement_out: Tensor

    def __init__(self, problem: TensorProductProblem, *, layout: str = "mul_ir", implementation: str = "auto") -> None:
        signals = sphere_signals(problem, gaunt_coefficient)
        super().__init__(
            problem, irreps_out=signals.irreps_out, weights_per_block=True, layout=layout, implementation=implementation
        )
        self.num_signals = signals.num
        l1, l2, l3 = signals.degrees
        size = (2 * (l1 + l2) + 1, l1 + l2 + l3 + 1)
        self.transform1, self.transform2, self.transform_out = (TorusTransform(l, size) for l in signals.degrees)
        for name in ("placement1", "placement2", "placement_out"):
            self.register_constant(name, getattr(signals, name))
        self.num_points = signals.num * size[0] * size[1]

    def to_points1(self, x: Tensor) -> Tensor:
        """Values of f on the torus."""
        return self.transform1.to_torus((x @ self.placement1).unflatten(-1, (self.num_signals, -1))).flatten(-2)

    def to_points2(self, y: Tensor) -> Tensor:
        """Values of g on the torus."""
        return self.transform2.to_torus((y @ self.placement2).unflatten(-1, (self.num_signals, -1))).flatten(-2)

    def back(self, values: Tensor) -> Tensor:
        """Projection of a function on the torus on the harmonics of z."""
        return (
            self.transform_out.from_torus(values.unflatten(-1, (self.num_signals, -1))).flatten(-2) @ self.placement_out
        )
