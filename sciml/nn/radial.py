"""Radial bases: functions of the distance that vanish smoothly at the cutoff."""

import math

import torch
from torch import Tensor, nn

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


class BesselBasis(ConstantsModule):
    """b_k(r) = ¼ sin(k π r / r_c) r_c / r, k = 1 … n: of order one where neighbours are.

    Orthogonal on the ball with weight r²; what n of them make has no structure finer than r_c / n. They vanish at the
    cutoff, their slopes do not: for models in which an envelope weighs what comes of an edge.

    Args:
        cutoff: r_c, Å.
        num_basis: n, number of functions.

    Raises:
        ValueError: if there are fewer than 2 functions.

    Source: DimeNet, Gasteiger et al., arXiv:2003.03123, eq. 7.
    """

    frequencies: Tensor

    def __init__(self, cutoff: float, num_basis: int) -> None:
        super().__init__()
        if num_basis < 2:
            raise ValueError(f"got {num_basis} Bessel functions; at least 2 are needed")
        self.cutoff = float(cutoff)
        self.register_constant("frequencies", torch.arange(1, num_basis + 1, dtype=torch.float64))

    def forward(self, distances: Tensor) -> Tensor:
        """Values b_k(r), (..., num_basis), of distances (...), Å."""
        x = (distances[..., None] / self.cutoff).clamp_min(1e-6)  # slots of no edge have the distance zero
        return (self.frequencies * (math.pi * x)).sin() / (4 * x)


class LearnedBasis(nn.Module):
    """b(r) = u(r / r_c) W₃ SiLU( W₂ SiLU( W₁ u(r / r_c) B(r) + c₁ ) + c₂ ) + u(r / r_c) c₃ of Bessel functions B.

    Radial functions that are shared by all that is linear in them, and as smooth as a few Bessel functions make them:
    with 50 structures of acetylacetone to learn from, Facet's forces on others are a sixth better with these than with
    independent splines (README), which have as much to choose at any distance. u is the `envelope`.

    Args:
        cutoff: r_c, Å.
        num_basis: functions b.
        num_bessel: functions B.
        hidden: width of the network.

    Source: radial networks of NequIP, arXiv:2101.03164, with one set of functions for all paths.
    """

    def __init__(self, cutoff: float, num_basis: int, *, num_bessel: int = 8, hidden: int = 64) -> None:
        super().__init__()
        self.cutoff = float(cutoff)
        self.bessel = BesselBasis(cutoff, num_bessel)
        self.network = nn.Sequential(
            nn.Linear(num_bessel, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, num_basis)
        )

    def forward(self, distances: Tensor) -> Tensor:
        """Values b_k(r), (..., num_basis), of distances (...), Å; exactly zero from the cutoff on."""
        fade = envelope(distances / self.cutoff)[..., None]
        return self.network(self.bessel(distances) * fade) * fade


def radial_basis(kind: str, cutoff: float, num_basis: int) -> nn.Module:
    """`SplineBasis` ("splines") or `LearnedBasis` ("network"), for weights that are linear in radial functions.

    Raises:
        ValueError: for another kind.
    """
    if kind not in RADIAL_BASES:
        raise ValueError(f"got the radial functions {kind!r}; available: {', '.join(RADIAL_BASES)}")
    return RADIAL_BASES[kind](cutoff, num_basis)


def distance_basis(kind: str, cutoff: float, num_basis: int) -> nn.Module:
    """`BesselBasis` ("bessel") or `GaussianBasis` ("gaussians"), for networks that take distances.

    Raises:
        ValueError: for another kind.
    """
    if kind not in DISTANCE_BASES:
        raise ValueError(f"got the functions of the distance {kind!r}; available: {', '.join(DISTANCE_BASES)}")
    return DISTANCE_BASES[kind](cutoff, num_basis)


RADIAL_BASES = {"splines": SplineBasis, "network": LearnedBasis}
DISTANCE_BASES = {"bessel": BesselBasis, "gaussians": GaussianBasis}
