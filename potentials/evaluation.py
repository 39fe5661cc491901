"""Errors of a potential on labelled structures: per property, per group of structures and per element."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress

from sciml.graphs import AtomicGraph, check_species, collate
from sciml.potentials.checkpoint import as_device
from sciml.potentials.interface import Potential

UNITS: dict[str, str] = {"energy": "eV", "energy_per_atom": "eV", "forces": "eV/Å", "stress": "eV/Å³"}
"""What is compared, and its unit. Forces by component, stress by its six Voigt components."""


@dataclass(frozen=True)
class ErrorSummary:
    """Mean absolute and root-mean-square error over `count` numbers."""

    count: int
    mae: float
    rmse: float


@dataclass(frozen=True)
class Comparison:
    """Labels and predictions of one property, flat, with the structure (and for forces the element) of each number."""

    reference: np.ndarray
    predicted: np.ndarray
    structure: np.ndarray
    atomic_number: np.ndarray | None = None

    def summary(self, selected: np.ndarray | slice = slice(None)) -> ErrorSummary:
        """Errors of the `selected` numbers."""
        error = self.predicted[selected] - self.reference[selected]
        return ErrorSummary(len(error), float(np.abs(error).mean()), float(np.sqrt(np.square(error).mean())))


@dataclass(frozen=True)
class EvaluationResult:
    """What `evaluate` found; properties without any label are absent.

    Attributes:
        num_structures: how many structures were predicted.
        num_atoms: how many atoms they have.
        config_types: group of each structure.
        comparisons: labels and predictions, by property (the keys of `UNITS`).
    """

    num_structures: int
    num_atoms: int
    config_types: tuple[str, ...]
    comparisons: dict[str, Comparison]

    @property
    def overall(self) -> dict[str, ErrorSummary]:
        """Errors by property."""
        return {name: comparison.summary() for name, comparison in self.comparisons.items()}

    @property
    def by_config_type(self) -> dict[str, dict[str, ErrorSummary]]:
        """Errors by group of structures and property."""
        groups = np.array(self.config_types)
        return {
            str(group): {
                name: comparison.summary(selected)
                for name, comparison in self.comparisons.items()
                if (selected := groups[comparison.structure] == group).any()
            }
            for group in np.unique(groups)
        }

    @property
    def forces_by_element(self) -> dict[str, ErrorSummary]:
        """Errors of the forces by chemical symbol."""
        forces = self.comparisons.get("forces")
        if forces is None or forces.atomic_number is None:
            return {}
        numbers = forces.atomic_number
        return {chemical_symbols[z]: forces.summary(numbers == z) for z in np.unique(numbers)}

    def to_dict(self) -> dict[str, Any]:
        """All errors as JSON values."""

        def plain(summaries: Mapping[str, ErrorSummary]) -> dict[str, Any]:
            return {name: asdict(summary) for name, summary in summaries.items()}

        return {
            "num_structures": self.num_structures,
            "num_atoms": self.num_atoms,
            "units": {name: UNITS[name] for name in self.comparisons},
            "overall": plain(self.overall),
            "by_config_type": {group: plain(errors) for group, errors in self.by_config_type.items()},
            "forces_by_element": plain(self.forces_by_element),
        }


def evaluate(
    potential: Potential,
    graphs: Sequence[AtomicGraph],
    *,
    config_types: Sequence[str] | None = None,
    max_atoms: int = 2048,
    max_edges: int = 65536,
    device: str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> EvaluationResult:
    """Predict labelled graphs and compare; NaN labels are left out.

    The potential is moved to `device` and evaluated in evaluation mode; its mode is restored.

    Args:
        potential: the potential.
        graphs: structures with any of the labels `energy`, `forces` and `stress`.
        config_types: group of each structure; one group "default" if None.
        max_atoms: atoms in a batch, at most; a larger structure makes a batch of its own.
        max_edges: edges in a batch, at most, likewise.
        device: where the potential runs.
        progress: called with the number of structures after each batch.

    Raises:
        ValueError: if there are no structures or no labels, numbers of structures and groups differ, a limit is not
            positive, an element is unknown, or a prediction is not finite.
    """
    config_types = ["default"] * len(graphs) if config_types is None else config_types
    if len(graphs) == 0:
        raise ValueError("got no structures to evaluate")
    if max_atoms < 1 or max_edges < 1:
        raise ValueError(f"got max_atoms={max_atoms} and max_edges={max_edges}; expected positive numbers")
    if len(config_types) != len(graphs):
        raise ValueError(f"got {len(graphs)} structures and {len(config_types)} config_types; expected one for each")
    _check_species(potential, graphs)
    collected: dict[str, list[tuple[np.ndarray, ...]]] = {name: [] for name in UNITS}
    was_training = potential.training
    potential.to(as_device(device)).eval()
    try:
        for first, batch in _batches(graphs, max_atoms=max_atoms, max_edges=max_edges):
            _compare(potential, batch, first, device, collected)
            if progress is not None:
                progress(len(batch))
    finally:
        potential.train(was_training)
    comparisons = {}
    for name, parts in collected.items():
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        if columns[0].size:
            comparisons[name] = Comparison(*columns)
    if not comparisons:
        raise ValueError("none of the structures has an energy, forces or a stress to compare with")
    return EvaluationResult(len(graphs), sum(graph.num_nodes for graph in graphs), tuple(config_types), comparisons)


def _check_species(potential: Potential, graphs: Sequence[AtomicGraph]) -> None:
    for index, graph in enumerate(graphs):
        try:
            check_species(graph.atomic_numbers, potential.species)
        except ValueError as error:
            raise ValueError(f"structure {index}: {error}") from None


def _batches(
    graphs: Sequence[AtomicGraph], *, max_atoms: int, max_edges: int
) -> Iterator[tuple[int, Sequence[AtomicGraph]]]:
    """Consecutive graphs up to the limits, each batch with the index of its first graph."""
    first, atoms, edges = 0, 0, 0
    for index, graph in enumerate(graphs):
        atoms, edges = atoms + graph.num_nodes, edges + graph.num_edges
        if index > first and (atoms > max_atoms or edges > max_edges):
            yield first, graphs[first:index]
            first, atoms, edges = index, graph.num_nodes, graph.num_edges
    yield first, graphs[first:]


def _compare(
    potential: Potential,
    batch: Sequence[AtomicGraph],
    first: int,
    device: str,
    collected: dict[str, list[tuple[np.ndarray, ...]]],
) -> None:
    """Append label, prediction, structure (and element) of every number that has a label."""
    graph = collate(batch)
    energy, _, forces, stress = (tensor.cpu().numpy() for tensor in potential(graph.to(device)))
    sizes = np.array([member.num_nodes for member in batch])
    structures = np.arange(first, first + len(batch))
    numbers = graph.atomic_numbers.cpu().numpy()
    periodic = graph.pbc.all(dim=1).cpu().numpy()
    finite = np.isfinite(np.add.reduceat(forces.sum(axis=1), np.cumsum(sizes) - sizes) + energy)
    if not finite.all():
        raise ValueError(f"the prediction for structure {structures[~finite][0]} is not finite")

    reference = _label(batch, "energy", energy.shape)
    known = ~np.isnan(reference)
    collected["energy"].append((reference[known], energy[known], structures[known]))
    per_atom = (reference / sizes)[known], (energy / sizes)[known], structures[known]
    collected["energy_per_atom"].append(per_atom)

    reference = _label(batch, "forces", forces.shape)
    known = ~np.isnan(reference)
    owners = np.broadcast_to(np.repeat(structures, sizes)[:, None], forces.shape)
    elements = np.broadcast_to(numbers[:, None], forces.shape)
    collected["forces"].append((reference[known], forces[known], owners[known], elements[known]))

    reference = full_3x3_to_voigt_6_stress(_label(batch, "stress", stress.shape))
    known = ~np.isnan(reference) & periodic[:, None]
    owners = np.broadcast_to(structures[:, None], reference.shape)
    collected["stress"].append((reference[known], full_3x3_to_voigt_6_stress(stress)[known], owners[known]))


def _label(batch: Sequence[AtomicGraph], name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Label `name` of the batch, NaN where a graph has none."""
    parts = []
    for graph in batch:
        length = graph.num_nodes if name == "forces" else 1
        label = graph.get(name)
        parts.append(np.full((length, *shape[1:]), np.nan) if label is None else label.cpu().numpy())
    return np.concatenate(parts).reshape(shape)
