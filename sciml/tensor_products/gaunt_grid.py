"""The Gaunt product on a grid: functions on the sphere, multiplied point by point."""

from functools import partial

import torch
from torch import Tensor

from sciml.nn.constants import ConstantsModule
from sciml.tensor_products.bilinear import Bilinear, OrbitFactors
from sciml.tensor_products.gaunt import SphereSignals, gaunt_coefficient, sphere_signals
from sciml.tensor_products.problem import TensorProductProblem
from sciml.tensor_products.sphere import SphereGrid, reflected_grid, sphere_grid, trigonometric

path_weight = gaunt_coefficient

TRANSFORMS = ("auto", "dense", "separable")

# L1+L2+L3 from which "auto" transforms in two steps. With L = L1 = L2 = L3 in float32, the dense transform takes 0.64,
# 0.95, 0.81 and 1.53 of the time of the separable one at L = 4, 8, 12 and 16 on two CPU cores (batch 256, 16 channels),
# and 0.31 and 0.41 at L = 4 and 8 on an H100 (batch 4,096, 64 channels).
_SEPARABLE_FROM = 42


class GauntGrid(Bilinear):
    """z^{l3} = P_{l3}[ f(n) g(n) ],  f = Σ x_lm Y_lm,  g = Σ y_lm Y_lm: a sum over all paths of even l1+l2+l3.

    The integrand has degree S = L1+L2+L3, for which ⌊S/2⌋+1 heights and S+1 azimuths are exact: the grid is an exact CP
    decomposition of the Gaunt tensor, of rank (⌊S/2⌋+1)(S+1), or twice that if x or y has irreps of both p(-1)^l.

    Two ways to the points and back: "dense", one matrix of harmonics, O(L⁴); or "separable", Legendre functions to the
    heights and trigonometric ones to the azimuths, O(L³), which moves more memory for its fewer operations. Kernels,
    for problems that "auto" transforms by one matrix, do the two steps in registers, on a grid that three reflections
    map to itself.

    Args:
        problem: what to compute.
        layout: see `TensorProduct`.
        implementation: see `TensorProduct`.
        transform: one of these, or "auto" by size.

    Attributes:
        weight_numel: one weight per (block, channel) of x, see `PointwiseProduct`; paths have none of their own.

    Raises:
        ValueError: for an unknown transform.

    Source: Luo et al., arXiv:2401.10216; on a grid, Xie et al., The Price of Freedom, arXiv:2506.13523.
    """

    def __init__(
        self,
        problem: TensorProductProblem,
        *,
        layout: str = "mul_ir",
        implementation: str = "auto",
        transform: str = "auto",
    ) -> None:
        if transform not in TRANSFORMS:
            raise ValueError(f"got the transform {transform!r}; available: {', '.join(TRANSFORMS)}")
        signals = sphere_signals(problem, gaunt_coefficient)
        degree = sum(signals.degrees)
        grid = sphere_grid(degree)
        if transform == "auto":
            transform = "separable" if degree >= _SEPARABLE_FROM else "dense"
        orbits = None
        if transform == "dense":
            values1, values2, values_out = (grid.harmonics(l) for l in signals.degrees)
            factors = signals.factors(values1, values2, values_out * grid.weights[:, None])
            orbits = partial(self._orbits, signals, degree)
        else:  # the factors only place components among the coefficients of the signals
            factors = (signals.placement1, signals.placement2, signals.placement_out)
        super().__init__(
            problem,
            factors,
            orbits,
            irreps_out=signals.irreps_out,
            weights_per_block=True,
            layout=layout,
            implementation=implementation,
        )
        self.transform = transform
        self.num_signals = signals.num
        self.num_points = signals.num * len(grid.weights)
        if transform == "separable":
            self.sphere1, self.sphere2, self.sphere_out = (SeparableTransform(l, grid) for l in signals.degrees)

    @staticmethod
    def _orbits(signals: SphereSignals, degree: int) -> OrbitFactors:
        grid, places = reflected_grid(degree)
        places = places.flatten()
        values1, values2, values_out = (grid.harmonics(l)[places] for l in signals.degrees)
        factors = signals.factors(values1, values2, values_out * grid.weights[places, None])
        return OrbitFactors(factors, num_terms=1, orbit_size=8 * signals.num, num_planes=len(grid.heights) // 2)

    def to_points1(self, x: Tensor) -> Tensor:
        """Values of f."""
        values = super().to_points1(x)
        return values if self.transform == "dense" else self._spread(self.sphere1, values)

    def to_points2(self, y: Tensor) -> Tensor:
        """Values of g."""
        values = super().to_points2(y)
        return values if self.transform == "dense" else self._spread(self.sphere2, values)

    def back(self, values: Tensor) -> Tensor:
        """Projection of a function on the harmonics of z."""
        if self.transform == "separable":
            values = self.sphere_out.from_points(values.unflatten(-1, (self.num_signals, -1))).flatten(-2)
        return super().back(values)

    def _spread(self, sphere: "SeparableTransform", coefficients: Tensor) -> Tensor:
        return sphere.to_points(coefficients.unflatten(-1, (self.num_signals, -1))).flatten(-2)


class SeparableTransform(ConstantsModule):
    """F(β, α) = Σ_m [ Σ_l x_lm P̄_l^|m|(cos β) ] t_m(α) at the points of a grid, and the projection back.

    Args:
        lmax: largest degree.
        grid: heights and azimuths, whose weights `from_points` includes.
    """

    legendre: Tensor
    azimuthal: Tensor
    legendre_weighted: Tensor
    index: Tensor
    places: Tensor

    def __init__(self, lmax: int, grid: SphereGrid) -> None:
        super().__init__()
        self.lmax = lmax
        self.num_heights, self.num_azimuths = len(grid.heights), len(grid.azimuths)
        orders = torch.arange(-lmax, lmax + 1)
        legendre = grid.legendre(lmax)[:, orders.abs()].transpose(0, 1)  # (m, l, heights)
        weights = grid.polar_weights * (2 * torch.pi / self.num_azimuths)
        self.register_constant("legendre", legendre)
        self.register_constant("legendre_weighted", (legendre * weights).transpose(1, 2))  # (m, heights, l)
        self.register_constant("azimuthal", trigonometric(lmax, grid.azimuths))  # (m, azimuths)
        # Components m of degrees l < |m| do not exist: any other one does, times P̄ = 0.
        l = torch.arange(lmax + 1)
        self.register_buffer("index", (l * l + l + orders[:, None]).clamp(0, (lmax + 1) ** 2 - 1), persistent=False)
        places = [(m + lmax) * (lmax + 1) + l for l in range(lmax + 1) for m in range(-l, l + 1)]
        self.register_buffer("places", torch.tensor(places), persistent=False)

    def to_points(self, x: Tensor) -> Tensor:
        """Coefficients (..., (lmax+1)²) → values (..., heights · azimuths)."""
        by_height = torch.einsum("...ml,mlh->...hm", x[..., self.index], self.legendre)
        return (by_height @ self.azimuthal).flatten(-2)

    def from_points(self, values: Tensor) -> Tensor:
        """Values (..., heights · azimuths) → projections (..., (lmax+1)²)."""
        by_height = values.unflatten(-1, (self.num_heights, self.num_azimuths)) @ self.azimuthal.T
        return torch.einsum("...hm,mhl->...ml", by_height, self.legendre_weighted).flatten(-2)[..., self.places]
