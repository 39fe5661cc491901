"""Graphs: what they hold, their batches, and the structures that have none."""

import copy
import pickle

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from torch_geometric.data import Batch

from sciml.graphs import AtomicGraph, check_species, check_structure, collate, graph_from_atoms
from sciml.neighbors import VerletList


def structures():
    slab = fcc111("Al", (1, 1, 3), vacuum=4.0)  # periodic along a and b
    wire = Atoms("CO", positions=[[0, 0, 0], [0.3, 1.2, 0]], cell=[0, 0, 2.0], pbc=[False, False, True])
    far = Atoms("He2", positions=[[0, 0, 0], [50, 0, 0]])
    return [molecule("CH3CH2OH"), bulk("NaCl", "rocksalt", a=5.6), Atoms("Ar"), slab, far, wire, bulk("Cu")]


def test_graph_of_a_molecule():
    atoms = molecule("H2O")
    graph = graph_from_atoms(atoms, 1.2)
    assert graph.edge_index.tolist() == [[1, 2, 0, 0], [0, 0, 1, 2]]
    senders, receivers = graph.edge_index.numpy()
    assert torch.equal(graph.edge_vectors(), torch.tensor(atoms.positions[senders] - atoms.positions[receivers]))
    assert graph.num_systems == 1
    assert graph.system_index.tolist() == [0, 0, 0]
    assert graph.atomic_numbers.tolist() == [8, 1, 1]
    assert graph.volumes().isnan().all()


@pytest.mark.parametrize("atoms", structures(), ids=lambda atoms: atoms.get_chemical_formula())
def test_edge_vectors_point_from_receiver_to_the_image_of_the_sender(atoms):
    graph = graph_from_atoms(atoms, 4.0)
    vectors = graph.edge_vectors()
    assert (vectors.norm(dim=1) < 4.0).all()
    images = atoms.positions[graph.edge_index[0]] + graph.edge_shifts.numpy() @ atoms.cell.array
    np.testing.assert_allclose(vectors, images - atoms.positions[graph.edge_index[1]], atol=1e-13)
    assert (graph.edge_index[1].diff() >= 0).all()
    assert torch.zeros(len(atoms), 3, dtype=torch.float64).index_add(0, graph.edge_index[1], vectors).sum().abs() < 1e-9


def test_graph_shares_no_memory_with_the_atoms():
    atoms = bulk("Cu")
    graph = graph_from_atoms(atoms, 3.0)
    before = copy.deepcopy(graph)
    atoms.positions += 1.0
    atoms.cell *= 2.0
    atoms.numbers[:] = 1
    atoms.pbc = False
    assert all(torch.equal(graph[name], before[name]) for name in graph.keys() if name != "num_nodes")  # noqa: SIM118


def test_volumes():
    left_handed = bulk("Cu").cell.array[[1, 0, 2]]
    graphs = [graph_from_atoms(atoms, 3.0) for atoms in (bulk("Cu", a=3.6), Atoms("Cu", cell=left_handed, pbc=True))]
    assert torch.linalg.det(graphs[0].cell).sign() != torch.linalg.det(graphs[1].cell).sign()
    volumes = collate([*graphs, graph_from_atoms(Atoms("H", cell=[9, 9, 9], pbc=[1, 1, 0]), 3.0)]).volumes()
    assert volumes[0].item() == pytest.approx(3.6**3 / 4, rel=1e-14)
    assert volumes[1] > 0
    assert volumes[2].isnan()


def test_batch_is_the_disjoint_union():
    atoms = structures()
    graphs = [graph_from_atoms(a, 4.0) for a in atoms]
    batch = collate(graphs)
    assert isinstance(batch, AtomicGraph)
    assert batch.num_systems == len(atoms)
    assert batch.num_nodes == sum(map(len, atoms))
    assert batch.system_index.tolist() == [k for k, a in enumerate(atoms) for _ in a]
    assert (batch.edge_index[1].diff() >= 0).all()
    assert torch.equal(batch.pbc, torch.tensor(np.array([a.pbc for a in atoms])))
    assert torch.equal(batch.edge_vectors(), torch.cat([collate([g]).edge_vectors() for g in graphs]))
    offsets = np.cumsum([0, *map(len, atoms)])
    expected = torch.cat([g.edge_index + int(offset) for g, offset in zip(graphs, offsets, strict=False)], dim=1)
    assert torch.equal(batch.edge_index, expected)
    for back, graph in zip(batch.to_data_list(), graphs, strict=True):
        assert all(torch.equal(back[name], graph[name]) for name in graph.keys() if name != "num_nodes")  # noqa: SIM118


def test_batch_is_what_torch_geometric_makes_of_the_graphs():
    graphs = [graph_from_atoms(atoms, 4.0) for atoms in structures()]
    for graph in graphs:
        graph.forces = torch.rand(graph.num_nodes, 3)
    batch, expected = collate(graphs), Batch.from_data_list(graphs)
    assert type(batch) is type(expected)
    assert set(batch.keys()) == set(expected.keys())
    for name, value in expected.items():
        assert torch.equal(batch[name], value) if isinstance(value, torch.Tensor) else batch[name] == value
    assert batch.num_graphs == len(batch) == len(graphs)
    assert batch.ptr.tolist() == expected.ptr.tolist()
    assert torch.equal(batch[1].edge_index, graphs[1].edge_index)
    assert batch[1].num_nodes == graphs[1].num_nodes
    before = graphs[0].edge_index.clone()
    collate(graphs[:1]).edge_index.add_(1)
    assert torch.equal(graphs[0].edge_index, before)


