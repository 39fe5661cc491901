"""Checks of labelled structures: each finds one common mistake and says where it is and how to repair it.

Every check can be switched off on its own (`Checks`), because each has a legitimate exception.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from sciml.datasets.keys import Labels

if TYPE_CHECKING:
    from sciml.datasets.structures import LabelledStructure

logger = logging.getLogger(__name__)

LARGEST_STRESS = 5.0
"""eV/Å³, 801 GPa: twice the pressure in the centre of the Earth."""
LARGEST_MEDIAN_STRESS = 0.5
"""eV/Å³, 80 GPa: the median over the frames of the largest component; ordinary data have 0.001 to 0.1."""
SMALL_MOLECULE = 100
"""Atoms; up to here all pairs are looked at, which is far quicker than a neighbour list."""
GPA_PER_EV_PER_CUBIC_ANGSTROM = 160.21766

# Total energies of free atoms in hartree, after Chakravorty et al. 1993, doi:10.1103/PhysRevA.47.3649
_ATOM_HARTREE = {"H": -0.5, "C": -37.84, "N": -54.59, "O": -75.07, "F": -99.73, "P": -341.3, "S": -398.1, "Cl": -460.1}


@dataclass(frozen=True)
class Checks:
    """Which checks `read_structures` makes.

    Attributes:
        finite_labels: NaN or infinite labels are an error. Off: such a label counts as missing in its frame.
        overlap: two atoms (periodic images included) closer than this fraction of the sum of their covalent radii
            are an error; 0 switches it off. Thermal molecules, liquids and crystals stay above 0.55, and the most
            compressed crystals of MPtrj reach 0.32, whereas duplicated atoms, fractional coordinates and nanometres
            are below 0.2.
        stress_units: stresses too large for eV/Å³, as those in kbar or GPa are, are an error.
        stress_periodicity: a stress in a frame that is not periodic along all axes is an error. Off: it is ignored.
        energy_units: warn if energies look like hartree.
    """

    finite_labels: bool = True
    overlap: float = 0.3
    stress_units: bool = True
    stress_periodicity: bool = True
    energy_units: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap is {self.overlap}; expected a fraction of a bond length from 0 (off) to below 1")


@contextmanager
def located(origin: str) -> Iterator[None]:
    """Put `origin` (file and frame) in front of every ValueError from inside."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{origin}: {error}") from error


def check_finite_labels(atoms: Atoms, labels: Labels) -> None:
    """Raise if a label is NaN or infinite; names the atom."""
    remedy = (
        "remove this frame, or, if the label is merely missing here, remove the label or set the check "
        "finite_labels to False"
    )
    if labels.energy is not None and not np.isfinite(labels.energy):
        raise ValueError(f"the energy is {labels.energy}; {remedy}")
    if labels.forces is not None and not np.isfinite(labels.forces).all():
        atom = int(np.flatnonzero(~np.isfinite(labels.forces).all(axis=1))[0])
        raise ValueError(f"the force on atom {atom} ({atoms.symbols[atom]}) is {labels.forces[atom]}; {remedy}")
    if labels.stress is not None and not np.isfinite(labels.stress).all():
        raise ValueError(f"the stress is {labels.stress.tolist()}; {remedy}")


def check_overlap(atoms: Atoms, fraction: float) -> None:
    """Raise if two atoms or images are closer than `fraction` times the sum of their covalent radii; names them."""
    radii = covalent_radii[atoms.numbers]
    senders, receivers, is_image, distances = _close_pairs(atoms, 2 * fraction * float(radii.max()))
    if len(distances) == 0:
        return
    ratios = distances / (radii[senders] + radii[receivers])
    worst = int(ratios.argmin())
    if ratios[worst] < fraction:
        i, j = sorted((int(receivers[worst]), int(senders[worst])))
        image = ", a periodic image," if is_image[worst] else ""
        raise ValueError(
            f"atoms {i} ({atoms.symbols[i]}) and {j} ({atoms.symbols[j]}){image} are {distances[worst]:.3f} Å apart, "
            f"{ratios[worst]:.2f} of the sum of their covalent radii; less than {fraction:g} is taken for an error "
            "(duplicated atom, wrong cell, fractional coordinates, nanometres). Remove the frame, or lower the check "
            "overlap (0 switches it off)"
        )


