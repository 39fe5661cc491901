"""Batches of graphs that are sized by atoms and edges, and shared out among processes."""

from collections.abc import Iterator, Sequence

import numpy as np


class GraphBatchSampler:
    """Indices of the graphs of each batch, for one of `world_size` processes.

    The graphs, shuffled or not, are cut into consecutive batches: one ends where the next graph would exceed
    `batch_size`, `max_atoms` or `max_edges`. All three bound the whole batch, summed over the processes, because the
    batches, and with them the result of a training, do not depend on `world_size`. Each process gets a share of every
    batch, balanced by edges (the next largest graph goes to the least loaded process, whose load is thus at most the
    mean load plus one graph). A share is empty if the batch has fewer graphs than there are processes; the number of
    steps is the same for all.

    Serves as the `batch_sampler` of a `torch.utils.data.DataLoader`, with `sciml.graphs.collate` as its `collate_fn`.

    Args:
        num_atoms: (graphs,), atoms of each graph.
        num_edges: (graphs,), edges of each graph.
        batch_size: most graphs in a batch.
        max_atoms: most atoms in a batch; None for no limit.
        max_edges: most edges in a batch; None for no limit. Memory and time go with it.
        shuffle: whether each epoch has another order. It is a pure function of `seed` and the epoch.
        seed: not negative.
        rank: which process this is.
        world_size: how many there are.

    Raises:
        ValueError: if there are no graphs, one exceeds a limit by itself, or an argument is out of range.
    """

    def __init__(
        self,
        num_atoms: Sequence[int],
        num_edges: Sequence[int],
        *,
        batch_size: int,
        max_atoms: int | None = None,
        max_edges: int | None = None,
        shuffle: bool,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._atoms = [int(n) for n in num_atoms]
        self._edges = [int(n) for n in num_edges]
        if len(self._atoms) != len(self._edges) or not self._atoms:
            raise ValueError(
                f"got the atoms of {len(self._atoms)} and the edges of {len(self._edges)} graphs; "
                "expected as many of both, and at least one"
            )
        for name, value in (("batch_size", batch_size), ("max_atoms", max_atoms), ("max_edges", max_edges)):
            if value is not None and value < 1:
                raise ValueError(f"got {name}={value}; expected at least 1")
        if not 0 <= rank < world_size:
            raise ValueError(f"got rank={rank} of world_size={world_size}; expected 0 <= rank < world_size")
        if seed < 0:
            raise ValueError(f"got seed={seed}; expected a number that is not negative")
        for kind, counts, limit in (("atoms", self._atoms, max_atoms), ("edges", self._edges, max_edges)):
            if limit is not None and max(counts) > limit:
                graph = counts.index(max(counts))
                raise ValueError(
                    f"graph {graph} alone has {counts[graph]} {kind}, more than max_{kind}={limit}; "
                    f"raise max_{kind}, or leave the structure out"
                )
        self.batch_size, self.max_atoms, self.max_edges = batch_size, max_atoms, max_edges
        self.shuffle, self.seed, self.epoch = shuffle, seed, 0
        self.rank, self.world_size = rank, world_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the given epoch."""
        if epoch < 0:
            raise ValueError(f"got epoch={epoch}; expected a number that is not negative")
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.global_batches():
            yield self._shares(batch)[self.rank]

    def __len__(self) -> int:
        """Number of batches of this epoch; with limits on atoms or edges it can differ from epoch to epoch."""
        return len(self.global_batches())

    def global_batches(self) -> list[list[int]]:
        """The batches of this epoch, as they are in all processes together."""
        order = range(len(self._atoms))
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self._atoms)).tolist()
        batches: list[list[int]] = [[]]
        atoms = edges = 0
        for graph in order:
            atoms += self._atoms[graph]
            edges += self._edges[graph]
            if (
                len(batches[-1]) == self.batch_size
                or (self.max_atoms is not None and atoms > self.max_atoms)
                or (self.max_edges is not None and edges > self.max_edges)
            ):
                batches.append([])
                atoms, edges = self._atoms[graph], self._edges[graph]
            batches[-1].append(graph)
        return batches

    def _shares(self, batch: list[int]) -> list[list[int]]:
        """The batch divided among the processes, each share in the order of the batch."""
        loads = [(0, 0, rank) for rank in range(self.world_size)]  # edges, atoms, rank
        owner = {}
        for graph in sorted(batch, key=lambda graph: (-self._edges[graph], -self._atoms[graph])):
            edges, atoms, rank = min(loads)
            loads[rank] = (edges + self._edges[graph], atoms + self._atoms[graph], rank)
            owner[graph] = rank
        return [[graph for graph in batch if owner[graph] == rank] for rank in range(self.world_size)]
