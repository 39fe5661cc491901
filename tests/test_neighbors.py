"""Neighbour lists against a brute-force oracle, and the skin against fresh lists."""

import itertools
import time

import numpy as np
import pytest
import torch
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st

from sciml.neighbors import VerletList, neighbor_list

CUDA = pytest.param("cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA")])


def brute_force(positions, cell, pbc, cutoff):
    """Every (sender, receiver, n) within the cutoff, by trying all images of all pairs; also the least |r - cutoff|."""
    positions, cell = np.asarray(positions, float), np.asarray(cell, float)
    reach = [0, 0, 0]
    if any(pbc):
        dual = np.linalg.pinv(cell[pbc])  # columns are dual to the periodic rows: |n| <= |dual| (cutoff + |r_j - r_i|)
        extent = cutoff + np.linalg.norm(np.ptp(positions, axis=0))
        for axis, column in zip(np.flatnonzero(pbc), dual.T, strict=True):
            reach[axis] = int(np.ceil(np.linalg.norm(column) * extent))
    edges, margin = set(), np.inf
    for n in itertools.product(*(range(-k, k + 1) for k in reach)):
        distances = np.linalg.norm(positions[:, None] - positions[None] + np.array(n) @ cell, axis=-1)  # (j, i)
        if not any(n):
            np.fill_diagonal(distances, np.inf)
        margin = min(margin, np.abs(distances - cutoff).min())
        edges |= {(int(j), int(i), *n) for j, i in np.argwhere(distances < cutoff)}
    return edges, margin


def as_list(edge_index, edge_shifts):
    return [
        (*map(int, pair), *map(int, n)) for pair, n in zip(edge_index.T.tolist(), edge_shifts.tolist(), strict=True)
    ]


def assert_well_formed(edge_index, edge_shifts):
    assert edge_index.dtype == torch.int64
    assert edge_shifts.dtype == torch.float64
    edges = as_list(edge_index, edge_shifts)
    assert len(set(edges)) == len(edges)
    assert edges == sorted(edges, key=lambda e: (e[1], e[0], *e[2:]))
    assert {(i, j, -a, -b, -c) for j, i, a, b, c in edges} == set(edges)
    return edges


def assert_matches_brute_force(positions, cell, pbc, cutoff, device="cpu"):
    expected, margin = brute_force(positions, cell, np.asarray(pbc), cutoff)
    edges = assert_well_formed(*neighbor_list(torch.as_tensor(positions, device=device), cell, pbc, cutoff))
    if margin > 1e-9:  # pairs at the cutoff itself are decided by rounding, which differs here
        assert set(edges) == expected
    return edges


@st.composite
def structures(draw):
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pbc = np.array(draw(st.tuples(st.booleans(), st.booleans(), st.booleans())))
    lengths = np.array(draw(st.tuples(*[st.floats(1.5, 9.0)] * 3)))
    skew = draw(st.sampled_from([0.0, 0.3, 1.5]))
    cell = np.diag(lengths) + skew * np.tril(generator.normal(size=(3, 3)) * lengths, -1)
    cell = cell @ np.linalg.qr(generator.normal(size=(3, 3)))[0]  # any orientation, either handedness
    cell[~pbc] *= draw(st.sampled_from([0.0, 1e-3, 1.0]))  # what stands on the other axes must not matter
    spread = draw(st.sampled_from([1.0, 5.0, 25.0]))
    positions = generator.normal(size=(draw(st.integers(1, 6)), 3)) * spread
    cutoff = draw(st.floats(0.5, 5.0))
    return positions, cell, pbc, cutoff


@settings(max_examples=200, deadline=None, derandomize=True)
@given(structures())
def test_same_edges_as_brute_force(structure):
    assert_matches_brute_force(*structure)


