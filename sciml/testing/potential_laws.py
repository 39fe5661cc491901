"""The laws that a potential obeys, one function each, which returns the measured error."""

import copy
import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes

from sciml.testing.structures import (
    Prediction,
    Structures,
    interaction,
    isolated_atoms,
    predict,
    relative_difference,
)


def force_error(potential: Any, structures: Structures, *, generator: np.random.Generator) -> float:
    """Forces against -dE/dx: every component in the molecule, random directions in the crystal, over max |F|."""
    errors = []
    for atoms, count in zip(structures.seen_by(potential), (None, 3), strict=False):
        size = 3 * len(atoms)
        directions = np.eye(size) if count is None else generator.normal(size=(count, size)) / np.sqrt(size)
        directions = directions.reshape(-1, len(atoms), 3)
        forces = predict(potential, [atoms])[0].forces

        def displaced(direction: np.ndarray, step: float, atoms: Atoms = atoms) -> Atoms:
            moved = atoms.copy()
            moved.positions += step * direction
            return moved

        expected = -np.einsum("dnx,nx->d", directions, forces)
        errors.append(_slope_error(potential, displaced, directions, expected) / np.abs(forces).max())
    return float(np.max(errors))


def stress_error(potential: Any, crystal: Atoms) -> float:
    """Stress against dE/dε / V for the six symmetric strains, over max |stress|."""
    pairs = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]
    strains = np.zeros((6, 3, 3))
    for strain, (a, b) in zip(strains, pairs, strict=True):
        strain[a, b] += 0.5
        strain[b, a] += 0.5

    def strained(strain: np.ndarray, step: float) -> Atoms:
        deformed = crystal.copy()
        deformed.set_cell(crystal.cell.array @ (np.eye(3) + step * strain), scale_atoms=True)
        return deformed

    stress = predict(potential, [crystal])[0].stress
    expected = np.array([stress[a, b] for a, b in pairs]) * crystal.get_volume()
    error = _slope_error(potential, strained, strains, expected)
    return error / (np.abs(stress).max() * crystal.get_volume())


def _slope_error(
    potential: Any, change: Callable[[np.ndarray, float], Atoms], directions: np.ndarray, expected: np.ndarray
) -> float:
    """Largest error of the `expected` change of energy along the directions, (directions,), in units of `expected`.

    Central differences with one Richardson step, of error O(h⁴), or O(h²) where a spline has a knot. The best of
    several h counts: truncation falls with h and rounding grows, but a wrong derivative is wrong at each.
    """
    errors = []
    for step in (2e-4, 4e-5, 8e-6):
        energies = [
            p.energy for p in predict(potential, [change(d, k * step) for d in directions for k in (-2, -1, 1, 2)])
        ]
        e = np.array(energies).reshape(-1, 4)
        slopes = (8 * (e[:, 2] - e[:, 1]) - (e[:, 3] - e[:, 0])) / (12 * step)
        errors.append(float(np.abs(slopes - expected).max()))
    return float(np.min(errors))


def rotation_error(potential: Any, structures: Structures, matrix: np.ndarray) -> float:
    """Energies invariant, forces and stress covariant under an orthogonal `matrix` (rotation or inversion)."""
    errors = []
    for atoms in structures.seen_by(potential):
        turned = atoms.copy()
        turned.set_cell(atoms.cell.array @ matrix.T)
        turned.positions = atoms.positions @ matrix.T
        before, after = predict(potential, [atoms, turned])
        stress = matrix @ before.stress @ matrix.T
        expected = Prediction(before.energy, before.energies, before.forces @ matrix.T, stress)
        errors.append(relative_difference(potential, atoms, after, expected))
    return float(np.max(errors))


def translation_error(potential: Any, structures: Structures, *, generator: np.random.Generator) -> float:
    """Nothing changes if all atoms are shifted, nor in a crystal if one atom is moved by a lattice vector."""
    errors = []
    for atoms in structures.seen_by(potential):
        shifted = atoms.copy()
        shifted.positions += generator.uniform(-5, 5, 3)
        shifted.positions[0] += np.array([2, -1, 1]) @ atoms.cell.array
        before, after = predict(potential, [atoms, shifted])
        errors.append(relative_difference(potential, atoms, after, before))
    return float(np.max(errors))


def permutation_error(potential: Any, structures: Structures, *, generator: np.random.Generator) -> float:
    """Energies and forces follow their atoms when these are numbered differently."""
    errors = []
    for atoms in structures.seen_by(potential):
        order = generator.permutation(len(atoms))
        before, after = predict(potential, [atoms, atoms[order]])
        expected = Prediction(before.energy, before.energies[order], before.forces[order], before.stress)
        errors.append(relative_difference(potential, atoms, after, expected))
    return float(np.max(errors))


def supercell_error(potential: Any, structures: Structures) -> float:
    """A supercell of n cells has n times the energy, the same forces and stress; also for one atom in the cell."""
    errors = []
    for atoms, repeats in ((structures.crystal, (2, 1, 1)), (structures.primitive, (2, 1, 3))):
        count = int(np.prod(repeats))
        one, many = predict(potential, [atoms, atoms.repeat(repeats)])
        energies, forces = np.tile(one.energies, count), np.tile(one.forces, (count, 1))
        errors.append(
            relative_difference(potential, atoms, many, Prediction(count * one.energy, energies, forces, one.stress))
        )
    return float(np.max(errors))


def dimer_roughness(potential: Any, species: Sequence[int], *, window: float = 0.1, step: float = 1e-4) -> float:
    """Largest |F(r+h) - 2F(r) + F(r-h)| of two atoms within `window` of the cutoff, eV/Å, over all pairs of species."""
    distances = _through_cutoff(potential, window, step)
    direction = np.array([0.36, 0.48, 0.80])
    positions = np.zeros((len(distances), 2, 3))
    positions[:, 1] = distances[:, None] * direction
    pairs = itertools.combinations_with_replacement(species, 2)
    return float(np.max([_roughness(potential, pair, positions) for pair in pairs]))


