"""Which names labels have in a file, and how the values found there become an energy, forces and a stress.

`ase.io` leaves labels in three places: `atoms.info`, `atoms.arrays` and the results of the attached single-point
calculator, where it moves everything called "energy", "forces" or "stress". All of them are searched. The results are
taken raw: `atoms.get_forces()` would zero the forces on fixed atoms.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress


@dataclass(frozen=True)
class LabelKeys:
    """Names under which the labels stand in the files.

    Attributes:
        energy: total energy, eV. With VASP, "free_energy" is the one that the forces are the derivative of.
        forces: (atoms, 3), eV/Å; None leaves them out.
        stress: 3 x 3, 9 numbers or Voigt xx, yy, zz, yz, xz, xy; eV/Å³ with ASE's sign (tension is positive, in
            contrast to VASP's own output); None leaves it out.
        virial: in eV, in the shapes of the stress; if given it is read in place of the stress, as stress = -virial / V.
    """

    energy: str = "energy"
    forces: str | None = "forces"
    stress: str | None = "stress"
    virial: str | None = None

    def __post_init__(self) -> None:
        if self.virial is not None and self.stress not in (None, "stress"):
            raise ValueError(
                f"got a key for the stress ({self.stress!r}) and one for the virial ({self.virial!r}); "
                "give one of them: the stress is -virial / V"
            )


class Labels(NamedTuple):
    """Labels of one frame: energy (eV), forces (atoms, 3) and stress (3, 3); None where there is none."""

    energy: float | None
    forces: np.ndarray | None
    stress: np.ndarray | None


def extract_labels(atoms: Atoms, keys: LabelKeys) -> Labels:
    """Find the labels of `atoms`.

    Raises:
        ValueError: if a label has a wrong shape or is no number, or stands in two places with different values.
    """
    energy = _numbers(atoms, keys.energy)
    if energy is not None and energy.size != 1:
        raise ValueError(f"the energy {keys.energy!r} has the shape {energy.shape}; expected one number")
    forces = _numbers(atoms, keys.forces)
    if forces is not None and forces.shape != (len(atoms), 3):
        raise ValueError(
            f"the forces {keys.forces!r} have the shape {forces.shape}; expected ({len(atoms)}, 3): three components "
            f"for each of the {len(atoms)} atoms"
        )
    if keys.virial is not None:
        virial = _tensor(_numbers(atoms, keys.virial), f"virial {keys.virial!r}")
        stress = None if virial is None else -virial / _volume(atoms, keys.virial)
    else:
        stress = _tensor(_numbers(atoms, keys.stress), f"stress {keys.stress!r}")
    return Labels(None if energy is None else float(energy.item()), forces, stress)


def check_keys_found(frames: Iterable[Atoms], labels: Iterable[Labels], keys: LabelKeys) -> None:
    """Raise if a requested key occurs in no frame; default keys for forces and stress may, unless one was overlooked.

    Raises:
        ValueError: lists the keys that the frames do have and the most similar of them.
    """
    labels = list(labels)
    tensor = "stress" if keys.virial is None else "virial"
    wanted = [("energy", keys.energy), ("forces", keys.forces), (tensor, getattr(keys, tensor))]
    lost = [
        (name, key, kind)
        for (name, key), kind in zip(wanted, Labels._fields, strict=True)
        if key is not None and all(getattr(label, kind) is None for label in labels)
    ]
    if not lost:
        return
    available = _available_keys(frames)
    words = {"energy": ("energy",), "forces": ("force",), "stress": ("stress", "virial")}
    for name, key, kind in lost:
        candidates = available[kind]
        similar = [c for c in candidates if any(word in c.lower() for word in words[kind])]
        optional = name in ("forces", "stress") and key == name
        if optional and not similar:
            continue  # nobody asked for it, and nothing looks like it: train without
        similar = similar or difflib.get_close_matches(key, candidates, n=1, cutoff=0.5)
        hint = f" Did you mean {similar[0]!r}?" if similar else ""
        if similar and kind == "stress" and "virial" in similar[0].lower():
            hint += " A virial in eV is named by the key `virial`, not by `stress`."
        leave_out = " To read the files without it, set this key to None (null in YAML)." if optional else ""
        have = ", ".join(f"{group}: {', '.join(names) or 'none'}" for group, names in available.items())
        raise ValueError(
            f"the key {key!r} for the {name} occurs in no frame.{hint}{leave_out} "
            f"By their shapes these could be labels: {have}."
        )


def _places(atoms: Atoms) -> list[Mapping[str, Any]]:
    """Everything that may hold labels."""
    return [atoms.info, atoms.arrays, getattr(atoms.calc, "results", {})]


def _numbers(atoms: Atoms, key: str | None) -> np.ndarray | None:
    """The value under `key` as a float64 array."""
    values = [place[key] for place in _places(atoms) if key is not None and place.get(key) is not None]
    if not values:
        return None
    try:
        arrays = [np.asarray(value, dtype=np.float64) for value in values]
    except (TypeError, ValueError):
        raise ValueError(f"the label {key!r} is {values[0]!r}; expected numbers") from None
    for other in arrays[1:]:
        if other.shape != arrays[0].shape or not np.array_equal(other, arrays[0], equal_nan=True):
            raise ValueError(
                f"the label {key!r} stands in two places (info, arrays or calculator) with different values; "
                "remove one of them or rename it"
            )
    return arrays[0].copy()


def _tensor(value: np.ndarray | None, name: str) -> np.ndarray | None:
    """A symmetric (3, 3) tensor from 3 x 3, 9 or Voigt-6 numbers."""
    if value is None:
        return None
    if value.shape == (6,):
        return voigt_6_to_full_3x3_stress(value)
    if value.shape not in ((9,), (3, 3)):
        raise ValueError(
            f"the {name} has the shape {value.shape}; expected (3, 3), (9,) or Voigt (6,) in the order "
            "xx, yy, zz, yz, xz, xy"
        )
    matrix = value.reshape(3, 3)
    asymmetry = np.abs(matrix - matrix.T).max()
    # Codes print symmetric tensors with four digits or more; a real asymmetry means a wrong order or a wrong quantity.
    if asymmetry > 1e-2 * np.abs(matrix).max():
        raise ValueError(f"the {name} is not symmetric: {matrix.tolist()}; are its components in another order?")
    return 0.5 * (matrix + matrix.T)


def _volume(atoms: Atoms, key: str) -> float:
    volume = abs(float(np.linalg.det(atoms.cell.array)))
    if volume == 0:
        raise ValueError(f"there is a virial {key!r} but the cell has no volume; stress = -virial / V needs one")
    return volume


def _available_keys(frames: Iterable[Atoms]) -> dict[str, list[str]]:
    """Keys that occur, grouped by the label that their shape allows."""
    groups: dict[str, set[str]] = {"energy": set(), "forces": set(), "stress": set()}
    for atoms in frames:
        for place in _places(atoms):
            for key, value in place.items():
                array = np.asarray(value)
                if key in ("numbers", "positions") or array.dtype.kind not in "if":
                    continue
                if array.size == 1 and place is not atoms.arrays:
                    groups["energy"].add(key)
                elif array.shape == (len(atoms), 3) and (place is atoms.arrays or "force" in key.lower()):
                    groups["forces"].add(key)
                elif array.shape in ((3, 3), (9,), (6,)) and place is not atoms.arrays:
                    groups["stress"].add(key)
    return {group: sorted(names) for group, names in groups.items()}
