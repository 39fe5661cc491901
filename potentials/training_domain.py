"""Where a potential has learned: how close atoms came, and how large forces were, in its training structures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from ase.data import atomic_numbers, chemical_symbols

from sciml.graphs import AtomicGraph
from sciml.potentials.checkpoint import read_config

KEY = "training_domain"  # in the metadata of a checkpoint


@dataclass(frozen=True)
class TrainingDomain:
    """What was seen in training.

    Attributes:
        shortest: Å, of each pair of atomic numbers (the smaller first) the shortest distance, among those below the
            cutoff; a pair that is not there never came that close.
        largest_force: eV/Å, length of the largest force on an atom; NaN if the structures had none.
    """

    shortest: Mapping[tuple[int, int], float]
    largest_force: float

    @classmethod
    def of(cls, graphs: Sequence[AtomicGraph]) -> Self:
        """Domain of labelled graphs of single structures, each with all edges below the cutoff."""
        shortest: dict[tuple[int, int], float] = {}
        largest = math.nan
        for graph in graphs:
            pairs = graph.atomic_numbers[graph.edge_index].sort(dim=0).values  # (2, edges)
            lengths = torch.linalg.vector_norm(graph.edge_vectors(), dim=1)
            kinds, kind = pairs.unique(dim=1, return_inverse=True)
            least = lengths.new_full((kinds.shape[1],), math.inf).scatter_reduce(0, kind, lengths, "amin")
            for (a, b), length in zip(kinds.T.tolist(), least.tolist(), strict=True):
                shortest[a, b] = min(length, shortest.get((a, b), math.inf))
            sizes = torch.linalg.vector_norm(graph.forces, dim=1)
            sizes = sizes[~sizes.isnan()]
            if len(sizes):
                largest = max(float(sizes.max()), 0.0 if math.isnan(largest) else largest)
        return cls(dict(sorted(shortest.items())), largest)

    def joined(self, other: Self) -> Self:
        """What was seen in either training: of a potential that is trained further."""
        pairs = sorted({*self.shortest, *other.shortest})
        shortest = {p: min(self.shortest.get(p, math.inf), other.shortest.get(p, math.inf)) for p in pairs}
        forces = [force for force in (self.largest_force, other.largest_force) if not math.isnan(force)]
        return type(self)(shortest, max(forces, default=math.nan))

    def to_json(self) -> dict[str, Any]:
        """JSON values: {"shortest_distances": {"H-O": 0.93}, "largest_force": 12.3}."""
        names = {"-".join(chemical_symbols[z] for z in pair): length for pair, length in self.shortest.items()}
        force = None if math.isnan(self.largest_force) else self.largest_force
        return {"shortest_distances": names, "largest_force": force}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        shortest = {}
        for name, length in content["shortest_distances"].items():
            first, second = sorted(atomic_numbers[symbol] for symbol in name.split("-"))
            shortest[first, second] = float(length)
        force = content["largest_force"]
        return cls(shortest, math.nan if force is None else float(force))


def read_training_domain(folder_or_name: str | Path) -> TrainingDomain | None:
    """The training domain of a checkpoint, None if it was saved without.

    Raises:
        ValueError: if there is no such checkpoint, or its domain is damaged.
    """
    content = read_config(folder_or_name).get("metadata", {}).get(KEY)
    if content is None:
        return None
    try:
        return TrainingDomain.from_json(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"the {KEY} in config.json of {folder_or_name} is damaged: {error!r}") from error
