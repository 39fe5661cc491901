"""Labelled structures: read from anything that `ase.io` reads, checked, split and turned into graphs."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from sciml.datasets.checks import (
    Checks,
    check_finite_labels,
    check_overlap,
    check_stress_periodicity,
    check_stress_units,
    located,
    warn_about_energy_units,
    warn_about_shared_frames,
)
from sciml.datasets.files import read_frames
from sciml.datasets.keys import LabelKeys, Labels, check_keys_found, extract_labels

if TYPE_CHECKING:
    from sciml.graphs import AtomicGraph
# torch and torch-geometric take seconds to load and are imported where they are used: processes that label do not.

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LabelledStructure:
    """A structure and what a reference method says of it.

    Attributes:
        atoms: the structure, without a calculator.
        energy: total energy, eV; NaN if missing.
        forces: (atoms, 3), eV/Å; NaN where missing.
        stress: (3, 3), eV/Å³, dE/dε / V; NaN where missing.
        config_type: group under which errors are reported.
        origin: file and frame, for messages.
    """

    atoms: Atoms
    energy: float
    forces: np.ndarray
    stress: np.ndarray
    config_type: str = "default"
    origin: str = "structure"

    def __post_init__(self) -> None:
        if self.forces.shape != (len(self.atoms), 3) or self.stress.shape != (3, 3):
            raise ValueError(
                f"{self.origin}: got forces of shape {self.forces.shape} and a stress of shape {self.stress.shape}; "
                f"expected ({len(self.atoms)}, 3) and (3, 3), filled with NaN where there is no label"
            )

    @property
    def is_isolated_atom(self) -> bool:
        """One atom that either is marked so (`config_type` "isolated_atom", "IsolatedAtom") or has no periodic axis."""
        return len(self.atoms) == 1 and (_marks_isolated_atom(self.config_type) or not self.atoms.pbc.any())


def read_structures(
    paths: str | Path | Sequence[str | Path],
    *,
    keys: LabelKeys | None = None,
    index: str = ":",
    checks: Checks | None = None,
) -> list[LabelledStructure]:
    """Read labelled structures from one or more files.

    Frames may lack forces, stress or, if they have forces, the energy; what is missing is NaN. Isolated atoms are read
    like all others; `split_structures` and `reference_energies` tell them apart.

    Args:
        paths: files in any format that `ase.io` reads (gzipped too), or glob patterns such as "runs/*.xyz".
            "file.xyz@:100" reads the first hundred frames of this file.
        keys: names of the labels in the files; by default "energy", "forces" and "stress".
        index: frames to read of each file, in Python's slice notation.
        checks: which checks are made; by default all.

    Raises:
        FileNotFoundError: if a file does not exist or a pattern matches none.
        ValueError: if a file cannot be read or is empty, a requested key occurs nowhere, a structure is broken, or a
            label has the wrong shape or fails a check. The message names file, frame and atom.
    """
    keys, checks = keys or LabelKeys(), checks or Checks()
    frames = read_frames(paths, index)
    labels = []
    for origin, atoms in frames:
        with located(origin):
            labels.append(extract_labels(atoms, keys))
    with located(", ".join(dict.fromkeys(origin.rsplit(", frame", 1)[0] for origin, _ in frames))):
        check_keys_found([atoms for _, atoms in frames], labels, keys)
    structures = []
    for (origin, atoms), found in zip(frames, labels, strict=True):
        with located(origin):
            structures.append(_checked_structure(atoms, found, checks, origin))
    if checks.stress_units:
        check_stress_units(structures)
    if checks.energy_units:
        warn_about_energy_units(structures)
    unlabelled = [structure.origin for structure in structures if np.isnan(structure.energy)]
    if unlabelled:
        logger.warning(
            "%d of %d frames have forces but no energy %r (first: %s); they train the forces only",
            *(len(unlabelled), len(structures), keys.energy, unlabelled[0]),
        )
    return structures


def labelled_graph(structure: LabelledStructure, cutoff: float) -> "AtomicGraph":
    """Graph of a structure with its labels in float64: energy (1,), forces (atoms, 3), stress (1, 3, 3)."""
    import torch

    from sciml.graphs import graph_from_atoms

    with located(structure.origin):
        graph = graph_from_atoms(structure.atoms, cutoff)
    graph.energy = torch.tensor([structure.energy], dtype=torch.float64)
    graph.forces = torch.tensor(structure.forces, dtype=torch.float64)
    graph.stress = torch.tensor(structure.stress, dtype=torch.float64)[None]
    return graph


def split_structures(
    structures: Sequence[LabelledStructure], *, validation_fraction: float, seed: int
) -> tuple[list[LabelledStructure], list[LabelledStructure]]:
    """Split at random into training and validation structures; both keep the order of the input.

    Isolated atoms go to neither: they give reference energies. Structures that end up on both sides are warned about.

    Raises:
        ValueError: if the fraction is not between 0 and 1, or one side would be empty.
    """
    if not 0 < validation_fraction < 1:
        raise ValueError(
            f"validation_fraction is {validation_fraction}; expected a number between 0 and 1, such as 0.1"
        )
    candidates = [structure for structure in structures if not structure.is_isolated_atom]
    if len(candidates) < len(structures):
        logger.info("%d isolated atoms serve as reference energies only", len(structures) - len(candidates))
    num_valid = round(validation_fraction * len(candidates))
    if num_valid == 0 or num_valid == len(candidates):
        raise ValueError(
            f"validation_fraction = {validation_fraction} of {len(candidates)} structures (isolated atoms not counted) "
            f"leaves {len(candidates) - num_valid} for training and {num_valid} for validation; both need at least one"
        )
    chosen = np.random.default_rng(seed).permutation(len(candidates))[:num_valid]
    is_valid = np.zeros(len(candidates), dtype=bool)
    is_valid[chosen] = True
    train = [structure for structure, held_out in zip(candidates, is_valid, strict=True) if not held_out]
    valid = [structure for structure, held_out in zip(candidates, is_valid, strict=True) if held_out]
    warn_about_shared_frames(train, valid)
    return train, valid


def _marks_isolated_atom(config_type: str) -> bool:
    return config_type.lower().replace("_", "").replace("-", "").replace(" ", "") == "isolatedatom"


def _checked_structure(atoms: Atoms, labels: Labels, checks: Checks, origin: str) -> LabelledStructure:
    from sciml.graphs import check_structure

    check_structure(atoms)
    if checks.finite_labels:
        check_finite_labels(atoms, labels)
    if checks.overlap > 0:
        check_overlap(atoms, checks.overlap)
    energy, forces, stress = labels
    if stress is not None and checks.stress_periodicity:
        check_stress_periodicity(atoms)
    if stress is None or not atoms.pbc.all():
        stress = np.full((3, 3), np.nan)
    if forces is None:
        forces = np.full((len(atoms), 3), np.nan)
    # Only with finite_labels off can anything be infinite here; NaN is what marks a missing label.
    energy = energy if energy is not None and np.isfinite(energy) else np.nan
    forces, stress = (np.where(np.isfinite(label).all(), label, np.nan) for label in (forces, stress))
    if np.isnan(energy) and np.isnan(forces).all():
        raise ValueError(
            "the frame has neither an energy nor forces under the given keys; remove it, or rename its keys"
        )
    config_type = str(atoms.info.get("config_type", "default"))
    if _marks_isolated_atom(config_type) and len(atoms) != 1:
        raise ValueError(f"the config_type is {config_type!r} but the frame has {len(atoms)} atoms; expected one")
    return LabelledStructure(atoms.copy(), energy, forces, stress, config_type, origin)
