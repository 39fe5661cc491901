"""Neighbour lists of many structures at once, which are reused while their atoms move little."""

import math

import torch
from torch import Tensor

from sciml.neighbors import neighbor_list


class BatchedVerletList:
    """The neighbour lists of a batch of structures, each built with a margin, the skin.

    `update` returns what `neighbor_list` returns for each structure, one after the other. The list of a structure is
    built anew when an atom has moved by skin / 2 relative to the others, or its cell has changed; whether one has is
    found for all structures together, without a loop.

    Args:
        cutoff: Å.
        skin: Å; with 0 every update builds all lists.

    Attributes:
        num_builds: how many lists of single structures were built.

    Raises:
        ValueError: if the cutoff is not positive or the skin negative; `update` raises what `neighbor_list` raises.
    """

    def __init__(self, cutoff: float, *, skin: float = 0.5) -> None:
        if not (0 < cutoff < math.inf and 0 <= skin < math.inf):
            raise ValueError(f"got cutoff={cutoff} and skin={skin}; expected a positive length and one not negative, Å")
        self.cutoff, self.skin = float(cutoff), float(skin)
        self.num_builds = 0
        self._reference: tuple[Tensor, Tensor, Tensor, Tensor] | None = None  # positions, cells, pbc, systems
        self._lists: list[tuple[Tensor, Tensor]] = []  # of each structure, in its own numbers
        self._joined: tuple[Tensor, Tensor] | None = None

    def update(self, positions: Tensor, cells: Tensor, pbc: Tensor, systems: Tensor) -> tuple[Tensor, Tensor]:
        """Edges (2, edges), sorted by receiver, and shifts (edges, 3); new tensors at each call.

        Args:
            positions: (atoms, 3), Å, float64.
            cells: (systems, 3, 3), Å, float64, rows are the cell vectors.
            pbc: (systems, 3), bool.
            systems: (atoms,), ascending: the structure of each atom.
        """
        old = self._reference
        same = old is not None and all(
            a.shape == b.shape and bool((a == b).all()) for a, b in ((systems, old[3]), (pbc, old[2]))
        )
        if not same or old is None:
            old = (torch.full_like(positions, torch.inf), cells.clone(), pbc.clone(), systems.clone())
            self._lists = [(systems.new_empty(2, 0), positions.new_empty(0, 3))] * len(cells)
        points, rows, _, _ = old
        counts = torch.bincount(systems, minlength=len(cells))
        stale = self._stale(positions - points, cells, rows, systems, counts)
        self._reference = None  # should a build fail, all begins anew
        if len(stale):
            ends = counts.cumsum(0).tolist()
            for number in stale:
                atoms = slice(ends[number - 1] if number else 0, ends[number])
                self._lists[number] = neighbor_list(
                    positions[atoms], cells[number], pbc[number], self.cutoff + self.skin
                )
                points[atoms], rows[number] = positions[atoms], cells[number]
                self.num_builds += 1
            starts = [0, *ends[:-1]]
            edges = torch.cat([one + start for (one, _), start in zip(self._lists, starts, strict=True)], dim=1)
            self._joined = edges, torch.cat([shifts for _, shifts in self._lists])
        self._reference = old
        assert self._joined is not None
        edge_index, shifts = self._joined
        senders, receivers = edge_index
        vectors = positions[senders] - positions[receivers]
        vectors = vectors + torch.einsum("ea,eab->eb", shifts, cells[systems[receivers]])
        keep = torch.nonzero(vectors.square().sum(dim=1) < self.cutoff**2).flatten()
        return edge_index.index_select(1, keep), shifts.index_select(0, keep)

    def _stale(self, moved: Tensor, cells: Tensor, rows: Tensor, systems: Tensor, counts: Tensor) -> list[int]:
        """Structures whose lists may lack an edge."""
        mean = moved.new_zeros(len(cells), 3).index_add(0, systems, moved) / counts[:, None]
        lengths = torch.linalg.vector_norm(moved - mean[systems], dim=1)  # NaN before the first build
        farthest = lengths.new_zeros(len(cells)).scatter_reduce(0, systems, lengths, "amax")
        # A strict comparison with room for rounding, which fails for NaN and for a skin of zero.
        fresh = (2 * farthest < self.skin - 1e-9) & (cells == rows).flatten(1).all(dim=1)
        return torch.nonzero(~fresh).flatten().tolist()
