"""What `sciml train` makes of the structures before the first step: the potential, its statistics, the loss."""

import hashlib
import inspect
import json
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ase.data import chemical_symbols

from sciml.datasets import LabelledStructure, energy_shifts, labelled_graph, reference_energies
from sciml.graphs import AtomicGraph
from sciml.potentials.checkpoint import build_potential, load_potential, model_class, potential_dtype, read_config
from sciml.potentials.interface import Potential
from sciml.potentials.rotation_error import RotationError, rotation_error
from sciml.potentials.training_domain import TrainingDomain, read_training_domain
from sciml.training.losses import LossTerm

logger = logging.getLogger("sciml.train")

LARGEST_EQUIVARIANCE_ERROR = 1e-5
"""Relative; beyond this, turning a structure changes its energy and forces noticeably."""

ROTATED_STRUCTURES = 8
"""Validation structures on which the rotation error of a potential without symmetry is measured, at every epoch."""

LABELS = {"energy_per_atom": "energy", "forces": "forces", "stress": "stress"}


def prepare(
    isolated: Sequence[LabelledStructure],
    train_set: Sequence[LabelledStructure],
    *,
    model: Mapping[str, Any],
    energies: str | Mapping[str, float],
    init_from: str | None,
    seed: int,
) -> tuple[Potential, list[AtomicGraph]]:
    """The potential before training, on the CPU, and the graphs of the training structures.

    Args:
        isolated: isolated atoms, for the reference energies.
        train_set: those to train on.
        model: name and arguments of the model.
        energies: source of the reference energies, or the energies themselves.
        init_from: checkpoint to start from.
        seed: of the initial weights.

    Raises:
        ValueError: if model, checkpoint and elements do not fit together.
    """
    elements = sorted({int(number) for structure in train_set for number in structure.atoms.numbers})
    structures = [*isolated, *train_set]
    if init_from is not None:
        potential = pretrained(init_from, structures, elements, model=model, energies=energies)
        return potential, [labelled_graph(structure, potential.cutoff) for structure in train_set]

    arguments = dict(model)
    name = arguments.pop("name", "facet")
    accepted = inspect.signature(model_class(name)).parameters
    species = list(arguments.get("species", elements))
    unknown = [chemical_symbols[number] for number in elements if number not in species]
    if unknown:
        raise ValueError(f"the training structures contain {', '.join(unknown)}, which model.species does not have")
    known: dict[str, Any] = {"species": species}
    if "reference_energies" in accepted and "reference_energies" not in arguments:
        found = reference_energies(structures, energies)
        logger.info("reference energies (eV): %s", ", ".join(f"{s} {e:.6f}" for s, e in found.items()))
        known["reference_energies"] = [found.get(chemical_symbols[number], 0.0) for number in species]
    # The cutoff may be the model's default; only a model knows it.
    cutoff = build_potential(name, {**known, **arguments}).cutoff
    graphs = [labelled_graph(structure, cutoff) for structure in train_set]
    known |= {key: value for key, value in statistics(graphs).items() if key in accepted}
    if "shifts" in accepted and "shifts" not in arguments:
        energies_of_atoms = {**known, **arguments}.get("reference_energies") or [0.0] * len(species)
        references = {chemical_symbols[z]: e for z, e in zip(species, energies_of_atoms, strict=True)}
        shifts = energy_shifts(train_set, references)
        logger.info("initial shifts (eV): %s", ", ".join(f"{s} {e:.6f}" for s, e in shifts.items()))
        known["shifts"] = list(shifts.values())
    torch.manual_seed(seed)
    return build_potential(name, {**known, **arguments}), graphs


def statistics(graphs: Sequence[AtomicGraph]) -> dict[str, float]:
    """Average number of neighbours of an atom, and the root mean square of the force components as energy scale."""
    num_atoms = sum(graph.num_nodes for graph in graphs)
    neighbors = sum(graph.edge_index.shape[1] for graph in graphs) / num_atoms
    forces = torch.cat([graph.forces.flatten() for graph in graphs])
    known = forces[~forces.isnan()]
    rms = float(known.square().mean().sqrt()) if len(known) else 0.0
    return {
        # A gas of isolated atoms has no neighbours, and forces may be missing or zero: scales stay positive.
        "average_num_neighbors": max(neighbors, 1.0),
        "energy_scale": rms if 0 < rms < math.inf else 1.0,
    }


def training_domain(graphs: Sequence[AtomicGraph], init_from: str | None) -> TrainingDomain:
    """What is seen in training; with what the checkpoint to start from has seen, if it says so."""
    domain = TrainingDomain.of(graphs)
    earlier = None if init_from is None else read_training_domain(init_from)
    return domain if earlier is None else domain.joined(earlier)