NAMED = {
    "one atom, no cell": ([[0.0, 0, 0]], np.zeros((3, 3)), [False] * 3, 3.0, 0),
    "one atom and its images": ([[7.0, -9, 3]], np.eye(3) * 2.0, [True] * 3, 2.1, 6),
    "cell far below the cutoff": ([[0.0, 0, 0], [0.5, 0.5, 0.5]], np.eye(3) * 1.5, [True] * 3, 5.0, None),
    "two far atoms": ([[0.0, 0, 0], [9.0, 0, 0]], np.zeros((3, 3)), [False] * 3, 3.0, 0),
    "cell but not periodic": ([[0.1, 0, 0], [4.9, 0, 0]], np.eye(3) * 5.0, [False] * 3, 1.0, 0),
    "periodic across the face": ([[0.1, 0, 0], [4.9, 0, 0]], np.eye(3) * 5.0, [True] * 3, 1.0, 2),
    "slab with a zero vector": ([[0.1, 0, 0], [4.9, 0, 9]], np.diag([5.0, 5, 0]), [True, True, False], 5.1, 8),
    "slab and a vector in its plane": ([[0.1, 0, 0]], [[5.0, 0, 0], [0, 5, 0], [1, 1, 0]], [True, True, False], 5.1, 4),
    "wire along b": ([[0.0, 0, 0]], np.diag([0.0, 2, 0]), [False, True, False], 4.1, 4),
    "left-handed": ([[0.1, 0, 0], [2.0, 1, 3.9]], np.diag([4.0, 4, -4]), [True] * 3, 4.3, None),
    "strongly skewed": ([[0.1, 0, 0], [2.0, 1, 1]], [[3.0, 0, 0], [16, 3, 0], [7, -5, 3]], [True] * 3, 4.3, None),
    "atoms on one point": ([[1.0, 1, 1], [1.0, 1, 1]], np.zeros((3, 3)), [False] * 3, 2.0, 2),
    "atoms on one point, periodic": ([[0.0, 0, 0], [5.0, 0, 0]], np.eye(3) * 5.0, [True] * 3, 2.0, 2),
    "distance equal to the cutoff": ([[0.0, 0, 0], [1.5, 0, 0]], np.eye(3) * 6.0, [True] * 3, 1.5, 0),
    "atom that flew away": ([[0.0, 0, 0], [1.0, 0, 0], [1e9, 30, 0]], np.zeros((3, 3)), [False] * 3, 2.0, 2),
    "flown off a slab": ([[0.0, 0, 0], [1.0, 0, 1e9]], np.eye(3) * 3.0, [True, True, False], 2.0, 0),
    "plane wider than vesin's grid": (
        [[0.0, 0, 0], [1.0, 0, 0], [9e4, 20, 0], [9e4, 21, 0]], np.zeros((3, 3)), [False] * 3, 2.0, 4,
    ),
    "long and thin cell": ([[0.0, 0, 0], [4e5 - 1, 0, 0]], np.diag([4e5, 3.0, 3.0]), [True] * 3, 2.0, 2),
}  # fmt: skip


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("name", NAMED)
def test_named_structures(name, device):
    positions, cell, pbc, cutoff, count = NAMED[name]
    edges = as_list(*neighbor_list(torch.tensor(positions, device=device), np.array(cell), np.array(pbc), cutoff))
    if count is None or np.abs(positions).max() < 1e3:
        assert edges == assert_matches_brute_force(positions, np.array(cell), np.array(pbc), cutoff, device)
    if count is not None:
        assert len(edges) == count


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_random_structures_on_each_device(device):
    generator = np.random.default_rng(3)
    for pbc in itertools.product([False, True], repeat=3):
        cell = np.diag(generator.uniform(3, 9, 3)) + generator.normal(size=(3, 3))
        assert_matches_brute_force(generator.normal(size=(20, 3)) * 6, cell, np.array(pbc), 3.5, device)


def test_images_far_from_the_cell_have_large_shifts():
    cell = np.diag([4.0, 5.0, 6.0])
    near = np.array([[0.5, 0.5, 0.5], [1.5, 0.5, 0.5]])
    far = near + np.array([[3e10, 0, 0], [0, 0, 0]]) @ cell
    edge_index, shifts = neighbor_list(far, cell, np.array([True] * 3), 2.0)
    assert as_list(edge_index, shifts) == [(1, 0, 30000000000, 0, 0), (0, 1, -30000000000, 0, 0)]


def test_edges_of_a_crystal():
    atoms = bulk("Cu", "fcc", a=3.6)
    edge_index, _ = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, 3.6 * 1.01)
    assert edge_index.shape[1] == 12 + 6  # two shells


@pytest.mark.parametrize("cutoff", [0.0, -1.0, np.nan, np.inf])
def test_cutoff_must_be_positive(cutoff):
    with pytest.raises(ValueError, match="cutoff"):
        neighbor_list(np.zeros((1, 3)), np.zeros((3, 3)), np.zeros(3, bool), cutoff)
    with pytest.raises(ValueError, match="cutoff"):
        VerletList(cutoff)


