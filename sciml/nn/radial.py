"""Radial bases: functions of the distance that vanish smoothly at the cutoff."""

import torch
from torch import Tensor, nn


class SplineBasis(nn.Module):
    """Uniform B-splines on (0, cutoff), of which only those are kept that end at or before the cutoff.

    With knots of spacing h = cutoff / (n + 1) and the cubic cardinal spline

        B(t) = [ (2 - |t|)₊³ - 4 (1 - |t|)₊³ ] / 6,        b_k(r) = 3/2 B(r / h - k),   k = 0 … n - 1,

    every b_k is twice continuously differentiable, and zero at the cutoff together with its slope and curvature: so is
    each weight that is linear in them. A linear map of this basis is a spline whose values the training chooses.

    Args:
        cutoff: Å.
        num_basis: n, number of functions.

    Source: C. de Boor, A Practical Guide to Splines (1978), ch. IX; radial weights linear in a fixed basis as in
        Facet, arXiv:2509.08418.
    """

    centers: Tensor

    def __init__(self, cutoff: float, num_basis: int) -> None:
        super().__init__()
        if num_basis < 2:
            raise ValueError(f"got {num_basis} spline functions; at least 2 are needed")
        self.cutoff = float(cutoff)
        self.num_basis = num_basis
        self.spacing = self.cutoff / (num_basis + 1)
        self.register_buffer("centers", torch.arange(num_basis, dtype=torch.get_default_dtype()), persistent=False)

    def forward(self, distances: Tensor) -> Tensor:
        """Values b_k(r), (edges, num_basis), of distances (edges,), Å; exactly zero from the cutoff on."""
        t = (distances[:, None] / self.spacing - self.centers).abs()
        return ((2 - t).clamp_min(0).pow(3) - 4 * (1 - t).clamp_min(0).pow(3)) * 0.25
