"""What is known of the neighbourhood of each atom before any learning."""

from torch import Tensor, nn

from sciml.graphs import AtomicGraph, polar
from sciml.nn.bond_order import BondOrientationalOrder
from sciml.nn.radial import distance_basis
from sciml.nn.slot_attention import Neighbourhood
from sciml.nn.soft_neighbours import Slots, reverse_edges, soft_neighbours


class Neighbourhoods(nn.Module):
    """Slots, functions of distances, directions and bond-orientational order, as EScAIP has them.

    Args:
        cutoff: Å.
        basis: "bessel" or "gaussians" of the distances.
        num_radial: functions of the distance.
        bond_order_degree: largest degree of the bond-orientational order; 9 as published.
        num_neighbours: soft limit of the neighbours of an atom; None for all within the cutoff.

    Attributes:
        num_bond_orders: numbers of an atom's bond-orientational order.

    Source: arXiv:2410.24169.
    """

    def __init__(
        self, cutoff: float, *, basis: str, num_radial: int, bond_order_degree: int, num_neighbours: int | None
    ) -> None:
        super().__init__()
        self.cutoff, self.num_neighbours = cutoff, num_neighbours
        self.basis = distance_basis(basis, cutoff, num_radial)
        self.bond_order = BondOrientationalOrder(bond_order_degree)
        self.num_bond_orders = bond_order_degree + 1

    def forward(
        self, graph: AtomicGraph, edge_vectors: Tensor, species: Tensor, bond_order: Tensor | None = None
    ) -> tuple[Neighbourhood, Slots]:
        """Neighbourhoods of all atoms.

        Args:
            graph: edges sorted by receiver.
            edge_vectors: (edges, 3), Å, float64.
            species: index of each atom's element, (atoms,).
            bond_order: what was found before, (atoms, degrees); None to find it.
        """
        distances, directions = polar(edge_vectors)
        max_degree, reverse = graph.get("max_degree"), None
        if self.num_neighbours is not None:
            reverse = reverse_edges(graph.edge_index, graph.edge_shifts, graph.num_nodes, check=max_degree is None)
        # In float64: ranks are differences of distances in units of their width.
        slots = soft_neighbours(
            distances,
            graph.edge_index,
            reverse,
            graph.num_nodes,
            cutoff=self.cutoff,
            num_neighbours=self.num_neighbours,
            max_degree=max_degree,
        )
        dtype = self.bond_order.degree.dtype
        distances, directions, envelope = (x.to(dtype) for x in (distances, directions, slots.envelope))
        if bond_order is None:
            bond_order = self.bond_order(directions, envelope, graph.edge_index[1], graph.num_nodes)
        neighbourhood = Neighbourhood(
            species=species,
            bond_order=bond_order,
            radial=self.basis(slots.fill(distances)),
            sender=slots.atoms(graph.edge_index[0]),
            directions=slots.fill(directions),
            log_envelope=slots.log_envelope.to(dtype),
        )
        return neighbourhood, slots
