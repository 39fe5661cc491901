"""Reference energies: one energy per element that a potential subtracts, so that it learns only the binding.

Sums of them may reach 10⁵ eV; all arithmetic is in float64.
"""

import logging
from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from sciml.datasets.structures import LabelledStructure
from sciml.messages import did_you_mean

logger = logging.getLogger(__name__)

SOURCES = ("auto", "isolated", "fit")


def reference_energies(
    structures: Sequence[LabelledStructure], source: str | Mapping[str, float] = "auto"
) -> dict[str, float]:
    """Reference energy (eV) of every element of `structures`, in the order of their atomic numbers.

    Elements that occur as isolated atoms only get none: no environment of theirs could be learned.

    Args:
        structures: labelled structures, isolated atoms among them (see `LabelledStructure.is_isolated_atom`).
        source: "isolated" takes the energies of the isolated atoms; "fit" the least-squares solution of
            E / N = Σ_Z (n_Z / N) E_Z over the other structures, the one of smallest norm if their compositions do not
            determine all E_Z; "auto" is "isolated" if every element has its atom and "fit" otherwise; a mapping from
            symbols to eV is taken as it is.

    Raises:
        ValueError: if an element has no reference energy (the message names it), two isolated atoms of one element
            differ by more than 1 meV, no structure has an energy to fit to, or the source or a symbol is unknown.
    """
    molecules = [structure for structure in structures if not structure.is_isolated_atom]
    if not molecules:
        raise ValueError(f"got {len(structures)} structures, isolated atoms all; there is nothing to learn from them")
    numbers = np.unique(np.concatenate([structure.atoms.numbers for structure in molecules]))
    elements = [chemical_symbols[number] for number in numbers]
    if isinstance(source, Mapping):
        return _given(source, elements)
    if source not in SOURCES:
        raise ValueError(
            f"unknown source of reference energies {source!r}; expected {', '.join(SOURCES)} or a mapping of elements "
            "to eV, in YAML {H: -13.6, O: -432.1} (with a space behind each colon)"
        )
    isolated = _isolated_energies(structures)
    missing = [element for element in elements if element not in isolated]
    if source == "isolated" and missing:
        raise ValueError(
            f"no isolated atom with an energy for {', '.join(missing)}; add one (a frame with one atom and "
            'config_type="isolated_atom"), give the energy, or use the source "fit"'
        )
    if source == "fit" or missing:
        if source == "auto":
            logger.info("reference energies are fitted: no isolated atom for %s", ", ".join(missing))
        return _fit(molecules, elements)
    return {element: isolated[element] for element in elements}


def energy_shifts(structures: Sequence[LabelledStructure], references: Mapping[str, float]) -> dict[str, float]:
    """What a model's energy per atom of each element (eV) best starts from, in the order of `references`.

    The least-squares solution s of (E - Σ_i E_ref(Z_i)) / N = Σ_Z (n_Z / N) s_Z, the one of smallest norm: the mean
    binding energy per atom if the references are energies of isolated atoms, and zero if they were fitted. Structures
    without an energy do not count; an element that no structure has gets zero.

    Raises:
        ValueError: if a structure has an element that `references` does not have.
    """
    labelled = [structure for structure in structures if np.isfinite(structure.energy)]
    if not labelled:
        return dict.fromkeys(references, 0.0)
    elements = sorted({symbol for structure in labelled for symbol in structure.atoms.symbols})
    missing = [element for element in elements if element not in references]
    if missing:
        raise ValueError(f"no reference energy for {', '.join(missing)}; the energies given: {dict(references)}")
    binding = [s.energy - sum(references[symbol] for symbol in s.atoms.symbols) for s in labelled]
    found, _, _ = _least_squares(labelled, binding, elements)
    # Rounding, to far less than any model's error, turns the noise about zero after a fit into zeros.
    return {element: round(found.get(element, 0.0), 6) + 0.0 for element in references}


def _given(energies: Mapping[str, float], elements: Sequence[str]) -> dict[str, float]:
    for symbol, energy in energies.items():
        if symbol not in atomic_numbers:
            hint = did_you_mean(str(symbol).capitalize(), chemical_symbols[1:])
            raise ValueError(f"{symbol!r} is not a chemical symbol{hint}")
        if not isinstance(energy, Real) or isinstance(energy, bool) or not np.isfinite(energy):
            raise ValueError(f"the reference energy of {symbol} is {energy!r}; expected a finite number in eV")
    missing = [element for element in elements if element not in energies]
    if missing:
        raise ValueError(
            f"no reference energy given for {', '.join(missing)}; the structures contain {', '.join(elements)}, "
            f"the energies given are for {', '.join(energies) or 'no element'}"
        )
    return {element: float(energies[element]) for element in elements}


def _isolated_energies(structures: Sequence[LabelledStructure]) -> dict[str, float]:
    found: dict[str, LabelledStructure] = {}
    for structure in structures:
        if not structure.is_isolated_atom or not np.isfinite(structure.energy):
            continue
        first = found.setdefault(structure.atoms.get_chemical_formula(), structure)
        if abs(first.energy - structure.energy) > 1e-3:
            raise ValueError(
                f"the isolated {structure.atoms.symbols[0]} atom has the energy {first.energy} eV in {first.origin} "
                f"and {structure.energy} eV in {structure.origin}; keep one of them"
            )
    return {symbol: structure.energy for symbol, structure in found.items()}


def _fit(structures: Sequence[LabelledStructure], elements: Sequence[str]) -> dict[str, float]:
    labelled = [structure for structure in structures if np.isfinite(structure.energy)]
    seen = {symbol for structure in labelled for symbol in structure.atoms.symbols}
    unseen = [element for element in elements if element not in seen]
    if unseen:
        raise ValueError(f"reference energies cannot be fitted: no structure with {', '.join(unseen)} has an energy")
    solution, rank, residual = _least_squares(labelled, [structure.energy for structure in labelled], elements)
    logger.info("reference energies fitted to %d structures, RMSE %.4g eV/atom", len(labelled), residual)
    if rank < len(elements):
        logger.warning(
            "the compositions determine only %d combination(s) of the reference energies of %s, not each of them: "
            "the solution of smallest norm is taken. Compositions unlike those of the data will have wrong energies; "
            "isolated atoms would repair that",
            *(rank, ", ".join(elements)),
        )
    return solution


def _least_squares(
    structures: Sequence[LabelledStructure], energies: Sequence[float], elements: Sequence[str]
) -> tuple[dict[str, float], int, float]:
    """E_Z of smallest norm with E / N = Σ_Z (n_Z / N) E_Z, the rank of that problem, and the residual (eV/atom)."""
    numbers = np.array([atomic_numbers[element] for element in elements])
    counts = np.array([(s.atoms.numbers[:, None] == numbers).sum(axis=0) for s in structures], dtype=np.float64)
    num_atoms = np.array([len(structure.atoms) for structure in structures])
    fractions = counts / num_atoms[:, None]  # (structures, elements)
    targets = np.asarray(energies) / num_atoms
    solution, _, rank, _ = np.linalg.lstsq(fractions, targets, rcond=None)
    residual = float(np.sqrt(np.mean((fractions @ solution - targets) ** 2)))
    return {element: float(energy) for element, energy in zip(elements, solution, strict=True)}, int(rank), residual
