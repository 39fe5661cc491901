"""Executable contracts: laws that a potential has to obey, each measured by one function.

`check_potential(potential)` runs them all in float64 on structures made of the potential's own species:

    print(check_potential(potential))          # the measured errors; AssertionError if a law is broken

Each law is a function of its own that returns the measured error, for use in notebooks and in tests.
"""

import copy
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import covalent_radii
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from scipy.stats import special_ortho_group

from sciml.graphs import collate, graph_from_atoms

TOLERANCES: dict[str, float] = {
    "forces": 1e-6,
    "stress": 1e-6,
    "rotation": 1e-5,
    "inversion": 1e-5,
    "translation": 1e-9,
    "permutation": 1e-9,
    "supercell": 1e-9,
    "dimer_cutoff": 1e-4,
    "trimer_cutoff": 1e-4,
    "isolated_atoms": 1e-9,
    "batch": 1e-9,
    "save_load": 0.0,
}
"""Largest error of each law; relative, but eV/Å for the two scans through the cutoff."""


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


@dataclass(frozen=True)
class Prediction:
    """Output of a potential for one structure as numpy arrays: eV, eV/Å, eV/Å³."""

    energy: float
    energies: np.ndarray
    forces: np.ndarray
    stress: np.ndarray


@dataclass(frozen=True)
class PotentialReport:
    """Measured error and tolerance of each law; a tolerance of None marks a law that the potential does not claim."""

    errors: dict[str, float]
    tolerances: dict[str, float | None]

    @property
    def failed(self) -> list[str]:
        """Laws that are broken; an error that is not a number breaks its law."""
        demanded = {law: limit for law, limit in self.tolerances.items() if limit is not None}
        return [law for law, limit in demanded.items() if not self.errors[law] <= limit]

    def __str__(self) -> str:
        rows = [f"{'law':<16}{'error':>10}{'tolerance':>12}"]
        for law, error in self.errors.items():
            tolerance = self.tolerances[law]
            limit = "not claimed" if tolerance is None else f"{tolerance:.0e}" if tolerance else "exact"
            rows.append(f"{law:<16}{error:>10.1e}{limit:>12}{'   BROKEN' * (law in self.failed)}")
        return "\n".join(rows)


def check_potential(
    potential: Any,
    *,
    tolerances: Mapping[str, float] | None = None,
    species: Sequence[int] | None = None,
    seed: int = 0,
) -> PotentialReport:
    """Check that a `sciml.potentials.Potential` obeys the laws of physics and of this package's interface.

    Args:
        potential: the potential; see `measure_potential`, whose arguments these are.
        tolerances: replaces some of `TOLERANCES`.
        species: atomic numbers to test, all that the potential knows if None.
        seed: of the random structures.

    Returns:
        The measured errors; its `str` is a table.

    Raises:
        AssertionError: if a law is broken, with the table.
        ValueError: see `measure_potential`.
    """
    report = measure_potential(potential, tolerances=tolerances, species=species, seed=seed)
    if report.failed:
        raise AssertionError(f"{type(potential).__name__} breaks {', '.join(report.failed)}:\n{report}")
    return report


