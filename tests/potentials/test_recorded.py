"""The recorded potential against the plain one; on a CPU all but the recording itself."""

import copy
import pickle

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

from sciml.potentials import TDN, Committee, EScAIP, Facet, Lens, Morse, PotentialCalculator, TransIP
from sciml.potentials.recorded import RecordedPotential

WITHOUT_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, WITHOUT_GPU])]

SIZES = {"species": [1, 6, 8, 14], "channels": 16}
MODELS = {
    "facet": lambda: Facet(**SIZES, cutoff=4.0),
    "escaip": lambda: EScAIP(**SIZES, cutoff=4.0, num_blocks=2, num_neighbours=8),
    "tdn": lambda: TDN(**SIZES, cutoff=4.0, repulsion=True),
    "lens": lambda: Lens(**SIZES, cutoff=4.0, num_heads=2),
    "transip": lambda: TransIP(species=[1, 6, 8, 14], channels=24, num_heads=2),
    "morse": lambda: Morse({"Si-Si": {"depth": 1.0, "steepness": 1.5, "distance": 2.4}}, cutoff=4.0),
    "committee": lambda: Committee([Facet(**SIZES, cutoff=4.0) for _ in range(2)]),
}


def potential_of(name, device, dtype=torch.float64):
    torch.manual_seed(1)
    potential = MODELS[name]().to(device=device, dtype=dtype).eval().requires_grad_(False)
    for key, weight in potential.named_parameters():
        if "norm_out" in key:
            weight.fill_(0.5)
    return potential


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", MODELS)
def test_results_are_those_of_the_calculator_while_atoms_move_and_structures_change(name, device):
    if name == "morse" and device == "cuda":
        pytest.skip("it asks the device whether two atoms are at the same point")
    potential = potential_of(name, device)
    plain, recorded = PotentialCalculator(potential, device=device), RecordedPotential(potential, skin=0.5)
    crystal = bulk("Si", cubic=True) * (2, 1, 1)
    structures = [crystal] if name == "morse" else [molecule("CH3CH2OH"), crystal, molecule("H2O")]
    if name == "transip":
        del structures[1]
    rng = np.random.default_rng(0)
    for atoms in structures:
        for step in range(6):
            atoms.positions += rng.normal(scale=0.03, size=atoms.positions.shape)
            if step == 4 and atoms.pbc.all():
                atoms.set_cell(atoms.cell.array * 1.02, scale_atoms=True)
            atoms.calc = plain
            found = recorded(atoms)
            for quantity in ("energy", "energies", "forces"):
                assert np.allclose(found[quantity].numpy(), atoms.calc.get_property(quantity, atoms), atol=1e-9)
            if atoms.pbc.all():
                assert np.allclose(found["stress"].numpy(), atoms.get_stress(voigt=False), atol=1e-11)
            if name == "committee":
                assert np.allclose(found["forces_spread"].numpy(), plain.results["forces_spread"], atol=1e-9)
    assert recorded.neighbors.num_builds < 6 * len(structures)


def test_one_recording_serves_a_trajectory():
    recorded = RecordedPotential(potential_of("facet", "cpu"), skin=0.3)
    atoms = bulk("Si", cubic=True) * (2, 2, 1)
    rng = np.random.default_rng(0)
    for _ in range(12):
        atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
        recorded(atoms)
    assert recorded.neighbors.num_builds > 3
    assert recorded.num_recordings == 1


def test_what_is_wrong_with_a_structure_is_said():
    recorded = RecordedPotential(potential_of("facet", "cpu"), skin=0.3)
    atoms = molecule("H2O")
    recorded(atoms)
    atoms.positions[1] = atoms.positions[0]
    with pytest.raises(ValueError, match=r"atom 0 and atom 1 .* are at the same point"):
        recorded(atoms)
    with pytest.raises(ValueError, match="atom 0 is N, which this potential does not know"):
        recorded(molecule("NH3"))
    atoms.positions[1] = np.nan
    with pytest.raises(ValueError, match="must be finite"):
        recorded(atoms)
    with pytest.raises(ValueError, match="compile=True on cpu"):
        PotentialCalculator(potential_of("facet", "cpu"), compile=True)


@WITHOUT_GPU
@pytest.mark.cuda
def test_the_compiled_calculator_can_be_copied_and_pickled():
    calculator = PotentialCalculator(potential_of("lens", "cuda", torch.float32), device="cuda", compile=True)
    atoms = molecule("CH3CH2OH")
    results = []
    for made in (calculator, copy.deepcopy(calculator), pickle.loads(pickle.dumps(calculator))):
        for _ in range(5):
            atoms.positions += 1e-6
            atoms.calc = made
            forces = atoms.get_forces()
        results.append(forces)
        atoms.positions -= 5e-6
        assert made._recorded.recording.graph is not None
    for forces in results[1:]:
        assert np.allclose(forces, results[0], atol=1e-5)
