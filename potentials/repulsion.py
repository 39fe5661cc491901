"""What keeps atoms apart where no training structure has been."""

import torch
from ase.data import covalent_radii
from torch import Tensor

from sciml.graphs import AtomicGraph, polar
from sciml.nn.constants import ConstantsModule
from sciml.nn.radial import envelope

COULOMB = 14.399645478  # e² / (4π ε₀), eV Å; CODATA 2018
BOHR = 0.529177210903  # Å; CODATA 2018

# Coefficients and exponents of the screening function, whose values at zero sum to 1.
_SCREENING = ((0.18175, 3.1998), (0.50986, 0.94229), (0.28022, 0.4029), (0.02817, 0.20162))


class ScreenedRepulsion(ConstantsModule):
    """The universal repulsion of nuclei (ZBL), between atoms that are closer than their covalent radii together:

        V(r) = e² Z_i Z_j / (4π ε₀ r) φ(r / a) c(r / (R_i + R_j)),    a = 0.8854 a₀ / (Z_i^0.23 + Z_j^0.23)
        φ(x) = 0.18175 e^(−3.1998 x) + 0.50986 e^(−0.94229 x) + 0.28022 e^(−0.4029 x) + 0.02817 e^(−0.20162 x)

    with the envelope c of `sciml.nn.radial`, which leaves bonded atoms to the network.

    Source: Ziegler, Biersack, Littmark, The Stopping and Range of Ions in Solids (1985); radii: Cordero et al., Dalton
        Trans. 2832 (2008), as ASE has them.
    """

    radii: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_constant("radii", torch.from_numpy(covalent_radii.copy()), keep_float64=True)

    def forward(self, graph: AtomicGraph, edge_vectors: Tensor) -> Tensor:
        """Energy of each atom, (atoms,), eV, float64, half of that of its pairs."""
        senders, receivers = graph.edge_index
        r, _ = polar(edge_vectors.double())
        z = graph.atomic_numbers.double()
        powers = z.pow(0.23)
        x = r * (powers[senders] + powers[receivers]) / (0.8854 * BOHR)
        screening = sum(factor * torch.exp(-rate * x) for factor, rate in _SCREENING)
        radii = self.radii[graph.atomic_numbers]
        fade = envelope(r / (radii[senders] + radii[receivers]))
        pairs = 0.5 * COULOMB * z[senders] * z[receivers] / r * screening * fade
        return r.new_zeros(graph.num_nodes).index_add(0, receivers, pairs)