def trimer_roughness(
    potential: Any, species: Sequence[int], *, spacing: float, window: float = 0.02, step: float = 1e-4
) -> float:
    """The same when an atom leaves the cutoff of another that has a neighbour at `spacing` (eV/Å, every ordered pair).

    This finds what no dimer shows: normalisation by the number of neighbours, or an unsmoothed list of the nearest.
    """
    distances = _through_cutoff(potential, window, step)
    direction = np.array([0.36, 0.48, 0.80])
    positions = np.zeros((len(distances), 3, 3))
    positions[:, 1] = spacing * np.array([0.80, -0.60, 0.0])
    positions[:, 2] = distances[:, None] * direction
    pairs = itertools.product(species, repeat=2)
    return float(np.max([_roughness(potential, (a, b, b), positions) for a, b in pairs]))


def _through_cutoff(potential: Any, window: float, step: float) -> np.ndarray:
    # Beyond the cutoff there is no edge and nothing to see, so a few steps will do.
    return potential.cutoff + np.arange(-window, 9.5 * step, step)


def _roughness(potential: Any, numbers: Sequence[int], positions: np.ndarray) -> float:
    """Largest second difference of the forces along a path of a few atoms, positions (steps, atoms, 3)."""
    num_steps, num_atoms, _ = positions.shape
    # Net force and torque may have been removed from direct forces, and without locality distance does not separate:
    # each step is then a structure of its own.
    if not (potential.conservative and potential.local):
        steps = [Atoms(numbers, positions=x) for x in positions]
        forces = np.array([p.forces for p in predict(potential, steps, batch_size=128)])
        return float(np.abs(np.diff(forces, n=2, axis=0)).max())
    # All steps in one structure, on a grid so wide that they do not see each other, cost one call.
    side = int(np.ceil(num_steps ** (1 / 3)))
    sites = np.array(list(itertools.product(range(side), repeat=3))[:num_steps]) * 4.0 * potential.cutoff
    atoms = Atoms(np.tile(numbers, num_steps), positions=(positions + sites[:, None]).reshape(-1, 3))
    forces = predict(potential, [atoms])[0].forces.reshape(num_steps, num_atoms, 3)
    return float(np.abs(np.diff(forces, n=2, axis=0)).max())


def isolated_atom_error(potential: Any, structures: Structures, species: Sequence[int]) -> float:
    """An atom out of reach has no force, adds its own energy, and changes nothing else; relative, NaN if not finite.

    Nothing is out of reach of a potential that is not local: of it, an atom alone is demanded to have no force.
    """
    alone = isolated_atoms(potential, species)
    errors = [np.abs(p.forces).max() for p in alone.values()]
    if not potential.local:
        return float(np.max(errors))
    near = predict(potential, [structures.molecule])[0]
    scale = interaction(potential, structures.molecule)
    far = structures.molecule.positions.mean(axis=0) + 10 * (potential.cutoff + 1)
    for z, atom in alone.items():
        together = predict(potential, [structures.molecule + Atoms([z], positions=[far])])[0]
        pair = predict(potential, [Atoms([z, z], positions=[[0, 0, 0], far])])[0]
        errors.append(np.abs(together.forces - np.vstack([near.forces, atom.forces])).max() / np.abs(near.forces).max())
        errors.append(np.abs(together.energies - np.append(near.energies, atom.energies)).max() / scale)
        errors.append(abs(pair.energy - 2 * atom.energy) / scale + np.abs(pair.forces).max())
    return float(np.max(errors))


def batch_error(potential: Any, structures: Structures) -> float:
    """Structures in one batch, an isolated atom among them, have the results that they have one by one."""
    alone = Atoms(structures.molecule.numbers[:1], positions=[[0, 0, 0]])
    crystals = [structures.crystal, structures.primitive] if potential.periodic else [structures.molecule[:5]]
    batch = [structures.molecule, alone, *crystals]
    together = predict(potential, batch)
    errors = [
        relative_difference(potential, atoms, joint, predict(potential, [atoms])[0])
        for atoms, joint in zip(batch, together, strict=True)
        if atoms is not alone
    ]
    return float(np.max(errors))


def save_load_error(potential: Any, structures: Structures) -> float:
    """Largest difference after config and weights have gone through JSON and safetensors; eV, eV/Å, eV/Å³."""
    # On the CPU, where sums have a fixed order: on a GPU the same model differs from itself in the last digits.
    potential = copy.deepcopy(potential).cpu()
    tensors = {name: tensor.detach().clone() for name, tensor in potential.state_dict().items()}
    rebuilt = type(potential)(**json.loads(json.dumps(potential.config))).double()
    rebuilt.load_state_dict(tensors_from_bytes(tensors_to_bytes(tensors)))
    # As `potential` is: what needs gradients takes other paths, and rounds otherwise.
    rebuilt.requires_grad_(False).eval()
    atoms = structures.seen_by(potential)[-1]
    before, after = predict(potential, [atoms])[0], predict(rebuilt, [atoms])[0]
    fields = ("energies", "forces", "stress")
    differences = [getattr(after, name) - getattr(before, name) for name in fields if not _without(before, after, name)]
    return float(np.max([np.abs(difference).max() for difference in differences]))


def _without(before: Prediction, after: Prediction, name: str) -> bool:
    """Whether neither has a value, such as the stress where forces are no gradient."""
    return bool(np.isnan([getattr(before, name), getattr(after, name)]).all())