@pytest.mark.parametrize(
    ("positions", "cell", "pbc", "message"),
    [
        (np.full((1, 3), np.nan), np.eye(3), [True] * 3, "finite"),
        (np.zeros((1, 3)), np.full((3, 3), np.inf), [True] * 3, "finite"),
        (np.zeros((2, 2)), np.eye(3), [True] * 3, "expected"),
        (np.zeros((2, 3)), np.eye(3)[:2], [True] * 3, "expected"),
        (np.zeros((2, 3)), np.diag([1.0, 1, 0]), [True] * 3, "linearly independent"),
        (np.zeros((2, 3)), [[3.0, 0, 0], [6, 0, 0], [0, 0, 3]], [True, True, False], "linearly independent"),
        (np.zeros((2, 3)), np.diag([1e12, 2.0, 2.0]), [True] * 3, "elongated"),
    ],
)  # fmt: skip
def test_what_has_no_list_is_refused(positions, cell, pbc, message):
    with pytest.raises(ValueError, match=message):
        neighbor_list(np.asarray(positions), np.array(cell), np.array(pbc), 3.0)


def test_no_atoms():
    edge_index, shifts = neighbor_list(np.zeros((0, 3)), np.zeros((3, 3)), np.zeros(3, bool), 3.0)
    assert edge_index.shape == (2, 0)
    assert shifts.shape == (0, 3)


def assert_same_as_fresh(verlet, positions, cell, pbc):
    got, expected = verlet.update(positions, cell, pbc), neighbor_list(positions, cell, pbc, verlet.cutoff)
    assert torch.equal(got[0].cpu(), expected[0])
    assert torch.equal(got[1].cpu(), expected[1])


PBC = [np.array(pbc) for pbc in itertools.product([False, True], repeat=3)]


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("pbc", PBC, ids=str)
def test_verlet_list_equals_fresh_lists_on_a_random_walk(pbc, device):
    generator = np.random.default_rng(int(pbc @ [1, 2, 4]))
    cell = np.diag([5.0, 6.0, 4.0]) + 0.8 * generator.normal(size=(3, 3))
    positions = generator.uniform(size=(12, 3)) @ cell
    verlet = VerletList(3.5, skin=0.6, device=device)
    for step in range(120):
        positions += 0.03 * generator.normal(size=positions.shape) + 0.05
        if step % 3 == 0:  # a barostat that strains cell and atoms together, shears included
            strain = np.eye(3) + 0.003 * generator.normal(size=(3, 3))
            cell, positions = cell @ strain, positions @ strain
        if step % 25 == 24:  # the caller folds the atoms back into the cell
            fractions = positions @ np.linalg.inv(cell)
            positions = np.where(pbc, fractions % 1, fractions) @ cell
        assert_same_as_fresh(verlet, positions, cell, pbc)
    assert 5 < verlet.num_builds < 90


@settings(max_examples=100, deadline=None, derandomize=True)
@given(structures(), st.integers(0, 2**32 - 1), st.sampled_from([0.02, 0.1, 0.3]))
def test_verlet_list_is_complete_after_any_move_and_strain(structure, seed, size):
    positions, cell, pbc, cutoff = structure
    generator = np.random.default_rng(seed)
    verlet = VerletList(cutoff, skin=1.0)
    for _ in range(4):
        strain = np.eye(3) + 0.3 * size * generator.normal(size=(3, 3))
        positions = positions @ strain + size * generator.normal(size=positions.shape)
        cell = cell @ strain
        assert_same_as_fresh(verlet, positions, cell, pbc)


@pytest.mark.parametrize("scale", [0.8, 0.97, 1.03, 1.25])
def test_verlet_list_survives_a_cell_that_changes_without_its_atoms(scale):
    generator = np.random.default_rng(0)
    cell, pbc = np.eye(3) * 6.0, np.array([True, True, False])
    positions = generator.uniform(0, 6, size=(20, 3))
    verlet = VerletList(3.0, skin=0.5)
    verlet.update(positions, cell, pbc)
    assert_same_as_fresh(verlet, positions, cell * scale, pbc)


def test_verlet_list_sees_an_image_come_closer_when_only_the_cell_changes():
    """The cell shrinks by 3 %, less than the skin, but the pair spans ten cells."""
    positions, pbc = np.array([[0.0, 0, 0], [76.2, 0, 0]]), np.array([True, False, False])
    verlet = VerletList(3.0, skin=0.5)
    assert verlet.update(positions, np.eye(3) * 8.0, pbc)[0].shape == (2, 0)
    assert_same_as_fresh(verlet, positions, np.eye(3) * 7.76, pbc)


