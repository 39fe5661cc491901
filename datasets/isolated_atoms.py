"""Isolated atoms under a reference method: what its total energies are measured from."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_numbers, ground_state_magnetic_moments

from sciml.datasets.calculators import calculator_factory
from sciml.datasets.walker import LabellingError
from sciml.potentials.ensembles import free_energy

OF_THE_WHOLE_STRUCTURE = ("charge", "multiplicity")


def isolated_atom(element: str, calculator: str, calculator_arguments: Mapping[str, Any]) -> Atoms:
    """One neutral atom of `element` without a cell, with energy (eV) and forces under the reference method.

    Its spin is that of the ground state of the atom (Hund's rules; `ase.data.ground_state_magnetic_moments`), handed to
    the calculator as the initial magnetic moment: H is a doublet, C, O and S are triplets, N and P quartets. tblite
    takes it as the number of unpaired electrons, with which GFN2-xTB converges. The charge and the multiplicity in
    `calculator_arguments` are left out, because they are those of the whole structure.

    Raises:
        LabellingError: if the calculator fails, or its energy is not finite.
    """
    arguments = {name: value for name, value in calculator_arguments.items() if name not in OF_THE_WHOLE_STRUCTURE}
    moment = float(ground_state_magnetic_moments[atomic_numbers[element]])
    atom = Atoms(element, magmoms=[moment], calculator=calculator_factory(calculator, arguments)())
    try:
        energy, forces = free_energy(atom), atom.get_forces()
        if not np.isfinite(energy):
            raise ValueError(f"its energy is {energy}")
    except Exception as error:  # a calculator that is not made for one atom raises whatever it comes across
        raise LabellingError(
            f"the calculator {calculator!r} failed on the isolated atom of {element} (magnetic moment {moment:g} μB): "
            f"{type(error).__name__}: {error}; set isolated_atoms to false to do without (reference energies are then "
            "fitted when a model is trained, or given)"
        ) from error
    frame = Atoms(element, info={"config_type": "isolated_atom"})
    frame.calc = SinglePointCalculator(frame, energy=energy, forces=forces)
    return frame
