"""Parts of a large structure: what a chunk of atoms depends on, and chunks that are compact in space."""

from typing import NamedTuple

import torch
from torch import Tensor

from sciml.graphs import AtomicGraph


class Part(NamedTuple):
    """A chunk of atoms with all that it depends on.

    Attributes:
        atoms: (part atoms,), ascending: the chunk and its surroundings.
        edges: (part edges,), ascending.
        chunk: (chunk atoms,), places of the chunk's atoms among `atoms`.
    """

    atoms: Tensor
    edges: Tensor
    chunk: Tensor


class Surroundings:
    """Parts of the graph of one structure, found at the cost of their own size, on the graph's device.

    Args:
        graph: its edges sorted by receiver, so that those into one atom are a range.

    Attributes:
        most_neighbours: largest number of edges into one atom.
    """

    def __init__(self, graph: AtomicGraph) -> None:
        self.graph = graph
        self.degrees = torch.bincount(graph.edge_index[1], minlength=graph.num_nodes)
        self.starts = self.degrees.cumsum(0) - self.degrees
        self.most_neighbours = int(self.degrees.max()) if graph.num_nodes else 0

    def part(self, chunk: Tensor, hops: int, *, both_ways: bool = False) -> Part:
        """The atoms within `hops` edges of the chunk, and the edges into all of them but those of the last hop.

        Args:
            chunk: (chunk atoms,), ascending.
            hops: at least 1; see `sciml.potentials.interface.Stage`.
            both_ways: whether to add the reverse of these edges.
        """
        inside, edges, atoms = chunk, self._edges_into(chunk), chunk
        for hop in range(hops):
            atoms = torch.cat([inside, self.graph.edge_index[0, edges]]).unique()
            if hop + 1 < hops:
                inside, edges = atoms, self._edges_into(atoms)
        if both_ways:
            is_inside = torch.zeros(self.graph.num_nodes, dtype=torch.bool, device=chunk.device)
            is_inside[inside] = True
            outside = self._edges_into(atoms[~is_inside[atoms]])
            back = outside[is_inside[self.graph.edge_index[0, outside]]]
            edges = torch.cat([edges, back]).sort().values
        return Part(atoms, edges, torch.searchsorted(atoms, chunk))

    def subgraph(self, part: Part) -> AtomicGraph:
        """The graph of a part, whose atoms and edges keep their order; edges stay sorted by receiver."""
        graph = self.graph
        return AtomicGraph(
            positions=graph.positions[part.atoms],
            atomic_numbers=graph.atomic_numbers[part.atoms],
            cell=graph.cell,
            pbc=graph.pbc,
            edge_index=torch.searchsorted(part.atoms, graph.edge_index[:, part.edges]),
            edge_shifts=graph.edge_shifts[part.edges],
            num_nodes=len(part.atoms),
            max_degree=self.most_neighbours,  # so that features of slots have the same shape in all parts
        )

    def _edges_into(self, atoms: Tensor) -> Tensor:
        """All edges whose receivers are among `atoms`, in the order of these."""
        counts = self.degrees[atoms]
        offsets = self.starts[atoms] - (counts.cumsum(0) - counts)
        return torch.arange(int(counts.sum()), device=atoms.device) + offsets.repeat_interleave(counts)


def wrapped_positions(graph: AtomicGraph) -> Tensor:
    """Positions of one structure inside the cell along its periodic axes, (atoms, 3), Å."""
    rows = graph.cell[0][graph.pbc[0]]  # (periodic axes, 3)
    fractions = graph.positions @ torch.linalg.pinv(rows)
    return graph.positions - torch.floor(fractions) @ rows


def halves(chunk: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Cut a chunk of at least two atoms into equal halves across its longest side.

    Halving again and again gives compact boxes, whose surroundings are small.

    Args:
        chunk: (chunk atoms,), ascending.
        positions: of all atoms, (atoms, 3), Å.
    """
    inside = positions[chunk]
    longest = int((inside.amax(dim=0) - inside.amin(dim=0)).argmax())
    order = inside[:, longest].argsort(stable=True)
    middle = len(chunk) // 2
    return chunk[order[:middle]].sort().values, chunk[order[middle:]].sort().values
