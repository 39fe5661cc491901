import logging

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from sciml.datasets import LabelledStructure, energy_shifts, reference_energies

TRUE = {"H": -13.6, "C": -1027.2, "O": -2042.3}


def structure(atoms, energy, config_type="default"):
    atoms = molecule(atoms) if isinstance(atoms, str) and atoms != "H" else Atoms(atoms)
    return LabelledStructure(atoms, energy, np.zeros((len(atoms), 3)), np.full((3, 3), np.nan), config_type)


def additive(name, offset=0.0):
    return structure(name, sum(TRUE[symbol] for symbol in molecule(name).get_chemical_symbols()) + offset)


MOLECULES = [additive(name) for name in ("H2O", "CH4", "CO2", "CH3CH2OH", "H2")]
ATOMS = [structure(Atoms(symbol), energy, "isolated_atom") for symbol, energy in TRUE.items()]


def test_isolated_atoms():
    bound = [additive("CH3CH2OH", offset=-30.0)]
    for source in ("isolated", "auto"):
        assert reference_energies([*bound, *ATOMS], source) == TRUE
    assert list(reference_energies([*bound, *reversed(ATOMS)])) == ["H", "C", "O"]


def test_atoms_of_elements_that_are_not_in_the_data_are_left_out():
    nitrogen = structure(Atoms("N"), -1485.0, "isolated_atom")
    assert reference_energies([additive("H2O"), *ATOMS, nitrogen]) == {"H": TRUE["H"], "O": TRUE["O"]}


def test_fit_recovers_additive_energies():
    fitted = reference_energies(MOLECULES, "fit")
    np.testing.assert_allclose(list(fitted.values()), list(TRUE.values()), rtol=1e-12)


def test_fit_does_not_use_isolated_atoms():
    shifted = [structure(s.atoms, s.energy + 5.0, "isolated_atom") for s in ATOMS]
    fitted = reference_energies([*MOLECULES, *shifted], "fit")
    np.testing.assert_allclose(list(fitted.values()), list(TRUE.values()), rtol=1e-12)


def test_auto_fits_if_an_atom_is_missing(caplog):
    with caplog.at_level(logging.INFO):
        fitted = reference_energies([*MOLECULES, *ATOMS[:2]])
    np.testing.assert_allclose(list(fitted.values()), list(TRUE.values()), rtol=1e-12)
    assert "fitted: no isolated atom for O" in caplog.text


def test_one_composition_gives_the_solution_of_smallest_norm(caplog):
    """E_Z = n_Z E / Σ n², by the pseudo-inverse of one row."""
    ethanol = additive("CH3CH2OH")
    fitted = reference_energies([ethanol] * 3, "fit")
    expected = {symbol: n * ethanol.energy / 41 for symbol, n in (("H", 6), ("C", 2), ("O", 1))}
    assert fitted == pytest.approx(expected, rel=1e-12)
    assert "determine only 1 combination(s) of the reference energies of H, C, O" in caplog.text


def test_frames_without_energy_are_not_fitted_to():
    fitted = reference_energies([*MOLECULES, structure("H2O", np.nan)], "fit")
    assert fitted["O"] == pytest.approx(TRUE["O"], rel=1e-12)


def test_given_energies():
    assert reference_energies(MOLECULES, {"O": 3, "C": 2, "N": 9, "H": 1}) == {"H": 1.0, "C": 2.0, "O": 3.0}
    with pytest.raises(ValueError, match=r"no reference energy given for C, O; .* contain H, C, O, .* are for H"):
        reference_energies(MOLECULES, {"H": 1.0})
    with pytest.raises(ValueError, match=r"'he' is not a chemical symbol; did you mean He\?"):
        reference_energies(MOLECULES, {**TRUE, "he": 1.0})
    for value in (np.nan, "1", None):
        with pytest.raises(ValueError, match=r"the reference energy of H is .*expected a finite number"):
            reference_energies(MOLECULES, {**TRUE, "H": value})


def test_errors_name_the_element():
    with pytest.raises(ValueError, match=r"no isolated atom with an energy for C; "):
        reference_energies([*MOLECULES, ATOMS[0], ATOMS[2]], "isolated")
    with pytest.raises(ValueError, match=r"cannot be fitted: no structure with O has an energy"):
        reference_energies([additive("CH4"), structure("H2O", np.nan)], "fit")
    with pytest.raises(ValueError, match=r"the isolated H atom has the energy -13\.6 eV .* and -13\.0 eV"):
        reference_energies([*MOLECULES, *ATOMS, structure(Atoms("H"), -13.0, "isolated_atom")])
    with pytest.raises(ValueError, match=r"unknown source of reference energies 'average'"):
        reference_energies(MOLECULES, "average")
    with pytest.raises(ValueError, match="isolated atoms all"):
        reference_energies(ATOMS)


def test_shifts_are_what_the_references_leave():
    bound = [additive(s.atoms.get_chemical_formula(), offset=-3.0 * len(s.atoms)) for s in MOLECULES[:3]]
    assert energy_shifts([*bound, structure("CO2", np.nan)], TRUE) == pytest.approx(dict.fromkeys(TRUE, -3.0))
    fitted = reference_energies([*bound, *MOLECULES[2:]], "fit")
    assert energy_shifts(bound, reference_energies(bound, "fit")) == dict.fromkeys(TRUE, 0.0)
    assert energy_shifts([*bound, *MOLECULES[2:]], fitted) == dict.fromkeys(TRUE, 0.0)
    assert energy_shifts([structure("H2O", np.nan)], TRUE) == dict.fromkeys(TRUE, 0.0)


def test_shifts_of_one_composition_have_the_smallest_norm_and_the_order_of_the_references():
    """s_Z = n_Z ΔE / Σ n²; nitrogen is in no structure."""
    shifts = energy_shifts([additive("CH3CH2OH", offset=-41.0)], {"N": 0.0, "O": TRUE["O"], **TRUE})
    assert list(shifts) == ["N", "O", "H", "C"]
    assert shifts == pytest.approx({"N": 0.0, "O": -1.0, "H": -6.0, "C": -2.0})
    with pytest.raises(ValueError, match="no reference energy for C, O"):
        energy_shifts(MOLECULES, {"H": -13.6})
