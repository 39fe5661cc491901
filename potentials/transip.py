"""TransIP: a plain transformer on atoms, which learns the symmetry that it does not have.

Elhag et al., arXiv:2510.00027. An atom is a token, every atom of a system attends to every other, and where atoms are
enters by rotary embeddings of their coordinates. Turning a structure changes the prediction; how much is measured by
`sciml.potentials.rotation_error`, and made small in training by `sciml.training.losses.LearnedEquivariance` or by
rotating the training structures.

What differs from the published model, and why:

- positions are taken from the centroid, the mean over the atoms: masses would make isotopes differ, and the energy of
  a frozen structure does not know them. In exact arithmetic neither matters, because rotary embeddings make attention
  a function of differences of positions; it keeps angles small and thus exact;
- values are turned as queries and keys are, so that they are seen from the atom that attends (`rotate_values`):
  otherwise positions act only by how much an atom attends to which element, and atoms of one element, all equal, have
  no forces at all;
- the energy is a sum of atomic energies, on top of reference energies in float64.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from ase.data import covalent_radii
from torch import Tensor, nn

from sciml.graphs import AtomicGraph
from sciml.messages import check_positive
from sciml.nn.dense_layout import dense_layout, system_sizes
from sciml.nn.feed_forward import FeedForward
from sciml.nn.rotary_attention import RotaryAngles, RotaryBlock
from sciml.potentials.interface import Potential, PotentialOutput
from sciml.potentials.species import SpeciesTable


class TransIP(SpeciesTable, Potential):
    """E = Σ_i [ E_ref(Z_i) + s(Z_i) + σ · head(RMSNorm(x_i)) ],   x = blocks of `RotaryBlock` on embeddings of Z.

    Forces are the exact gradient of E by the positions; there is no stress. The cost of a system of N atoms grows as
    N².

    Args:
        species: atomic numbers.
        reference_energies: E_ref, eV, in the order of `species`; kept in float64. None for zeros.
        cutoff: Å, of the edges with which graphs are built. It limits nothing: every atom of a system acts on every
            other, however far. Only `repulsion` reads edges, and needs those up to twice the largest covalent radius.
        channels: of an atom's features.
        num_heads: heads of the attention; each has channels / num_heads channels, a multiple of 6.
        num_blocks: number of blocks.
        shortest_wavelength: Å, of the coordinates' rotary embeddings.
        longest_wavelength: Å; structures of more than half this size look folded to the slowest angle.
        rotate_values: see `RotaryAttention`.
        energy_scale: σ, eV.
        shifts: initial s, eV, in the order of `species`; trained. None for zeros.
        repulsion: whether nuclei repel each other at short range, see `sciml.potentials.repulsion`.

    Raises:
        ValueError: for species that are unknown or repeated, lists of another length, sizes that are not positive or
            do not fit, or a cutoff below the reach of the repulsion.
    """

    symmetry = "none"
    local = False
    periodic = False

    def __init__(
        self,
        *,
        species: Sequence[int],
        reference_energies: Sequence[float] | None = None,
        cutoff: float = 3.0,
        channels: int = 192,
        num_heads: int = 8,
        num_blocks: int = 6,
        shortest_wavelength: float = 2.0,
        longest_wavelength: float = 60.0,
        rotate_values: bool = True,
        energy_scale: float = 1.0,
        shifts: Sequence[float] | None = None,
        repulsion: bool = False,
    ) -> None:
        super().__init__()
        sizes = {
            "cutoff": cutoff,
            "channels": channels,
            "num_heads": num_heads,
            "num_blocks": num_blocks,
            "shortest_wavelength": shortest_wavelength,
            "longest_wavelength": longest_wavelength,
            "energy_scale": energy_scale,
        }
        check_positive(sizes)
        if channels % (6 * num_heads):
            raise ValueError(
                f"got {channels} channels for {num_heads} heads; expected a multiple of {6 * num_heads}: each head "
                "turns as many pairs of channels by x as by y and by z"
            )
        if shortest_wavelength > longest_wavelength:
            raise ValueError(
                f"got shortest_wavelength={shortest_wavelength} and longest_wavelength={longest_wavelength}; "
                "expected the first not to be larger"
            )
        table = self.register_species(
            species, reference_energies=reference_energies, shifts=shifts, repulsion=repulsion
        )
        reach = 2 * max(covalent_radii[z] for z in self.species)
        if repulsion and cutoff < reach:
            raise ValueError(f"got cutoff={cutoff} with a repulsion that reaches {reach:.2f} Å; expected no less")
        self.cutoff = float(cutoff)
        self.energy_scale = float(energy_scale)
        self._config: dict[str, Any] = {**table, **sizes, "cutoff": self.cutoff, "rotate_values": rotate_values}
        self.species_embedding = nn.Embedding(len(self.species), channels)
        self.angles = RotaryAngles(channels // num_heads // 6, shortest=shortest_wavelength, longest=longest_wavelength)
        self.blocks = nn.ModuleList(
            RotaryBlock(channels, num_heads, rotate_values=rotate_values) for _ in range(num_blocks)
        )
        # Without weights: the scale of the embedding, which passes here, is fixed (see LearnedEquivariance).
        self.norm = nn.RMSNorm(channels, elementwise_affine=False)
        self.embedding_channels, self.embedding_probe = channels, nn.Identity()
        self.energy_head = nn.Sequential(FeedForward(channels, channels), nn.Linear(channels, 1))

    @property
    def config(self) -> dict[str, Any]:
        """Keyword arguments that build this potential anew (without its weights)."""
        return dict(self._config)

    def evaluate(self, graph: AtomicGraph) -> PotentialOutput:
        """Energies and forces of a graph; the stress is NaN."""
        with torch.enable_grad():
            graph = copy.copy(graph)  # shares all tensors but the positions
            graph.positions = positions = graph.positions.detach().requires_grad_()
            energies = self.all_atomic_energies(graph, graph.edge_vectors())  # (atoms,)
            energy = energies.new_zeros(graph.num_systems).index_add(0, graph.system_index, energies)  # (systems,)
            (gradient,) = torch.autograd.grad(energy.sum(), positions, create_graph=self.training)
        if not self.training:
            energy, energies = energy.detach(), energies.detach()
        return PotentialOutput(energy, energies, -gradient, torch.full_like(graph.cell, torch.nan))

    def atomic_energies(self, graph: AtomicGraph, edge_vectors: Tensor) -> Tensor:  # noqa: ARG002
        """Energy of each atom, (atoms,), eV, float64, from the graph's positions; edge vectors are not read."""
        energies = self.energy_head(self.embedding(graph))[:, 0] * self.energy_scale
        return self.with_references(energies, graph.atomic_numbers)

    def embedding(self, graph: AtomicGraph) -> Tensor:
        """Features of each atom before the energy's head, (atoms, channels), of root mean square 1."""
        systems = graph.system_index
        sums = graph.positions.new_zeros(graph.num_systems, 3).index_add(0, systems, graph.positions)
        centroids = sums / system_sizes(graph).clamp_min(1)[:, None]
        cosines, sines = self.angles(graph.positions - centroids[systems])  # (atoms, channels / num_heads / 2)
        layout = dense_layout(graph)
        x = self.species_embedding(self.species_lookup[graph.atomic_numbers])  # (atoms, channels)
        cosines, sines = (layout.fill(values.to(x.dtype))[:, None] for values in (cosines, sines))
        x = layout.fill(x)  # (systems, width, channels)
        for block in self.blocks:
            x = block(x, cosines, sines, layout.occupied)
        return self.embedding_probe(self.norm(layout.take(x)))  # (atoms, channels)
