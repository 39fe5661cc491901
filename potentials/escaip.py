"""EScAIP: self-attention among the neighbours of each atom, on rotation-invariant features only.

Qu and Krishnapriyan, arXiv:2410.24169. What differs from the published model, and why:

- neighbours are ranked inside a list of all within the cutoff, and every rank, mean and logit is weighted by envelopes
  that vanish at the cutoff: energies and forces are smooth;
- forces are the gradient of the energy unless `forces="direct"` asks for the published head, from whose forces the net
  force and, without periodicity, the net torque are then removed;
- linear layers of concatenated atom features are applied to the atoms, before these are copied to their neighbours: the
  same function with fewer operations;
- atomic energies are summed, on top of reference energies in float64.
"""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sciml.graphs import AtomicGraph
from sciml.messages import check_positive
from sciml.nn.activations import RMSNorm
from sciml.nn.feed_forward import FeedForward, Readout
from sciml.nn.neighbourhoods import Neighbourhoods
from sciml.nn.slot_attention import ORDERS, AttentionBlock, AttributeSizes, EdgeAttributes, Neighbourhood
from sciml.potentials.interface import Potential, PotentialOutput, Stage
from sciml.potentials.rigid_motion import without_net_force, without_net_torque
from sciml.potentials.species import SpeciesTable

FORCES = ("gradient", "direct")

PRESETS: dict[str, dict[str, int]] = {
    "1M": {"channels": 128, "num_heads": 2, "num_blocks": 2, "num_radial": 128, "radial_channels": 128},
    "4M": {"channels": 192, "num_heads": 3, "num_blocks": 4, "num_radial": 128, "radial_channels": 128},
    "12M": {"channels": 320, "num_heads": 5, "num_blocks": 4, "num_radial": 256, "radial_channels": 320},
    "72M": {
        "channels": 512,
        "num_heads": 8,
        "num_blocks": 10,
        "num_radial": 600,
        "radial_channels": 512,
        "species_channels": 128,
        "bond_order_channels": 64,
    },
}
"""Arguments by size; "72M" has the sizes of the published network for SPICE. Exact numbers of weights, for one element,
with gradient and with direct forces, and what each further element adds:

    1M     1,050,818     1,430,854      385
    4M     4,064,002     5,286,854      641
    12M   11,406,402    14,796,166      641
    72M   70,706,050    87,250,310    2,817
"""


