"""The model of torch-sim: by itself on objects that look like its states, and in torch-sim where it is installed."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.md.verlet import VelocityVerlet

from sciml.graphs import graph_from_atoms
from sciml.neighbors import neighbor_list
from sciml.potentials import Morse, PotentialCalculator
from sciml.potentials.batched_neighbours import BatchedVerletList
from sciml.potentials.facet import Facet
from sciml.potentials.torch_sim import TorchSimModel


def network(species=(1, 6, 8)):
    torch.manual_seed(0)
    potential = Facet(species=species, cutoff=3.5, channels=8, lmax=1)
    with torch.no_grad():  # new layers are the identity
        for parameter in potential.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return potential.double()


def skewed(seed=0):
    atoms = bulk("C", "diamond", a=3.57) * (2, 1, 1)
    atoms.set_cell(atoms.cell.array @ np.array([[1.05, 0.02, 0], [0, 0.97, 0.1], [0, 0, 1]]), scale_atoms=True)
    atoms.rattle(0.1, seed=seed)
    return atoms


def state_of(structures, dtype=torch.float64, pbc=None):
    """What torch-sim makes of structures: cell vectors in columns."""
    return SimpleNamespace(
        positions=torch.tensor(np.concatenate([a.positions for a in structures]), dtype=dtype),
        cell=torch.tensor(np.stack([a.cell.array.T for a in structures]), dtype=dtype),
        pbc=torch.tensor(np.array([a.pbc for a in structures])) if pbc is None else pbc,
        atomic_numbers=torch.tensor(np.concatenate([a.numbers for a in structures])),
        system_idx=torch.tensor(np.repeat(np.arange(len(structures)), [len(a) for a in structures])),
    )


def test_a_batch_has_the_results_of_the_calculator():
    potential = network()
    structures = [molecule("CH3CH2OH"), skewed(), Atoms("H"), skewed(1)]
    model = TorchSimModel(potential)
    result = model(state_of(structures))
    ends = np.cumsum([0, *map(len, structures)])
    assert result["stress"].shape == (4, 3, 3)
    for number, atoms in enumerate(structures):
        atoms.calc = PotentialCalculator(potential)
        assert result["energy"][number].item() == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
        forces = result["forces"][ends[number] : ends[number + 1]].numpy()
        np.testing.assert_allclose(forces, atoms.get_forces(), atol=1e-10)
        if atoms.pbc.all():
            np.testing.assert_allclose(result["stress"][number].numpy(), atoms.get_stress(voigt=False), atol=1e-12)
        else:
            assert result["stress"][number].isnan().all()
    assert not any(tensor.requires_grad for tensor in result.values())


def test_what_is_not_asked_for_is_left_out_and_dtypes_are_kept():
    model = TorchSimModel(network(), dtype="float32", compute_stress=False)
    result = model(state_of([molecule("H2O")], torch.float32, pbc=False))
    assert set(result) == {"energy", "forces"}
    assert {tensor.dtype for tensor in result.values()} == {torch.float32}
    assert model.dtype == torch.float32
    model.compute_forces = False
    state = state_of([molecule("H2O")], torch.float32, pbc=[False] * 3)
    state.system_idx = None
    assert set(model(state)) == {"energy"}


def test_lists_are_reused_and_are_what_single_lists_are():
    structures = [skewed(), molecule("CH3CH2OH"), skewed(1)]
    lists = BatchedVerletList(3.0, skin=0.4)
    generator = np.random.default_rng(0)
    for step in range(12):
        state = state_of(structures)
        edges, shifts = lists.update(state.positions, state.cell.mT, state.pbc, state.system_idx)
        start = 0
        for number, atoms in enumerate(structures):
            single, single_shifts = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, 3.0)
            mine = state.system_idx[edges[1]] == number
            torch.testing.assert_close(edges[:, mine] - start, single)
            torch.testing.assert_close(shifts[mine], single_shifts)
            start += len(atoms)
        assert lists.num_builds >= 3
        structures[0].positions += generator.normal(scale=0.03, size=structures[0].positions.shape) + 5 * (step == 3)
        if step == 6:
            structures[2].set_cell(structures[2].cell.array * 1.01, scale_atoms=True)
    assert 4 < lists.num_builds < 3 + 11  # the molecule once, the strained crystal twice, the other now and then
    fewer = state_of(structures[:2])
    edges, _ = lists.update(fewer.positions, fewer.cell.mT, fewer.pbc, fewer.system_idx)
    assert len(edges[0]) == sum(len(neighbor_list(a.positions, a.cell.array, a.pbc, 3.0)[1]) for a in structures[:2])


def test_a_failed_build_leaves_nothing_behind():
    structures = [molecule("H2O"), molecule("CH4")]
    model = TorchSimModel(network())
    good = model(state_of(structures))
    broken = state_of(structures)
    broken.positions[4, 1] = torch.nan
    broken.positions[0, 0] += 3
    with pytest.raises(ValueError, match="not finite"):
        model(broken)
    torch.testing.assert_close(model(state_of(structures))["forces"], good["forces"])


def test_bad_states_are_refused():
    model = TorchSimModel(network())
    state = state_of([molecule("H2O"), molecule("CH4")])
    state.system_idx = state.system_idx.flip(0)
    with pytest.raises(ValueError, match="not in order"):
        model(state)
    state = state_of([molecule("H2O"), molecule("CH4")])
    state.cell = state.cell[:1]
    with pytest.raises(ValueError, match=r"1 cells, pbc \(2, 3\) and the systems \[0, 1\]"):
        model(state)
    with pytest.raises(ValueError, match="atom 0 is N"):
        model(state_of([molecule("NH3")]))
    doubled = Atoms("H2", positions=np.zeros((2, 3)))
    with pytest.raises(ValueError, match="at the same point"):
        model(state_of([doubled]))
    with pytest.raises(ValueError, match="expected a Potential"):
        TorchSimModel("runs/best")


def test_torch_sim_accepts_it_and_runs_two_molecules_as_ase_runs_each():
    torch_sim = pytest.importorskip("torch_sim")
    from torch_sim.models.interface import ModelInterface, validate_model_outputs

    pairs = {"depth": 0.3, "steepness": 1.5, "distance": 1.2}
    elements = ("C", "H", "O", "Si", "Fe", "Mg")
    potential = Morse({f"{a}-{b}": pairs for i, a in enumerate(elements) for b in elements[i:]}, 4.0)
    model = TorchSimModel(potential)
    assert isinstance(model, ModelInterface)
    validate_model_outputs(model, torch.device("cpu"), torch.float64)

    structures = [molecule("CH3CH2OH"), molecule("H2O")]
    generator = np.random.default_rng(0)
    for atoms in structures:
        atoms.set_momenta(generator.normal(scale=1.0, size=(len(atoms), 3)))
    timestep, steps = 0.5, 40
    final = velocity_verlet(torch_sim, model, structures, timestep=timestep, steps=steps)
    start = 0
    for atoms in structures:
        atoms.calc = PotentialCalculator(potential)
        VelocityVerlet(atoms, timestep * units.fs).run(steps)
        mine = final.positions[start : start + len(atoms)].numpy()
        np.testing.assert_allclose(mine, atoms.positions, atol=1e-8)
        start += len(atoms)
    assert np.abs(structures[1].positions - molecule("H2O").positions).max() > 0.05


def velocity_verlet(torch_sim, model, structures, *, timestep, steps):
    """Final state of an NVE run in torch-sim (its units: eV, Å, amu as ASE's), with the momenta of the structures."""
    state = torch_sim.io.atoms_to_state(structures, torch.device("cpu"), torch.float64)
    momenta = torch.tensor(np.concatenate([atoms.get_momenta() for atoms in structures]))
    dt = torch.tensor(timestep * units.fs, dtype=torch.float64)
    kt = torch.tensor(0.02, dtype=torch.float64)
    if hasattr(torch_sim.integrators, "nve_init"):
        state = torch_sim.integrators.nve_init(state, model, kT=kt)
        step = torch_sim.integrators.nve_step
    else:  # before version 0.4
        start, update = torch_sim.integrators.nve(model, dt=dt, kT=kt)
        state = start(state)

        def step(state, model, *, dt):
            return update(state, dt=dt)

    state.momenta = momenta
    for _ in range(steps):
        state = step(state, model, dt=dt)
    return state


def test_the_graph_is_that_of_the_structure():
    atoms = skewed()
    graph, expected = TorchSimModel(network())._graph(state_of([atoms])), graph_from_atoms(atoms, 3.5)
    torch.testing.assert_close(graph.edge_index, expected.edge_index)
    torch.testing.assert_close(graph.edge_vectors(), expected.edge_vectors())