def measure_potential(
    potential: Any,
    *,
    tolerances: Mapping[str, float] | None = None,
    species: Sequence[int] | None = None,
    seed: int = 0,
) -> PotentialReport:
    """Measure how well a potential obeys each law, in float64.

    Inversion is demanded of `symmetry == "O(3)"`, rotation of "O(3)" and "SO(3)", forces and stress as derivatives of
    the energy of `conservative` potentials.

    Args:
        potential: the potential; the laws are run on a copy in float64 and evaluation mode, it is not changed itself.
        tolerances: replaces some of `TOLERANCES`.
        species: atomic numbers to test, all that the potential knows if None (the scans visit every pair).
        seed: of the random structures.

    Raises:
        ValueError: if a tolerance names no law, a species is unknown, or the potential is too flat to be tested.
    """
    unknown = set(tolerances or {}) - TOLERANCES.keys()
    if unknown:
        raise ValueError(f"there is no law {', '.join(sorted(unknown))}; the laws are {', '.join(TOLERANCES)}")
    species = tuple(potential.species if species is None else species)
    if not species or not set(species) <= set(potential.species):
        raise ValueError(f"got species {list(species)}; the potential knows {list(potential.species)}")
    limits: dict[str, float | None] = {**TOLERANCES, **(tolerances or {})}
    if not potential.conservative:
        limits["forces"] = limits["stress"] = None
    if potential.symmetry != "O(3)":
        limits["inversion"] = None
    if potential.symmetry not in ("O(3)", "SO(3)"):
        limits["rotation"] = None

    exact = copy.deepcopy(potential).double().requires_grad_(False).eval()
    generator = np.random.default_rng(seed)
    structures = make_structures(species, exact.cutoff, generator=generator)
    strength = float(np.abs(predict(exact, [structures.molecule])[0].forces).max())
    if strength < 1e-6:
        raise ValueError(
            f"the largest force on the test structures is {strength:.1e} eV/Å, too small to test anything; "
            "give the potential random or trained parameters first"
        )
    laws: dict[str, Callable[[], float]] = {
        "forces": lambda: force_error(exact, structures, generator=generator),
        "stress": lambda: stress_error(exact, structures.crystal),
        "rotation": lambda: rotation_error(exact, structures, random_rotation(generator)),
        "inversion": lambda: rotation_error(exact, structures, -np.eye(3)),
        "translation": lambda: translation_error(exact, structures, generator=generator),
        "permutation": lambda: permutation_error(exact, structures, generator=generator),
        "supercell": lambda: supercell_error(exact, structures),
        "dimer_cutoff": lambda: dimer_roughness(exact, species),
        "trimer_cutoff": lambda: trimer_roughness(exact, species, spacing=structures.spacing),
        "isolated_atoms": lambda: isolated_atom_error(exact, structures, species),
        "batch": lambda: batch_error(exact, structures),
        "save_load": lambda: save_load_error(exact, structures),
    }
    return PotentialReport({name: float(law()) for name, law in laws.items()}, limits)


# --- structures and predictions ---------------------------------------------------------------------------------------


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
        energy, energies, forces, stress = (tensor.cpu().numpy() for tensor in output)
        per_atom = zip(np.split(energies, ends), np.split(forces, ends), strict=True)
        predictions += [Prediction(float(energy[i]), e, f, stress[i]) for i, (e, f) in enumerate(per_atom)]
    return predictions


def interaction(potential: Any, atoms: Atoms) -> float:
    """Scale of the interaction energies of the atoms, eV: max |e_i - e_i(isolated)|."""
    alone = {z: p.energy for z, p in _isolated(potential, sorted(set(atoms.numbers))).items()}
    return float(np.abs(predict(potential, [atoms])[0].energies - [alone[z] for z in atoms.numbers]).max())


def _isolated(potential: Any, species: Sequence[int]) -> dict[int, Prediction]:
    return dict(zip(species, predict(potential, [Atoms([z], positions=[[0, 0, 0]]) for z in species]), strict=True))


def _difference(potential: Any, atoms: Atoms, measured: Prediction, expected: Prediction) -> float:
    """Largest difference of atomic energies, forces and (in a crystal) stress, each relative to its scale."""
    scale = interaction(potential, atoms)
    ratios = [
        abs(measured.energy - expected.energy) / (len(measured.energies) * scale),
        np.abs(measured.energies - expected.energies).max() / scale,
        np.abs(measured.forces - expected.forces).max() / _force_scale(expected, atoms, scale),
    ]
    if atoms.pbc.all():
        ratios.append(np.abs(measured.stress - expected.stress).max() / np.abs(expected.stress).max())
    return float(np.max(ratios))  # np.max, unlike max, keeps a NaN


def _force_scale(expected: Prediction, atoms: Atoms, interaction_energy: float) -> float:
    # By symmetry the forces in a primitive crystal vanish; energies and virials per atom and Å then set the scale.
    scales = [np.abs(expected.forces).max(), interaction_energy * 1e-3]
    if atoms.pbc.all():
        scales.append(np.abs(expected.stress).max() * atoms.get_volume() / len(atoms))
    return float(np.max(scales))