def test_attributes_of_a_user_are_joined_as_torch_geometric_does():
    graphs = [graph_from_atoms(molecule(name), 4.0) for name in ("H2O", "CO")]
    for graph, name in zip(graphs, ("water", "carbon monoxide"), strict=True):
        graph.name = name
    assert collate(graphs).name == ["water", "carbon monoxide"]
    assert collate(graphs).num_systems == 2


def test_batch_without_any_edge():
    batch = collate([graph_from_atoms(Atoms("H"), 2.0), graph_from_atoms(Atoms("He"), 2.0)])
    assert batch.edge_index.shape == (2, 0)
    assert batch.edge_vectors().shape == (0, 3)
    assert batch.system_index.tolist() == [0, 1]


def test_batches_survive_pickling_for_worker_processes():
    batch = pickle.loads(pickle.dumps(collate([graph_from_atoms(a, 3.0) for a in structures()])))
    assert batch.num_systems == len(structures())


def test_labels_are_joined_and_never_dropped():
    graphs = [graph_from_atoms(molecule(name), 3.0) for name in ("H2O", "CO")]
    graphs[0].energy = torch.tensor([1.5], dtype=torch.float64)
    for order in (graphs, graphs[::-1]):
        with pytest.raises(ValueError, match="energy"):
            collate(order)
    graphs[1].energy = torch.tensor([torch.nan], dtype=torch.float64)
    assert collate(graphs).energy[0] == 1.5
    assert collate(graphs).energy.shape == (2,)


def test_only_single_structures_are_joined():
    graph = graph_from_atoms(Atoms("H"), 2.0)
    with pytest.raises(ValueError, match="graph 1 is a batch"):
        collate([graph, collate([graph, graph])])
    with pytest.raises(ValueError, match="at least one"):
        collate([])


def test_moving_a_graph_does_not_convert_it():
    graph = graph_from_atoms(bulk("Cu"), 3.0)
    assert graph.to("cpu").positions.dtype == torch.float64
    with pytest.raises(TypeError):
        graph.to(torch.float32)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA")
def test_graph_on_cuda():
    batch = collate([graph_from_atoms(a, 4.0) for a in structures()])
    assert torch.allclose(batch.clone().to("cuda").edge_vectors().cpu(), batch.edge_vectors())


def test_graph_along_a_trajectory_reuses_a_list():
    atoms, neighbors = bulk("Cu", cubic=True), VerletList(3.0, skin=0.5)
    for step in range(4):
        atoms.rattle(0.01, seed=step)
        reused, fresh = graph_from_atoms(atoms, 3.0, neighbors=neighbors), graph_from_atoms(atoms, 3.0)
        assert torch.equal(reused.edge_index, fresh.edge_index)
        assert torch.equal(reused.edge_shifts, fresh.edge_shifts)
    assert neighbors.num_builds == 1
    with pytest.raises(ValueError, match="cutoff"):
        graph_from_atoms(atoms, 3.5, neighbors=neighbors)


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (Atoms(), "without atoms"),
        (Atoms("HO", positions=[[0, 0, 0], [0, np.nan, 1]]), r"atom 1 \(O\).*nan"),
        (Atoms("H", cell=[1, np.inf, 1], pbc=True), "cell .* is not finite"),
        (Atoms("H", cell=[3, 3, 0], pbc=True), r"axis 2 \('c'\) is periodic"),
        (Atoms("H", cell=[[3, 0, 0], [6, 0, 0], [0, 0, 3]], pbc=True), "'abc' are linearly dependent"),
        (Atoms("H", cell=[[3, 0, 0], [6, 0, 0], [0, 0, 3]], pbc=[1, 1, 0]), "'ab' are linearly dependent"),
    ],
)
def test_structures_without_a_graph(atoms, message):
    with pytest.raises(ValueError, match=message):
        graph_from_atoms(atoms, 3.0)
    with pytest.raises(ValueError, match=message):
        check_structure(atoms)


def test_atoms_at_the_same_point_are_named():
    with pytest.raises(ValueError, match=r"atom 0 and atom 2 .*same point"):
        graph_from_atoms(Atoms("H3", positions=[[0, 0, 0], [1, 0, 0], [0, 0, 0]]), 3.0)
    with pytest.raises(ValueError, match=r"atom 0 and atom 1 \(image \[-1, 0, 0\]\)"):
        graph_from_atoms(Atoms("H2", positions=[[0, 0, 0], [4, 0, 0]], cell=[4, 4, 4], pbc=True), 3.0)


def test_species_are_checked_by_name():
    check_species(torch.tensor([1, 8, 1]), (1, 6, 8))
    with pytest.raises(ValueError, match=r"atom 2 is Au.*it knows H, O"):
        check_species(np.array([1, 8, 79]), (1, 8))
    with pytest.raises(ValueError, match="atomic number 0"):
        check_species([0], (1,))