class EScAIP(SpeciesTable, Potential):
    """E = Σ_i [ E_ref(Z_i) + s(Z_i) + σ · readout(atom i after the embedding and every block) ].

    Every atom has slots: itself and the neighbours that `soft_neighbours` gives it. The features of atoms h (atoms, H)
    and of slots e (atoms, slots, H) are both updated by `AttentionBlock`.

    Args:
        species: atomic numbers.
        reference_energies: E_ref, eV, in the order of `species`; kept in float64. None for zeros.
        cutoff: Å.
        channels: H.
        num_heads: heads of the attention; each has H / num_heads channels.
        num_blocks: number of blocks; atoms see each other over (num_blocks + 1) · cutoff, and over one more if
            neighbours are ranked, see `num_hops`.
        num_neighbours: soft limit K of the neighbours of an atom; None for all within the cutoff.
        distance_basis: "bessel", or "gaussians" as published, which overfit where data are few.
        num_radial: functions of the distance.
        bond_order_degree: largest degree of the bond-orientational order; 9 as published.
        radial_channels: channels of the distance's features.
        species_channels: channels of the element's features.
        bond_order_channels: channels of the bond-orientational order's features.
        order: of a block: "plain" (attention, feed-forward), or "strang" (half a feed-forward step, attention, half a
            feed-forward step, each of half the width).
        forces: "gradient" or "direct".
        energy_scale: σ, eV.
        shifts: initial s, eV, in the order of `species`; trained. None for zeros.
        repulsion: whether nuclei repel each other at short range, see `sciml.potentials.repulsion`.

    Raises:
        ValueError: for species that are unknown or repeated, lists of another length, sizes that are not positive or
            do not fit, or unknown options.
    """

    heads = ("forces",)

    def __init__(
        self,
        *,
        species: Sequence[int],
        reference_energies: Sequence[float] | None = None,
        cutoff: float = 6.0,
        channels: int = 128,
        num_heads: int = 2,
        num_blocks: int = 3,
        num_neighbours: int | None = 30,
        distance_basis: str = "bessel",
        num_radial: int = 8,
        bond_order_degree: int = 9,
        radial_channels: int = 128,
        species_channels: int = 64,
        bond_order_channels: int = 32,
        order: str = "plain",
        forces: str = "gradient",
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
            "num_radial": num_radial,
            "radial_channels": radial_channels,
            "species_channels": species_channels,
            "bond_order_channels": bond_order_channels,
            "energy_scale": energy_scale,
        }
        check_positive(sizes)
        if bond_order_degree < 0:
            raise ValueError(f"got bond_order_degree={bond_order_degree}; it must not be negative")
        if num_neighbours is not None and num_neighbours < 1:
            raise ValueError(f"got num_neighbours={num_neighbours}; it must be positive, or None for all")
        if channels % num_heads or channels // num_heads < 8:
            raise ValueError(f"got {channels} channels for {num_heads} heads; expected at least 8 for each, as many")
        for name, given, known in (("order", order, ORDERS), ("forces", forces, FORCES)):
            if given not in known:
                raise ValueError(f"got {name}={given!r}; available: {', '.join(known)}")
        if repulsion and forces == "direct":
            raise ValueError(
                "got repulsion=True with direct forces, which are no gradient of it; choose forces='gradient'"
            )
        table = self.register_species(
            species, reference_energies=reference_energies, shifts=shifts, repulsion=repulsion
        )
        self.cutoff = float(cutoff)
        self.energy_scale = float(energy_scale)
        self.needs_reverse_edges, self.pads_neighbours = num_neighbours is not None, True
        self.conservative = forces == "gradient"
        self.symmetry = "O(3)" if self.conservative else "none"
        options = {
            "distance_basis": distance_basis,
            "bond_order_degree": bond_order_degree,
            "num_neighbours": num_neighbours,
            "order": order,
            "forces": forces,
        }
        self._config: dict[str, Any] = {**table, **sizes, "cutoff": self.cutoff, **options}
        self.neighbourhoods = Neighbourhoods(
            cutoff,
            basis=distance_basis,
            num_radial=num_radial,
            bond_order_degree=bond_order_degree,
            num_neighbours=num_neighbours,
        )
        attributes = AttributeSizes(
            num_species=len(self.species),
            num_radial=num_radial,
            num_bond_orders=self.neighbourhoods.num_bond_orders,
            radial_channels=radial_channels,
            species_channels=species_channels,
            bond_order_channels=bond_order_channels,
        )
        self.attributes = EdgeAttributes(attributes, channels)
        self.feed_forward = FeedForward(channels, channels)
        self.norm = RMSNorm(channels)
        last_slots = forces == "direct"
        self.blocks = nn.ModuleList(
            AttentionBlock(
                attributes, channels, num_heads=num_heads, order=order, slots_go_on=n + 1 < num_blocks or last_slots
            )
            for n in range(num_blocks)
        )
        self.readout = Readout(channels, num_blocks + 1)
        self.energy_head = nn.Sequential(RMSNorm(channels), FeedForward(channels, 2 * channels), nn.Linear(channels, 1))
        if forces == "direct":
            self.slot_readout = Readout(channels, num_blocks + 1)
            self.force_head = nn.Sequential(
                RMSNorm(channels), FeedForward(channels, 2 * channels), nn.Linear(channels, 3)
            )
            self.force_scale = nn.Linear(channels, 1)
            self.embedding_channels, self.embedding_probe = 3, nn.Identity()

    @classmethod
    def from_preset(cls, name: str, *, species: Sequence[int], **options: Any) -> "EScAIP":
        """One of the sizes of `PRESETS`, with Gaussians as published; `options` are further arguments of the class.

        Raises:
            ValueError: for an unknown name.
        """
        if name not in PRESETS:
            raise ValueError(f"got the preset {name!r}; available: {', '.join(PRESETS)}")
        return cls(species=species, **{"distance_basis": "gaussians", **PRESETS[name], **options})

    @property
    def config(self) -> dict[str, Any]:
        """Keyword arguments that build this potential anew (without its weights)."""
        return dict(self._config)

    @property
    def num_hops(self) -> int:
        """One for each block, one for the bond order of the neighbours, one for the rank that they give the atom."""
        return len(self.blocks) + (2 if self.needs_reverse_edges else 1)

    def atomic_energies(self, graph: AtomicGraph, edge_vectors: Tensor) -> Tensor:
        """Energy of each atom, (atoms,), eV, float64, from the `edge_vectors` (edges, 3), Å, float64."""
        return self._energies(graph, self._features(graph, edge_vectors)[0])

    def stages(self) -> list[Stage]:
        """The bond order, and one block each; between them bond orders, features of slots, and all those of atoms."""
        hops = 2 if self.needs_reverse_edges else 1
        of_blocks = [Stage(hops, functools.partial(self._run_block, number)) for number in range(len(self.blocks))]
        return [Stage(hops, self._run_bond_order), *of_blocks]

    def _run_bond_order(self, graph: AtomicGraph, edge_vectors: Tensor, _: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (self._neighbourhood(graph, edge_vectors).bond_order,)

    def _run_block(
        self, number: int, graph: AtomicGraph, edge_vectors: Tensor, values: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        bond_order, *features = values
        neighbourhood = self._neighbourhood(graph, edge_vectors, bond_order)
        of_slots, *read = features if number else self._embed(neighbourhood)
        atoms, of_slots = self.blocks[number](read[-1], of_slots, neighbourhood)
        read.append(atoms)
        if number + 1 < len(self.blocks):
            return (bond_order, of_slots, *read)
        return (self.with_repulsion(self._energies(graph, self.readout(read)), graph, edge_vectors),)

    def evaluate(self, graph: AtomicGraph) -> PotentialOutput:
        """Energies, forces and stress of a graph; without `conservative`, the stress is NaN."""
        if self.conservative:
            return super().evaluate(graph)
        with torch.set_grad_enabled(self.training and torch.is_grad_enabled()):
            atoms, of_slots, directions, log_envelope = self._features(graph, graph.edge_vectors())
            energies = self._energies(graph, atoms)
            energy = energies.new_zeros(graph.num_systems).index_add(0, graph.system_index, energies)
            envelope = log_envelope.exp()
            forces = self._direct_forces(atoms, of_slots, directions, envelope).double() * self.energy_scale
            coordination = envelope[:, 1:].sum(dim=1).double()
            forces = without_net_force(forces, coordination, graph)
            forces = without_net_torque(forces, coordination, graph)
        return PotentialOutput(energy, energies, forces, torch.full_like(graph.cell, torch.nan))

    def embedding(self, graph: AtomicGraph) -> Tensor:
        """Direct forces in units of `energy_scale` before net force and torque are removed, (atoms, 3).

        Up to the last linear layer, features are invariant under rotation and what they weight are vectors, so that
        only the forces themselves are left for `sciml.training.losses.LearnedEquivariance` to compare.

        Raises:
            ValueError: if forces are a gradient: no feature changes under rotation then.
        """
        if self.conservative:
            raise ValueError("EScAIP with forces='gradient' is invariant by construction, in every one of its features")
        atoms, of_slots, directions, log_envelope = self._features(graph, graph.edge_vectors())
        return self._direct_forces(atoms, of_slots, directions, log_envelope.exp())

    def _direct_forces(self, atoms: Tensor, of_slots: Tensor, directions: Tensor, envelope: Tensor) -> Tensor:
        pulls = (self.force_head(of_slots) * directions * envelope[:, :, None]).sum(dim=1)  # (atoms, 3)
        return self.embedding_probe(self.force_scale(atoms) * pulls)

    def _energies(self, graph: AtomicGraph, atoms: Tensor) -> Tensor:
        return self.with_references(self.energy_head(atoms)[:, 0] * self.energy_scale, graph.atomic_numbers)

    def _features(self, graph: AtomicGraph, edge_vectors: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Read-out features of atoms and slots (of slots only without `conservative`), directions, log envelope."""
        neighbourhood = self._neighbourhood(graph, edge_vectors)
        of_slots, atoms = self._embed(neighbourhood)
        read, read_slots = [atoms], [of_slots]
        for block in self.blocks:
            atoms, of_slots = block(atoms, of_slots, neighbourhood)
            read.append(atoms)
            if not self.conservative:
                read_slots.append(of_slots)
        read_out = of_slots if self.conservative else self.slot_readout(read_slots)
        return self.readout(read), read_out, neighbourhood.directions, neighbourhood.log_envelope

    def _neighbourhood(
        self, graph: AtomicGraph, edge_vectors: Tensor, bond_order: Tensor | None = None
    ) -> Neighbourhood:
        species = self.species_lookup[graph.atomic_numbers]
        return self.neighbourhoods(graph, edge_vectors, species, bond_order)[0]

    def _embed(self, neighbourhood: Neighbourhood) -> tuple[Tensor, Tensor]:
        """First features of slots (atoms, slots, channels) and of atoms (atoms, channels)."""
        of_slots = self.attributes(neighbourhood)
        of_slots = self.norm(of_slots + self.feed_forward(of_slots))
        return of_slots, of_slots[:, 0]
