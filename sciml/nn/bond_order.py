"""How the neighbours of an atom are arranged, as rotation-invariant numbers."""

import torch
from torch import Tensor, nn

from sciml.nn.constants import ConstantsModule
from sciml.nn.spherical_harmonics import SphericalHarmonics

# Under the root, so that its slope is finite where the neighbours are arranged symmetrically.
SMALLEST = 1e-6


class BondOrientationalOrder(ConstantsModule):
    """q_l(i) = √( ε + Σ_m | Σ_j w_ij Y_lm(n_ij) |² / (2l+1) / (1 + Σ_j w_ij)² ),   l = 0 … lmax.

    The published parameters average over all neighbours alike, and jump when one leaves; with the weight of the
    envelope they are smooth. The 1 is the atom itself, which has no direction and only takes part in l = 0, where it
    adds to the sum.

    Args:
        lmax: largest degree.

    Source: Steinhardt, Nelson, Ronchetti, Phys. Rev. B 28, 784 (1983); as a feature: EScAIP, arXiv:2410.24169.
    """

    degree: Tensor

    def __init__(self, lmax: int) -> None:
        super().__init__()
        self.lmax = lmax
        self.harmonics = SphericalHarmonics(lmax)
        degrees = torch.tensor([l for l in range(lmax + 1) for _ in range(2 * l + 1)])
        one_hot = nn.functional.one_hot(degrees, lmax + 1).double()
        self.register_constant("degree", one_hot / (2 * torch.arange(lmax + 1) + 1))

    def forward(self, directions: Tensor, weights: Tensor, receivers: Tensor, num_nodes: int) -> Tensor:
        """Parameters (atoms, lmax + 1).

        Args:
            directions: unit vectors of the edges, (edges, 3).
            weights: w, (edges,).
            receivers: (edges,).
            num_nodes: number of atoms.
        """
        summed = directions.new_zeros(num_nodes, (self.lmax + 1) ** 2).index_add(
            0, receivers, self.harmonics(directions) * weights[:, None]
        )
        itself = nn.functional.pad(summed.new_ones(1, 1), (0, summed.shape[1] - 1))
        total = 1 + weights.new_zeros(num_nodes).index_add(0, receivers, weights)
        mean = (summed + itself) / total[:, None]  # (atoms, (lmax+1)²)
        return (SMALLEST + mean.square() @ self.degree).sqrt()
