"""Graphs that stay on a device, and batches of one size made of them without waiting for it.

A CUDA graph replays the same operations on arrays of the same shapes. Batches of structures differ in atoms and edges;
here they are filled up to a common size with atoms and edges of a void system, whose labels are missing and whose edges
are longer than any cutoff, so that nothing that is learned or predicted depends on them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sciml.graphs import AtomicGraph

_OF_ATOMS = ("positions", "atomic_numbers", "forces")
_OF_SYSTEMS = ("cell", "pbc", "energy", "stress")
_OF_EDGES = ("edge_index", "edge_shifts")

# Å, length of the void's edges.
_FAR = 1e3


class Capacity(NamedTuple):
    """How many systems (the void among them), atoms and edges a batch has after it was filled up."""

    systems: int
    atoms: int
    edges: int

    def joined(self, other: "Capacity") -> "Capacity":
        """The smallest capacity for both."""
        return Capacity(*map(max, self, other))


class Plan(NamedTuple):
    """What each of some batches is made of; rows of `PackedGraphs`, or numbers inside the batch.

    Attributes:
        systems: (batches, systems).
        atoms: (batches, atoms).
        system_of_atom: (batches, atoms), inside the batch.
        edges: (batches, edges).
        first_atom: (batches, edges), inside the batch, of the system to which the edge belongs.
    """

    systems: Tensor
    atoms: Tensor
    system_of_atom: Tensor
    edges: Tensor
    first_atom: Tensor

    def row(self, number: Tensor) -> "Plan":
        """That of one batch, whose `number` (1,) only the device knows; without the axis of batches."""
        return Plan(*(part.index_select(0, number)[0] for part in self))


class PackedGraphs:
    """The arrays of many graphs, one after the other, on a device; the last system, atom and edge are the void's.

    Args:
        graphs: single structures, all with the same attributes.
        device: where they stay.

    Raises:
        ValueError: if there is no graph, or graphs have attributes that are not those of `AtomicGraph`.
    """

    def __init__(self, graphs: Sequence[AtomicGraph], device: torch.device) -> None:
        if not graphs:
            raise ValueError("got no graphs to pack")
        contents = [graph.to_dict() for graph in graphs]
        names = set(contents[0]) - {"num_nodes"}
        unknown = sorted(names - {*_OF_ATOMS, *_OF_SYSTEMS, *_OF_EDGES})
        if unknown or any(set(content) - {"num_nodes"} != names for content in contents):
            raise ValueError(f"got graphs with attributes of their own, or different ones ({', '.join(unknown)})")
        self.device = device
        self.num_atoms = np.array([len(content["atomic_numbers"]) for content in contents])
        self.num_edges = np.array([content["edge_index"].shape[1] for content in contents])
        degrees = [torch.bincount(content["edge_index"][1], minlength=1).max() for content in contents]
        self.max_degree = int(torch.stack(degrees).max())
        first = contents[0]
        void = {
            "positions": torch.zeros(1, 3, dtype=torch.float64),
            "atomic_numbers": first["atomic_numbers"][:1],
            "forces": torch.full((1, 3), torch.nan, dtype=torch.float64),
            "cell": _FAR * torch.eye(3, dtype=torch.float64)[None],
            "pbc": torch.zeros(1, 3, dtype=torch.bool),
            "energy": torch.full((1,), torch.nan, dtype=torch.float64),
            "stress": torch.full((1, 3, 3), torch.nan, dtype=torch.float64),
            "edge_index": torch.zeros(2, 1, dtype=torch.int64),
            "edge_shifts": torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64),
        }
        self._arrays = {
            name: torch.cat([content[name] for content in [*contents, void]], dim=1 if name == "edge_index" else 0).to(
                device
            )
            for name in names
        }
        self._atom_starts = np.cumsum([0, *self.num_atoms])
        self._edge_starts = np.cumsum([0, *self.num_edges])

    def capacity(self, batches: Sequence[Sequence[int]], *, room: float = 0.0) -> Capacity:
        """The smallest that holds each of the batches, in multiples of 8 atoms and 64 edges.

        There are so many atoms in the void that its edges do not crowd on one, which kernels would wait for.

        Args:
            batches: indices of graphs.
            room: share of edges to have more than are needed.
        """
        atoms = np.array([self.num_atoms[list(batch)].sum() for batch in batches])
        edges = np.array([self.num_edges[list(batch)].sum() for batch in batches])
        most_edges = 64 * -(-int(edges.max() * (1 + room)) // 64)
        in_void = np.maximum(1, -(-(most_edges - edges) // max(self.max_degree, 1)))
        most_atoms = 8 * -(-int((atoms + in_void).max()) // 8)
        return Capacity(max(len(batch) for batch in batches) + 1, most_atoms, most_edges)

    def plan(self, batches: Sequence[Sequence[int]], capacity: Capacity) -> Plan:
        """What each batch is made of, (batches, ...) on the device; `capacity` holds all of them."""
        number = len(batches)
        systems = np.full((number, capacity.systems), len(self.num_atoms))
        atoms = np.full((number, capacity.atoms), self._atom_starts[-1])
        system_of_atom = np.full((number, capacity.atoms), capacity.systems - 1)
        edges = np.full((number, capacity.edges), self._edge_starts[-1])
        first_atom = np.zeros((number, capacity.edges), dtype=np.int64)
        for row, batch in enumerate(batches):
            members = np.asarray(batch)
            systems[row, : len(members)] = members
            counts = self.num_atoms[members]
            ends = np.cumsum(counts)
            starts, n = ends - counts, int(ends[-1])
            atoms[row, :n] = np.arange(n) + np.repeat(self._atom_starts[members] - starts, counts)
            system_of_atom[row, :n] = np.repeat(np.arange(len(members)), counts)
            edge_counts = self.num_edges[members]
            edge_ends = np.cumsum(edge_counts)
            m = int(edge_ends[-1])
            edges[row, :m] = np.arange(m) + np.repeat(self._edge_starts[members] - edge_ends + edge_counts, edge_counts)
            first_atom[row, :m] = np.repeat(starts, edge_counts)
            left = capacity.edges - m
            first_atom[row, m:] = n + np.arange(left) * (capacity.atoms - n) // max(left, 1)
        return Plan(
            *(torch.from_numpy(part).to(self.device) for part in (systems, atoms, system_of_atom, edges, first_atom))
        )

    def batch(self, plan: Plan) -> AtomicGraph:
        """One batch, filled up, from one row of a plan."""
        rows = dict.fromkeys(_OF_ATOMS, plan.atoms) | dict.fromkeys(_OF_SYSTEMS, plan.systems)
        rows["edge_shifts"] = plan.edges
        graph = AtomicGraph(
            **{name: array.index_select(0, rows[name]) for name, array in self._arrays.items() if name in rows},
            edge_index=self._arrays["edge_index"].index_select(1, plan.edges) + plan.first_atom,
            batch=plan.system_of_atom,
            num_nodes=len(plan.atoms),
        )
        graph.max_degree, graph.max_atoms = self.max_degree, int(self.num_atoms.max())
        return graph