def test_verlet_list_is_reused_when_the_crystal_expands_with_its_atoms():
    crystal = bulk("Si", cubic=True) * (3, 3, 3)
    verlet = VerletList(3.0, skin=0.5)
    for stretch in (1.0, 1.02, 1.05):  # atoms move by up to half a cell times this, far more than the skin
        assert_same_as_fresh(verlet, crystal.positions * stretch, crystal.cell.array * stretch, crystal.pbc)
    assert verlet.num_builds == 1


def test_verlet_list_rebuilds_exactly_when_it_must():
    positions, cell, pbc = np.array([[0.0, 0, 0], [2.9, 0, 0], [3.2, 3, 0]]), np.eye(3) * 20, np.array([True] * 3)
    verlet = VerletList(3.0, skin=0.5)
    verlet.update(positions, cell, pbc)
    assert verlet.num_builds == 1
    moved = positions + np.array([[0.2, 0, 0], [-0.2, 0, 0], [0, 0, 0]])
    verlet.update(moved, cell, pbc)
    verlet.update(positions + 50.0, cell, pbc)  # a translation
    assert verlet.num_builds == 1
    verlet.update(positions + np.array([[0.26, 0, 0], [-0.26, 0, 0], [0, 0, 0]]), cell, pbc)
    assert verlet.num_builds == 2
    for new in (
        (positions[:2], cell, pbc),  # an atom less
        (positions[:2], cell, np.array([True, True, False])),
        (positions[:2] + np.array([[0, 0, 0], [20, 0, 0]]), cell, np.array([True, True, False])),  # one atom wrapped
        (positions[:2], cell, np.array([True, True, False])),
    ):
        before = verlet.num_builds
        assert_same_as_fresh(verlet, *new)
        assert verlet.num_builds == before + 1
    before = verlet.num_builds
    assert_same_as_fresh(verlet, positions[:2], np.diag([20.0, 20, 99]), np.array([True, True, False]))
    assert verlet.num_builds == before  # a cell vector that is not periodic means nothing


def test_two_atoms_may_share_the_skin_unevenly():
    positions, cell, pbc = (
        np.array([[0.0, 0, 0], [3.4, 0, 0], *[[9.0, 3 * k, 0] for k in range(40)]]),
        np.zeros((3, 3)),
        PBC[0],
    )
    verlet = VerletList(3.0, skin=0.5)
    verlet.update(positions, cell, pbc)
    positions[1, 0] -= 0.45  # more than half the skin, but the other one stood still
    assert_same_as_fresh(verlet, positions, cell, pbc)
    assert verlet.num_builds == 1


def test_no_skin_rebuilds_always():
    verlet = VerletList(3.0, skin=0.0)
    for _ in range(3):
        assert_same_as_fresh(verlet, np.zeros((1, 3)), np.eye(3) * 2, np.array([True] * 3))
    assert verlet.num_builds == 3


def test_returned_edges_are_not_overwritten_and_the_callers_arrays_not_aliased():
    atoms = bulk("Si", cubic=True)
    verlet = VerletList(3.0, skin=0.5)
    first = verlet.update(atoms.positions, atoms.cell.array, atoms.pbc)
    kept = [tensor.clone() for tensor in first]
    atoms.positions[0] += 1.0  # in place, as integrators do
    assert_same_as_fresh(verlet, atoms.positions, atoms.cell.array, atoms.pbc)
    assert verlet.num_builds == 2
    assert all(torch.equal(a, b) for a, b in zip(first, kept, strict=True))


@pytest.mark.parametrize("skin", [-0.1, np.nan, np.inf])
def test_skin_must_not_be_negative(skin):
    with pytest.raises(ValueError, match="skin"):
        VerletList(3.0, skin=skin)


def test_verlet_list_refuses_a_simulation_that_blew_up():
    verlet = VerletList(3.0)
    verlet.update(np.zeros((2, 3)), np.eye(3) * 9, np.array([True] * 3))
    with pytest.raises(ValueError, match="finite"):
        verlet.update(np.full((2, 3), np.nan), np.eye(3) * 9, np.array([True] * 3))


def test_update_without_rebuild_is_cheaper_than_a_build():
    atoms = bulk("Si", cubic=True) * (3, 3, 3)
    atoms.rattle(0.1, seed=0)
    arguments = atoms.positions, atoms.cell.array, atoms.pbc
    verlet = VerletList(5.0, skin=0.5)
    verlet.update(*arguments)

    def fastest(call):
        times = []
        for _ in range(7):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        return min(times)

    assert fastest(lambda: verlet.update(*arguments)) < fastest(lambda: neighbor_list(*arguments, 5.0))
    assert verlet.num_builds == 1