# --- the laws ---------------------------------------------------------------------------------------------------------


def force_error(potential: Any, structures: Structures, *, generator: np.random.Generator) -> float:
    """Forces against -dE/dx: every component in the molecule, random directions in the crystal, over max |F|."""
    errors = []
    for atoms, count in ((structures.molecule, None), (structures.crystal, 3)):
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
    for atoms in (structures.molecule, structures.crystal):
        turned = atoms.copy()
        turned.set_cell(atoms.cell.array @ matrix.T)
        turned.positions = atoms.positions @ matrix.T
        before, after = predict(potential, [atoms, turned])
        stress = matrix @ before.stress @ matrix.T
        expected = Prediction(before.energy, before.energies, before.forces @ matrix.T, stress)
        errors.append(_difference(potential, atoms, after, expected))
    return float(np.max(errors))


def translation_error(potential: Any, structures: Structures, *, generator: np.random.Generator) -> float:
    """Nothing changes if all atoms are shifted, nor in a crystal if one atom is moved by a lattice vector."""
    errors = []
    for atoms in (structures.molecule, structures.crystal):
        shifted = atoms.copy()
        shifted.positions += generator.uniform(-5, 5, 3)
        shifted.positions[0] += np.array([2, -1, 1]) @ atoms.cell.array
        before, after = predict(potential, [atoms, shifted])
        errors.append(_difference(potential, atoms, after, before))
    return float(np.max(errors))


def permutation_error(potential: Any, structures: Structures, *, generator: np.random.Generator) -> float:
    """Energies and forces follow their atoms when these are numbered differently."""
    errors = []
    for atoms in (structures.molecule, structures.crystal):
        order = generator.permutation(len(atoms))
        before, after = predict(potential, [atoms, atoms[order]])
        expected = Prediction(before.energy, before.energies[order], before.forces[order], before.stress)
        errors.append(_difference(potential, atoms, after, expected))
    return float(np.max(errors))


def supercell_error(potential: Any, structures: Structures) -> float:
    """A supercell of n cells has n times the energy, the same forces and stress; also for one atom in the cell."""
    errors = []
    for atoms, repeats in ((structures.crystal, (2, 1, 1)), (structures.primitive, (2, 1, 3))):
        count = int(np.prod(repeats))
        one, many = predict(potential, [atoms, atoms.repeat(repeats)])
        energies, forces = np.tile(one.energies, count), np.tile(one.forces, (count, 1))
        errors.append(_difference(potential, atoms, many, Prediction(count * one.energy, energies, forces, one.stress)))
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
    # All steps in one structure, on a grid so wide that they do not see each other, cost one call.
    num_steps, num_atoms, _ = positions.shape
    side = int(np.ceil(num_steps ** (1 / 3)))
    sites = np.array(list(itertools.product(range(side), repeat=3))[:num_steps]) * 4.0 * potential.cutoff
    atoms = Atoms(np.tile(numbers, num_steps), positions=(positions + sites[:, None]).reshape(-1, 3))
    forces = predict(potential, [atoms])[0].forces.reshape(num_steps, num_atoms, 3)
    return float(np.abs(np.diff(forces, n=2, axis=0)).max())


def isolated_atom_error(potential: Any, structures: Structures, species: Sequence[int]) -> float:
    """An atom out of reach has no force, adds its own energy, and changes nothing else; relative, NaN if not finite."""
    alone = _isolated(potential, species)
    near = predict(potential, [structures.molecule])[0]
    scale = interaction(potential, structures.molecule)
    errors = [np.abs(p.forces).max() for p in alone.values()]
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
    batch = [structures.molecule, alone, structures.crystal, structures.primitive]
    together = predict(potential, batch)
    errors = [
        _difference(potential, atoms, joint, predict(potential, [atoms])[0])
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
    atoms = structures.crystal
    before, after = predict(potential, [atoms])[0], predict(rebuilt, [atoms])[0]
    fields = ("energies", "forces", "stress")
    return float(np.max([np.abs(getattr(after, name) - getattr(before, name)).max() for name in fields]))