def pretrained(
    init_from: str,
    structures: Sequence[LabelledStructure],
    elements: Sequence[int],
    *,
    model: Mapping[str, Any],
    energies: str | Mapping[str, float],
) -> Potential:
    """The potential of the checkpoint, with new reference energies unless their source is "auto"."""
    description = read_config(init_from)
    stored = {"name": description["model"], **description["config"]}
    given = {key: value for key, value in model.items() if stored.get(key) != value}
    heads = model_class(description["model"]).heads
    if set(given) - set(heads) and model != {"name": "facet"}:
        raise ValueError(
            f"model has {given} but the checkpoint {init_from} has { {k: stored.get(k) for k in given} }; "
            "a model that starts from a checkpoint has its architecture: leave `model` out"
        )
    changed = {key: value for key, value in given.items() if key in heads}
    source = load_potential(init_from)
    unknown = [chemical_symbols[number] for number in elements if number not in source.species]
    if unknown:
        raise ValueError(
            f"the training structures contain {', '.join(unknown)}, but the checkpoint {init_from} knows only "
            f"{', '.join(chemical_symbols[number] for number in source.species)}; leave these structures out, or train "
            "without init_from"
        )
    if energies == "auto" and not changed:
        return source
    new = {} if energies == "auto" else reference_energies(structures, energies)
    old = stored.get("reference_energies") or [0.0] * len(source.species)
    if isinstance(old, Mapping):
        old = [old[chemical_symbols[number]] for number in source.species]
    merged = [new.get(chemical_symbols[number], e) for number, e in zip(source.species, old, strict=True)]
    potential = build_potential(
        description["model"], {**description["config"], **changed, "reference_energies": merged}
    )
    potential.to(potential_dtype(source))
    # Only what was learned: the reference energies are constants of the model.
    left_out = potential.load_state_dict(dict(source.named_parameters()), strict=False)
    fresh = [name for name in left_out.missing_keys if name in dict(potential.named_parameters())]
    if changed:
        logger.info(
            "changed from the checkpoint: %s; weights left behind: %d tensors, new: %s",
            *(changed, len(left_out.unexpected_keys), ", ".join(fresh) or "none"),
        )
    return potential


def loss_terms(
    terms: Mapping[str, LossTerm], graphs: Sequence[AtomicGraph], valid_graphs: Sequence[AtomicGraph]
) -> dict[str, LossTerm]:
    """The terms whose labels exist.

    Raises:
        ValueError: if there is nothing to train on or to validate with.
    """
    kept = {}
    for target, label in LABELS.items():
        if any(not graph[label].isnan().all() for graph in graphs):
            kept[target] = terms[target]
        else:
            logger.info("the training structures have no %s; its term is left out of the loss", label)
    weighted = [LABELS[target] for target, term in kept.items() if term.weight > 0]
    if not weighted:
        raise ValueError("the training structures have none of the labels whose loss weight is positive")
    missing = [label for label in weighted if all(graph[label].isnan().all() for graph in valid_graphs)]
    if len(missing) == len(weighted):
        raise ValueError(f"the validation structures have no {' and no '.join(missing)}; nothing can be validated")
    if missing:
        logger.warning("the validation structures have no %s", " and no ".join(missing))
    return kept


def equivariance_error(potential: torch.nn.Module) -> float | None:
    """Relative equivariance error of the potential's grids and products; None if it has none (it is exact)."""
    measure = getattr(potential, "equivariance_error", None)
    return None if measure is None else float(measure())


def report_equivariance(potential: Potential) -> None:
    """Log the equivariance error of a potential that is to be trained, and warn if it is large."""
    error = equivariance_error(potential)
    if error is None:
        return
    logger.info("equivariance error of sphere grids and tensor products: %.1e (relative, before training)", error)
    if error > LARGEST_EQUIVARIANCE_ERROR:
        logger.warning(
            "a rotation changes what sphere grids and tensor products of this model compute by %.1e (relative; wanted: "
            "below %.0e): energies will depend on the orientation of the structure. model.activation = product is "
            "exact on its grid%s, and so is every tensor product but cp of a low rank",
            *(error, LARGEST_EQUIVARIANCE_ERROR),
            f", this model has {potential.config['activation']}" if "activation" in potential.config else "",
        )


def measured_rotation_error(potential: Potential, graphs: Sequence[AtomicGraph]) -> RotationError | None:
    """How much the prediction of a potential without symmetry changes when some of the structures turn; else None."""
    return None if potential.symmetry != "none" else rotation_error(potential, graphs[:ROTATED_STRUCTURES])


def describe_rotation_error(error: RotationError) -> str:
    """One line for the log and the console."""
    return (
        f"rotation error: forces {error.forces:.2%} (relative), "
        f"energy {1e3 * error.energy_per_atom:.3g} meV/atom (standard deviation over rotations)"
    )


def describe_potential(potential: Potential) -> str:
    """Its arguments as JSON; floats in nine digits, so that another number of threads gives the same text."""

    def rounded(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: rounded(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [rounded(item) for item in value]
        return float(f"{value:.9g}") if isinstance(value, float) else value

    return json.dumps(rounded(potential.config), sort_keys=True)


def digest(graphs: Sequence[AtomicGraph]) -> str:
    """SHA-256 of structures and labels."""
    sha = hashlib.sha256()
    for graph in graphs:
        for name in ("atomic_numbers", "positions", "cell", "pbc", "energy", "forces", "stress"):
            sha.update(graph[name].contiguous().numpy().tobytes())
    return sha.hexdigest()[:16]
