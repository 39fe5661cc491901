"""How much the prediction of a potential depends on how a structure lies in space."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sciml.graphs import AtomicGraph, collate
from sciml.potentials.interface import Potential
from sciml.rotations import random_rotations, rotated


class RotationError(NamedTuple):
    """What `rotation_error` measures.

    Attributes:
        forces: √( mean |Rᵀ F(R x) − F(x)|² / mean |F(x)|² ) over atoms and rotations: 0 for a model that is
            equivariant, and about 1.4 for forces that know nothing of each other.
        energy_per_atom: root of the mean over structures of the variance over rotations of E(R x) / atoms, eV.
    """

    forces: float
    energy_per_atom: float


def rotation_error(
    potential: Potential, graphs: Sequence[AtomicGraph], *, num_rotations: int = 4, seed: int = 0, max_atoms: int = 2048
) -> RotationError:
    """Turn structures at random and compare; the mode of the potential is restored.

    Cost: 1 + num_rotations evaluations of each structure.

    Args:
        potential: on whichever device it is.
        graphs: single structures.
        num_rotations: of each structure, uniform and independent.
        seed: of the rotations.
        max_atoms: atoms in a batch, at most; a larger structure makes a batch of its own.

    Raises:
        ValueError: if there are no structures, fewer than one rotation, or the potential raises it.
    """
    if not graphs or num_rotations < 1:
        raise ValueError(f"got {len(graphs)} structures and {num_rotations} rotations; expected at least one of each")
    generator = torch.Generator().manual_seed(seed)
    device = next(potential.parameters()).device
    was_training = potential.training
    potential.eval()
    differences = squares = variances = 0.0
    try:
        for members in _batches(graphs, max_atoms):
            batch = collate(members).to(device)
            with torch.no_grad():
                original = potential(batch)
                energies = [original.energy]
                for _ in range(num_rotations):
                    rotations = random_rotations(len(members), like=torch.zeros(1).double(), generator=generator)
                    rotations = rotations.to(device)
                    turned = potential(rotated(batch, rotations))
                    back = _turned_back(turned.forces, rotations[batch.system_index])
                    differences += float((back - original.forces).square().sum())
                    energies.append(turned.energy)
            squares += float(original.forces.square().sum())
            sizes = torch.bincount(batch.system_index, minlength=len(members))
            variances += float((torch.stack(energies) / sizes).var(dim=0, correction=0).sum())
    finally:
        potential.train(was_training)
    # Isolated atoms have no forces to turn.
    forces = (differences / num_rotations / squares) ** 0.5 if squares > 0 else 0.0
    return RotationError(forces, (variances / len(graphs)) ** 0.5)


def _turned_back(forces: Tensor, rotations: Tensor) -> Tensor:
    return (rotations.transpose(1, 2) @ forces[:, :, None])[:, :, 0]


def _batches(graphs: Sequence[AtomicGraph], max_atoms: int) -> list[list[AtomicGraph]]:
    batches: list[list[AtomicGraph]] = [[]]
    atoms = 0
    for graph in graphs:
        if batches[-1] and atoms + graph.num_nodes > max_atoms:
            batches.append([])
            atoms = 0
        batches[-1].append(graph)
        atoms += graph.num_nodes
    return batches
