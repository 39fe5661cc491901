"""Mixing degrees by pointwise products of functions on the sphere."""

import copy
import math

import torch
from e3nn.o3 import Irreps, rand_matrix, spherical_harmonics
from torch import Tensor, nn

from sciml.nn.constants import ConstantsModule
from sciml.nn.linear import EquivariantLinear
from sciml.tensor_products.rotations import representation
from sciml.tensor_products.sphere import sphere_grid

ACTIVATIONS = ("product", "silu")


class SphereMixer(ConstantsModule):
    """Facet's self-interaction: irreps → functions on the sphere → the same small network at every point → irreps.

    Each channel of the irreps of parity (-1)^l is a function f(n) = Σ_lm x_lm Y_lm(n). With linear maps A, B, C of the
    channels, one per degree,

        "product":  z = C P[ (A f)(n) · (B f)(n) ]
        "silu":     z = C P[ W₂ SiLU( W₁ (A f)(n) ) ]

    where P projects back by quadrature. The product is a polynomial of degree 2L; its projection onto degrees ≤ L
    integrates a polynomial of degree 3L, for which the grid is exact: the mixer is equivariant to rounding. SiLU has no
    finite degree; its error falls with `oversampling` and is measured by `equivariance_error`.

    Args:
        irreps: blocks of one channel each, all of parity (-1)^l.
        channels: channels in and out.
        hidden_channels: functions on the sphere.
        activation: "product" (exact) or "silu" (approximate).
        oversampling: the grid is exact to degree 3L times this.

    Source: S² MLP mixer of Facet, arXiv:2509.08418; exactness: Gauss-Legendre quadrature.
    """

    to_grid: Tensor
    from_grid: Tensor

    def __init__(
        self,
        irreps: Irreps | str,
        channels: int,
        *,
        hidden_channels: int | None = None,
        activation: str = "product",
        oversampling: int = 1,
    ) -> None:
        super().__init__()
        self.irreps = Irreps(irreps)
        if activation not in ACTIVATIONS:
            raise ValueError(f"got the activation {activation!r}; available: {', '.join(ACTIVATIONS)}")
        if any(ir.p != (-1) ** ir.l for _, ir in self.irreps):
            raise ValueError(f"got {self.irreps}; only irreps of parity (-1)^l are functions on the sphere")
        hidden = channels if hidden_channels is None else hidden_channels
        self.activation = activation
        lmax = max(ir.l for _, ir in self.irreps)
        # A grid that is its own image under inversion keeps the parity of SiLU's result too.
        grid = sphere_grid(3 * lmax * oversampling, antipodal=True)
        harmonics = self._harmonics(grid.points)
        scale = len(self.irreps) ** -0.5  # f has unit variance for x of unit variance
        self.register_constant("to_grid", harmonics * scale)  # (points, components)
        self.register_constant("from_grid", (harmonics * grid.weights[:, None]).T / (4 * math.pi))
        branches = 2 if activation == "product" else 1
        self.linear_in = EquivariantLinear(self.irreps, channels, branches * hidden)
        self.linear_out = EquivariantLinear(self.irreps, hidden, channels)
        if activation == "silu":
            self.pointwise = nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden))

    def _harmonics(self, points: Tensor) -> Tensor:
        """Component-normalised harmonics of the irreps, (points, components)."""
        return torch.cat([spherical_harmonics(ir.l, points, False, "component") for _, ir in self.irreps], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Mix (nodes, components, channels)."""
        values = self.to_grid @ self.linear_in(x)  # (nodes, points, hidden or 2 hidden)
        if self.activation == "product":
            left, right = values.chunk(2, dim=2)
            values = left * right
        else:
            values = self.pointwise(values)
        return self.linear_out(self.from_grid @ values)

    @torch.no_grad()
    def equivariance_error(self, *, num_samples: int = 64, seed: int = 0) -> float:
        """Max |f(Dx) - D f(x)| / rms f over random features of unit variance and improper rotations, in float64."""
        mixer = copy.deepcopy(self).to("cpu", torch.float64)
        channels = mixer.linear_in.weight.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            x = torch.randn(num_samples, self.irreps.dim, channels, dtype=torch.float64)
            rotations = -rand_matrix(num_samples, dtype=torch.float64)  # improper: a rotation and the inversion
        turned = representation(self.irreps, rotations)
        before, after = turned @ mixer(x), mixer(turned @ x)
        return ((after - before).abs().max() / before.square().mean().sqrt()).item()
