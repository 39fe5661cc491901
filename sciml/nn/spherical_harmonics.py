"""Real spherical harmonics by the Clebsch-Gordan recursion Y_l ∝ (Y_{l-1} ⊗ Y_1)_l."""

import torch
from e3nn.o3 import spherical_harmonics, wigner_3j
from torch import Tensor

from sciml.nn.constants import ConstantsModule


class SphericalHarmonics(ConstantsModule):
    """Y_0 … Y_lmax of unit vectors, component-normalised (|Y_l|² = 2l+1) in e3nn's basis (polar axis y).

        Y_l = N_l Σ_ij C^{l-1,1,l}_{ij·} Y_{l-1,i} Y_{1,j},    Y_1 = √3 n

    Two products per degree instead of a polynomial per component: an order of magnitude fewer operations to
    differentiate twice. Equal to `e3nn.o3.spherical_harmonics(..., normalize=False, normalization="component")`
    of a unit vector to rounding.

    Args:
        lmax: largest degree, at least 0.
    """

    def __init__(self, lmax: int) -> None:
        super().__init__()
        self.lmax = lmax
        pole = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
        y = pole * 3**0.5
        for l in range(2, lmax + 1):
            coupling = wigner_3j(l - 1, 1, l, dtype=torch.float64)  # (2l-1, 3, 2l+1)
            unscaled = torch.einsum("ijk,zi,zj->zk", coupling, y, pole * 3**0.5)
            y = spherical_harmonics(l, pole, normalize=False, normalization="component")
            # only m = 0 survives at the pole; the ratio there fixes the sign and size of N_l
            norm = y[0, l] / unscaled[0, l]
            self.register_constant(f"coupling{l}", (coupling * norm).reshape(-1, 2 * l + 1))

    def forward(self, directions: Tensor) -> Tensor:
        """Harmonics (edges, (lmax+1)²) of unit vectors (edges, 3)."""
        blocks = [torch.ones_like(directions[:, :1])]
        if self.lmax >= 1:
            blocks.append(directions * 3**0.5)
        for l in range(2, self.lmax + 1):
            outer = blocks[-1][:, :, None] * blocks[1][:, None, :]  # (edges, 2l-1, 3)
            blocks.append(outer.flatten(1) @ getattr(self, f"coupling{l}"))
        return torch.cat(blocks, dim=1)
