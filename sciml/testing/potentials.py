"""The contract of a potential: the laws, their tolerances, and the report of a check."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sciml.testing.potential_laws import (
    batch_error,
    dimer_roughness,
    force_error,
    isolated_atom_error,
    permutation_error,
    rotation_error,
    save_load_error,
    stress_error,
    supercell_error,
    translation_error,
    trimer_roughness,
)
from sciml.testing.report import LawReport, merged
from sciml.testing.structures import make_structures, predict, random_rotation

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


def check_potential(
    potential: Any,
    *,
    tolerances: Mapping[str, float] | None = None,
    species: Sequence[int] | None = None,
    seed: int = 0,
) -> LawReport:
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
) -> LawReport:
    """Measure how well a potential obeys each law, in float64.

    Inversion is demanded of `symmetry == "O(3)"`, rotation of "O(3)" and "SO(3)", forces and stress as derivatives of
    the energy of `conservative` potentials.

    Without `periodic`, stress and supercell are left out and the other laws run on molecules. Without `local`,
    supercell is left out, and of isolated atoms no more is demanded than that one alone has no force; the scans through
    the cutoff then show that a pair which crosses it changes the graph and nothing else.

    Args:
        potential: the potential; the laws are run on a copy in float64 and evaluation mode, it is not changed itself.
        tolerances: replaces some of `TOLERANCES`.
        species: atomic numbers to test, all that the potential knows if None (the scans visit every pair).
        seed: of the random structures.

    Raises:
        ValueError: if a tolerance names no law, a species is unknown, or the potential is too flat to be tested.
    """
    limits = merged(TOLERANCES, tolerances)
    species = tuple(potential.species if species is None else species)
    if not species or not set(species) <= set(potential.species):
        raise ValueError(f"got species {list(species)}; the potential knows {list(potential.species)}")
    if not potential.conservative:
        limits["forces"] = limits["stress"] = None
    if potential.symmetry != "O(3)":
        limits["inversion"] = None
    if potential.symmetry not in ("O(3)", "SO(3)"):
        limits["rotation"] = None

    left_out: dict[str, str] = {}
    if not potential.local:
        left_out["supercell"] = "the potential is not local"
    if not potential.periodic:
        left_out |= dict.fromkeys(("stress", "supercell"), "the potential takes no periodic structures")

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
    return LawReport({name: float(law()) for name, law in laws.items() if name not in left_out}, limits, left_out)