def _close_pairs(atoms: Atoms, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All pairs closer than `cutoff`, once or twice: atom, other atom, whether it is an image, distance; (pairs,)."""
    if len(atoms) <= SMALL_MOLECULE and not atoms.pbc.any():
        first, second = np.triu_indices(len(atoms), k=1)
        distances = np.linalg.norm(atoms.positions[first] - atoms.positions[second], axis=1)
        near = np.flatnonzero(distances < cutoff)
        return first[near], second[near], np.zeros(len(near), dtype=bool), distances[near]
    from sciml.neighbors import neighbor_list  # loads torch, see structures.py

    cell = np.asarray(atoms.cell.array, dtype=np.float64)
    edge_index, edge_shifts = neighbor_list(np.asarray(atoms.positions, dtype=np.float64), cell, atoms.pbc, cutoff)
    senders, receivers = edge_index.numpy()
    shifts = edge_shifts.numpy()
    vectors = atoms.positions[senders] - atoms.positions[receivers] + shifts @ cell
    return senders, receivers, np.any(shifts != 0, axis=1), np.linalg.norm(vectors, axis=1)


def check_stress_periodicity(atoms: Atoms) -> None:
    """Raise if `atoms`, which has a stress, is not periodic along all three axes."""
    if not atoms.pbc.all():
        raise ValueError(
            f"there is a stress but the frame is not periodic along all axes (pbc = {atoms.pbc.tolist()}); a stress is "
            "defined per volume. Set pbc, remove the stress, or set the check stress_periodicity to False to ignore it"
        )


def check_stress_units(structures: Sequence["LabelledStructure"]) -> None:
    """Raise if stresses are too large to be in eV/Å³.

    Two statistics are looked at, since stresses of a soft crystal in GPa stay small: the largest component of all, and
    the median over the frames of the largest component of each.
    """
    largest = np.array([np.abs(structure.stress).max() for structure in structures])
    labelled = np.flatnonzero(np.isfinite(largest))
    if labelled.size == 0:
        return
    worst = int(labelled[largest[labelled].argmax()])
    median = float(np.median(largest[labelled]))
    if largest[worst] <= LARGEST_STRESS and median <= LARGEST_MEDIAN_STRESS:
        return
    as_gpa = median / GPA_PER_EV_PER_CUBIC_ANGSTROM
    raise ValueError(
        f"{structures[worst].origin}: the stress has a component of {largest[worst]:.4g} eV/Å³ "
        f"({largest[worst] * GPA_PER_EV_PER_CUBIC_ANGSTROM:.4g} GPa), and the median over {labelled.size} frames is "
        f"{median:.4g} eV/Å³; this looks like kbar or GPa. Multiply by 1/160.21766 if it is in GPa (the median becomes "
        f"{as_gpa:.2g} eV/Å³) or by 1/1602.1766 if it is in kbar ({as_gpa / 10:.2g} eV/Å³), and by -1 if compression "
        "is positive, as VASP prints it. If the pressures are real, set the check stress_units to False"
    )


def warn_about_energy_units(structures: Sequence["LabelledStructure"]) -> None:
    """Warn if every energy is within 5 % of the sum of the atoms' all-electron energies in hartree."""
    ratios = []
    for structure in structures:
        symbols = structure.atoms.get_chemical_symbols()
        if np.isfinite(structure.energy) and set(symbols) <= set(_ATOM_HARTREE) and set(symbols) != {"H"}:
            ratios.append(structure.energy / sum(_ATOM_HARTREE[symbol] for symbol in symbols))
    if ratios and max(abs(ratio - 1) for ratio in ratios) < 0.05:
        logger.warning(
            "%s: the energies look like hartree (they are close to the sum of the energies of the free atoms in "
            "hartree); expected eV: multiply energies by 27.211386 and forces in hartree/bohr by 51.422067",
            structures[0].origin,
        )


def warn_about_shared_frames(train: Sequence["LabelledStructure"], valid: Sequence["LabelledStructure"]) -> int:
    """Warn if structures are in both (same order of atoms, positions and cell to 1e-4 Å) and return their number."""
    seen = {_fingerprint(structure.atoms): structure.origin for structure in train}
    shared = [(seen[key], other.origin) for other in valid if (key := _fingerprint(other.atoms)) in seen]
    if shared:
        logger.warning(
            "%d of %d validation structures are also in the training set (first: %s = %s); the validation error will "
            "be too small",
            *(len(shared), len(valid), *shared[0]),
        )
    return len(shared)


def _fingerprint(atoms: Atoms) -> bytes:
    # + 0.0 turns -0.0 into 0.0, which has other bytes.
    numbers = np.concatenate([atoms.positions.ravel(), atoms.cell.array.ravel()]).round(4) + 0.0
    return atoms.numbers.tobytes() + atoms.pbc.tobytes() + numbers.tobytes()
