"""Atoms of a batch side by side, one row for each system, so that attention inside systems is a few matrix products."""

from typing import NamedTuple

import torch
from torch import Tensor

from sciml.graphs import AtomicGraph


class DenseLayout(NamedTuple):
    """Where the atoms of a batch lie in a tensor (systems, width, ...).

    Attributes:
        place: (atoms,), of each atom in the flattened first two axes; behind their end where a system has too many.
        occupied: (systems, width), whether there is an atom.
    """

    place: Tensor
    occupied: Tensor

    def fill(self, values: Tensor) -> Tensor:
        """Values of atoms, (atoms, channels), as (systems, width, channels), zero where there is no atom."""
        systems, width = self.occupied.shape
        dense = values.new_zeros(systems * width + 1, values.shape[1]).index_copy(0, self.place, values)
        return dense[:-1].unflatten(0, (systems, width))

    def take(self, dense: Tensor) -> Tensor:
        """Values of atoms, (atoms, channels), from (systems, width, channels); zero for those without a place."""
        flat = dense.flatten(0, 1)
        return torch.cat([flat, flat.new_zeros(1, flat.shape[1])]).index_select(0, self.place)


def dense_layout(graph: AtomicGraph) -> DenseLayout:
    """The layout of a graph whose atoms are sorted by system, as `collate` sorts them.

    Its width is the number `max_atoms` that the graph may have as an attribute, and only padding may exceed it. Without
    it, the width of a batch is read from the device, which waits for it.
    """
    counts = system_sizes(graph)
    width = graph.get("max_atoms")
    if width is None:
        width = graph.num_nodes if graph.num_systems == 1 else int(counts.max())
    first = counts.cumsum(0) - counts  # (systems,)
    systems = graph.system_index
    numbers = torch.arange(graph.num_nodes, device=systems.device)
    number = numbers - first[systems]
    place = torch.where(number < width, systems * width + number, graph.num_systems * width)
    occupied = torch.arange(width, device=systems.device) < counts[:, None]
    return DenseLayout(place, occupied)


def system_sizes(graph: AtomicGraph) -> Tensor:
    """Number of atoms of each system, (systems,), int64; unlike `torch.bincount` it does not wait for the device."""
    systems = graph.system_index
    return systems.new_zeros(graph.num_systems).index_add(0, systems, torch.ones_like(systems))
