"""Structures made of a potential's own species, what it predicts for them, and how far two predictions differ."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import covalent_radii
from scipy.stats import special_ortho_group

from sciml.graphs import collate, graph_from_atoms


@dataclass(frozen=True)
class Structures:
    """Structures on which a potential is tested: a molecule and a skewed crystal whose cell is smaller than the cutoff.

    Attributes:
        molecule: not periodic.
        crystal: periodic along all axes.
        primitive: a crystal with one atom in the cell.
        spacing: typical distance of neighbours, Å.
    """

    molecule: Atoms
    crystal: Atoms
    primitive: Atoms
    spacing: float

    def seen_by(self, potential: Any) -> list[Atoms]:
        """Molecule and crystal, or the molecule alone if the potential takes no periodic structures."""
        return [self.molecule, self.crystal] if potential.periodic else [self.molecule]


@dataclass(frozen=True)
class Prediction:
    """Output of a potential for one structure as numpy arrays: eV, eV/Å, eV/Å³."""

    energy: float
    energies: np.ndarray
    forces: np.ndarray
    stress: np.ndarray


def make_structures(species: Sequence[int], cutoff: float, *, generator: np.random.Generator) -> Structures:
    """Jittered lattices of at most eight of the `species`, dense enough that every atom has neighbours."""
    chosen = generator.permutation(species)[:8]
    spacing = min(2.2 * float(np.mean(covalent_radii[chosen])), 0.6 * cutoff)
    sites = np.array(list(itertools.product(range(2), repeat=3)), dtype=float)  # (8, 3)
    numbers = np.resize(chosen, len(sites))

    def jittered() -> np.ndarray:
        return spacing * (sites + generator.uniform(-0.15, 0.15, sites.shape))

    def cell(length: float) -> np.ndarray:
        return length * (np.eye(3) + np.tril(generator.uniform(-0.2, 0.2, (3, 3)), -1))

    return Structures(
        molecule=Atoms(numbers, positions=jittered()),
        crystal=Atoms(numbers, positions=jittered(), cell=cell(2 * spacing), pbc=True),
        primitive=Atoms(chosen[:1], positions=[[0.1, 0.2, 0.3]], cell=cell(spacing), pbc=True),
        spacing=spacing,
    )


def random_rotation(generator: np.random.Generator) -> np.ndarray:
    """Draw a rotation matrix uniformly, (3, 3)."""
    return special_ortho_group.rvs(3, random_state=generator)


def predict(potential: Any, structures: Sequence[Atoms], *, batch_size: int = 16) -> list[Prediction]:
    """Predict each structure, `batch_size` of them at once."""
    predictions = []
    device = next(itertools.chain(potential.parameters(), potential.buffers()), torch.empty(0)).device
    for start in range(0, len(structures), batch_size):
        part = structures[start : start + batch_size]
        output = potential(collate([graph_from_atoms(atoms, potential.cutoff) for atoms in part]).to(device))
        ends = np.cumsum([len(atoms) for atoms in part])[:-1]
        fields = (output.energy, output.energies, output.forces, output.stress)
        energy, energies, forces, stress = (tensor.cpu().numpy() for tensor in fields)
        per_atom = zip(np.split(energies, ends), np.split(forces, ends), strict=True)
        predictions += [Prediction(float(energy[i]), e, f, stress[i]) for i, (e, f) in enumerate(per_atom)]
    return predictions


def interaction(potential: Any, atoms: Atoms) -> float:
    """Scale of the interaction energies of the atoms, eV: max |e_i - e_i(isolated)|."""
    alone = {z: p.energy for z, p in isolated_atoms(potential, sorted(set(atoms.numbers))).items()}
    return float(np.abs(predict(potential, [atoms])[0].energies - [alone[z] for z in atoms.numbers]).max())


def isolated_atoms(potential: Any, species: Sequence[int]) -> dict[int, Prediction]:
    """Prediction for one atom alone, by atomic number."""
    return dict(zip(species, predict(potential, [Atoms([z], positions=[[0, 0, 0]]) for z in species]), strict=True))


def relative_difference(potential: Any, atoms: Atoms, measured: Prediction, expected: Prediction) -> float:
    """Largest difference of atomic energies, forces and (in a crystal) stress, each relative to its scale."""
    scale = interaction(potential, atoms)
    # Forces that are no gradient may come without a stress; then it is NaN for all.
    stressed = atoms.pbc.all() and (potential.conservative or not np.isnan([measured.stress, expected.stress]).all())
    ratios = [
        abs(measured.energy - expected.energy) / (len(measured.energies) * scale),
        np.abs(measured.energies - expected.energies).max() / scale,
        np.abs(measured.forces - expected.forces).max() / _force_scale(expected, atoms, scale, stressed),
    ]
    if stressed:
        ratios.append(np.abs(measured.stress - expected.stress).max() / np.abs(expected.stress).max())
    return float(np.max(ratios))  # np.max, unlike max, keeps a NaN


def _force_scale(expected: Prediction, atoms: Atoms, interaction_energy: float, stressed: bool) -> float:
    # By symmetry the forces in a primitive crystal vanish; energies and virials per atom and Å then set the scale.
    scales = [np.abs(expected.forces).max(), interaction_energy * 1e-3]
    if stressed:
        scales.append(np.abs(expected.stress).max() * atoms.get_volume() / len(atoms))
    return float(np.max(scales))
