"""Radial bases: functions of the distance that vanish smoothly at the cutoff."""

import torch
from torch import Tensor

from sciml.nn.constants import ConstantsModule


def envelope(x: Tensor) -> Tensor:
    """exp(−x² / (1 − x²)) for x < 1, else 0: 1 at zero, and infinitely often differentiable."""
    inside = x < 1
    squared = torch.where(inside, x, 0).square()
    return torch.where(inside, torch.exp(-squared / (1 - squared)), 0)


class SplineBasis(ConstantsModule):
    """Uniform quintic B-splines on (0, cutoff), of which only those are kept that end at or before the cutoff.

    With knots of spacing h = cutoff / (n + 2) and the cardinal spline of degree five

        B(t) = [ (3 - |t|)₊⁵ - 6 (2 - |t|)₊⁵ + 15 (1 - |t|)₊⁵ ] / 66,        b_k(r) = B(r / h - k),   k = 0 … n - 1,

    scaled to B(0) = 1, every b_k is four times continuously differentiable, and zero at the cutoff with all of these
    derivatives: so is each weight that is linear in them. A linear map of this basis is a spline whose values the
    training chooses. (Cubic splines train as well, but the third derivative of their energy jumps at every knot, where
    finite differences of forces then disagree in the seventh digit.)

    Args:
        cutoff: Å.
        num_basis: n, number of functions.

    Raises:
        ValueError: if there are fewer than 2 functions.

    Source: C. de Boor, A Practical Guide to Splines (1978), ch. IX; radial weights linear in a fixed basis as in
        Facet, arXiv:2509.08418.
    """

    centers: Tensor
    ends: Tensor
    factors: Tensor

    def __init__(self, cutoff: float, num_basis: int) -> None:
        super().__init__()
        if num_basis < 2:
            raise ValueError(f"got {num_basis} spline functions; at least 2 are needed")
        self.spacing = float(cutoff) / (num_basis + 2)
        self.register_constant("centers", torch.arange(num_basis))
        self.register_constant("ends", torch.tensor([3, 2, 1]))
        self.register_constant("factors", torch.tensor([1, -6, 15], dtype=torch.float64) / 66)

    def forward(self, distances: Tensor) -> Tensor:
        """Values b_k(r), (edges, num_basis), of distances (edges,), Å; exactly zero from the cutoff on."""
        t = (distances[:, None] / self.spacing - self.centers).abs()
        return (self.ends - t[:, :, None]).clamp_min(0).pow(5) @ self.factors


class GaussianBasis(ConstantsModule):
    """Gaussians b_k(r) = exp( −(r − k h)² / (2 (2h)²) ), k = 0 … n − 1, h = cutoff / (n − 1): twice as wide as apart.

    They do not vanish at the cutoff: for models in which an envelope weighs what comes of an edge.

    Args:
        cutoff: Å.
        num_basis: n, number of functions.

    Raises:
        ValueError: if there are fewer than 2 functions.

    Source: EScAIP, arXiv:2410.24169.
    """

    centers: Tensor

    def __init__(self, cutoff: float, num_basis: int) -> None:
        super().__init__()
        if num_basis < 2:
            raise ValueError(f"got {num_basis} Gaussians; at least 2 are needed")
        self.spacing = float(cutoff) / (num_basis - 1)
        self.register_constant("centers", torch.arange(num_basis))

    def forward(self, distances: Tensor) -> Tensor:
        """Values b_k(r), (..., num_basis), of distances (...), Å."""
        return torch.exp(-(distances[..., None] / self.spacing - self.centers).square() / 8)
