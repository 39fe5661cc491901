"""A small many-body potential with a trainable parameter, for tests that need some potential."""

import torch
from torch import nn

from sciml.nn.constants import ConstantsModule
from sciml.potentials.interface import Potential


class Embedded(ConstantsModule, Potential):
    """E_i = e(z_i) + sqrt(1 + ρ_i), ρ_i = Σ_j a(z_i) a(z_j) exp(-r) (1 - r²/rc²)³: many-body, smooth, extensive."""

    def __init__(self, *, species=(1, 8), cutoff=3.0, width=1.0):
        super().__init__()
        self.species, self.cutoff, self.width = tuple(species), cutoff, width
        self.charge = nn.Parameter(torch.linspace(1.0, 2.0, len(self.species)))
        reference = torch.linspace(-10.0, -20.0, len(self.species), dtype=torch.float64)
        self.register_constant("reference", reference, keep_float64=True)

    @property
    def config(self):
        return {"species": list(self.species), "cutoff": self.cutoff, "width": self.width}

    def kinds(self, graph):
        return torch.searchsorted(graph.atomic_numbers.new_tensor(self.species), graph.atomic_numbers)

    def weight(self, r):
        return torch.exp(-r / self.width) * (1 - (r / self.cutoff) ** 2).clamp(min=0) ** 3

    def density(self, graph, vectors):
        senders, receivers = graph.edge_index
        charge = self.charge[self.kinds(graph)]
        terms = charge[senders] * charge[receivers] * self.weight(vectors.norm(dim=1).to(charge.dtype))
        return graph.positions.new_zeros(graph.num_nodes).index_add(0, receivers, terms.double())

    def atomic_energies(self, graph, edge_vectors):
        return self.reference[self.kinds(graph)] + torch.sqrt(1 + self.density(graph, edge_vectors))
