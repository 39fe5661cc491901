import numpy as np
import torch
from ase.build import bulk, molecule

from sciml.graphs import collate, graph_from_atoms
from sciml.rotations import random_rotations, rotated

LIKE = torch.zeros(1, dtype=torch.float64)


def test_random_rotations_are_rotations_and_come_from_the_generator():
    matrices = random_rotations(50, like=LIKE, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(matrices @ matrices.transpose(1, 2), torch.eye(3).double().expand(50, 3, 3))
    torch.testing.assert_close(torch.linalg.det(matrices), torch.ones(50).double())
    again = random_rotations(50, like=LIKE, generator=torch.Generator().manual_seed(1))
    assert torch.equal(matrices, again)
    assert random_rotations(2, like=torch.zeros(1)).dtype == torch.float32


def test_random_rotations_are_uniform():
    """Moments of the Haar measure: <R_ij R_kl> = δ_ik δ_jl / 3, and the trace has the mean 0 and the variance 1."""
    matrices = random_rotations(200_000, like=LIKE, generator=torch.Generator().manual_seed(0))
    flat = matrices.flatten(1)
    torch.testing.assert_close(flat.T @ flat / len(flat), torch.eye(9).double() / 3, atol=4e-3, rtol=0)
    traces = matrices.diagonal(dim1=1, dim2=2).sum(dim=1)
    assert abs(float(traces.mean())) < 1e-2
    assert abs(float(traces.var()) - 1) < 1e-2
    # The angle has the density (1 - cos θ) / π: half of all rotations are by more than θ - sin θ = π/2.
    angles = torch.arccos(((traces - 1) / 2).clamp(-1, 1))
    assert abs(float((angles > 2.3098815).double().mean()) - 0.5) < 5e-3


def labelled(atoms, seed):
    graph = graph_from_atoms(atoms, 3.0)
    rng = np.random.default_rng(seed)
    graph.energy = torch.tensor([1.0])
    graph.forces = torch.from_numpy(rng.normal(size=(len(atoms), 3)))
    stress = rng.normal(size=(3, 3))
    graph.stress = torch.from_numpy(stress + stress.T)[None]
    return graph


def test_a_rotated_graph_is_that_of_rotated_atoms():
    structures = [molecule("CH3CH2OH"), bulk("Si", cubic=True)]
    batch = collate([labelled(atoms, seed) for seed, atoms in enumerate(structures)])
    original = batch.clone()
    rotations = random_rotations(2, like=batch.positions)
    turned = rotated(batch, rotations)
    for atoms, matrix in zip(structures, rotations.numpy(), strict=True):
        atoms.set_cell(atoms.cell.array @ matrix.T)
        atoms.positions = atoms.positions @ matrix.T
    expected = collate([graph_from_atoms(atoms, 3.0) for atoms in structures])
    torch.testing.assert_close(turned.positions, expected.positions)
    torch.testing.assert_close(turned.cell, expected.cell)
    vectors = torch.einsum("eab,eb->ea", rotations[batch.system_index[batch.edge_index[1]]], batch.edge_vectors())
    torch.testing.assert_close(turned.edge_vectors(), vectors)
    # Work and power, which do not depend on the axes.
    torch.testing.assert_close(
        (turned.forces * turned.positions).sum(dim=1), (batch.forces * batch.positions).sum(dim=1)
    )
    strained = turned.stress @ turned.cell.transpose(1, 2)
    torch.testing.assert_close(turned.cell @ strained, batch.cell @ batch.stress @ batch.cell.transpose(1, 2))
    for name in ("positions", "cell", "forces", "stress", "energy"):
        assert torch.equal(batch[name], original[name])
    assert turned.num_systems == 2


def test_what_is_partly_unknown_is_wholly_unknown_when_turned():
    graph = labelled(molecule("H2O"), 0)
    graph.forces[1, 2] = torch.nan
    forces = rotated(graph, random_rotations(1, like=graph.positions)).forces
    assert forces[1].isnan().all()
    assert forces[[0, 2]].isfinite().all()


def test_graphs_without_labels_turn():
    graph = graph_from_atoms(molecule("H2O"), 3.0)
    turned = rotated(graph, random_rotations(1, like=graph.positions))
    assert turned.get("forces") is None
