"""Evaluation in chunks: the same numbers, and what atoms may depend on."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from sciml.graphs import collate, graph_from_atoms
from sciml.potentials import Committee, LennardJones
from sciml.potentials.chunked import evaluate_in_chunks
from sciml.potentials.escaip import EScAIP
from sciml.potentials.facet import Facet
from sciml.potentials.lens import Lens
from sciml.potentials.surroundings import Surroundings, halves, wrapped_positions
from sciml.potentials.tdn import TDN
from tests.embedded_potential import Embedded

CUTOFF = 3.2
LJ = {"epsilon": 0.1, "sigma": 2.5}


def built(name):
    torch.manual_seed(0)
    common = {"species": [11, 17], "cutoff": CUTOFF}
    escaip = {**common, "num_blocks": 2, "channels": 16, "num_radial": 16, "radial_channels": 16, "num_heads": 1}
    potential = {
        "facet": lambda: Facet(**common, channels=4, lmax=1, num_layers=3, repulsion=True),
        "tdn": lambda: TDN(**common, channels=4, lmax=1, num_heads=2, num_blocks=2, repulsion=True),
        "escaip": lambda: EScAIP(**escaip, num_neighbours=4),
        "escaip, all neighbours": lambda: EScAIP(**escaip, num_neighbours=None),
        "lens": lambda: Lens(**common, channels=8, lmax=1, num_heads=1, num_radial=8),
        "pairs": lambda: LennardJones({"Na-Cl": LJ, "Na-Na": LJ, "Cl-Cl": LJ}, CUTOFF),
    }[name]()
    with torch.no_grad():  # new layers are the identity
        for parameter in potential.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return potential.double().eval().requires_grad_(False)


def crystal(repeats=(1, 2, 4), seed=0):
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True).repeat(repeats)
    atoms.rattle(0.2, seed=seed)
    return atoms


def chunks_of(graph, largest):
    positions, waiting, done = wrapped_positions(graph), [torch.arange(graph.num_nodes)], []
    while waiting:
        chunk = waiting.pop()
        if len(chunk) <= largest:
            done.append(chunk)
        else:
            waiting += halves(chunk, positions)
    return done


def assert_same(chunked, whole, tolerance=1e-11):
    for name, a, b in zip(whole._fields, chunked, whole, strict=True):
        scale = b.abs().max().nan_to_num(1.0)
        torch.testing.assert_close(a, b, rtol=0, atol=float(tolerance * scale), equal_nan=True, msg=name)


MODELS = ["facet", "tdn", "escaip", "escaip, all neighbours", "lens", "pairs"]


@pytest.mark.parametrize("name", MODELS)
def test_chunks_give_what_the_whole_gives(name):
    potential = built(name)
    perfect = bulk("NaCl", "rocksalt", a=5.6, cubic=True).repeat((1, 1, 3))  # neighbours at the same distance
    perfect.positions[0] += 0.1
    structures = [crystal(), perfect, Atoms("NaCl", positions=[[0, 0, 0], [0, 0, 9]])]
    drifted = crystal(seed=1)  # a slab whose atoms are anywhere
    drifted.pbc = (True, False, True)
    drifted.positions += np.random.default_rng(0).integers(-2, 3, (len(drifted), 1)) * drifted.cell.array[0]
    for atoms in [*structures, drifted]:
        graph = graph_from_atoms(atoms, CUTOFF)
        whole = potential(graph)
        for largest in (23, 7) if len(atoms) > 2 else (1,):
            assert_same(evaluate_in_chunks(potential, graph, chunks_of(graph, largest)), whole)


@pytest.mark.parametrize("name", MODELS)
def test_energies_depend_on_the_edges_within_their_hops_and_on_no_others(name):
    potential = built(name)
    atoms = Atoms("NaCl" * 6, positions=np.arange(12)[:, None] * [2.4, 0.3, 0.1])  # a chain, one bond a hop
    atoms.rattle(0.1, seed=0)
    graph = graph_from_atoms(atoms, CUTOFF)
    vectors = graph.edge_vectors().requires_grad_()
    (gradient,) = torch.autograd.grad(potential.all_atomic_energies(graph, vectors)[0], vectors)
    touched = graph.edge_index[1][(gradient != 0).any(dim=1)]
    # With ranked neighbours the last edges enter by the rank of the last atom among their own neighbours.
    assert int(touched.max()) == potential.num_hops - 1
    last = Surroundings(graph).part(torch.tensor([0]), potential.num_hops)
    assert last.atoms.tolist() == list(range(potential.num_hops + 1))
    stages = potential.stages()
    # Each of them looks one edge further for those ranks.
    assert sum(stage.hops for stage in stages) == potential.num_hops + potential.needs_reverse_edges * (len(stages) - 1)


def test_a_committee_has_its_spreads():
    committee = Committee([built("facet"), built("tdn")]).eval()
    graph = graph_from_atoms(crystal(), CUTOFF)
    assert committee.num_hops == 3
    chunked = evaluate_in_chunks(committee, graph, chunks_of(graph, 20))
    assert_same(chunked, committee(graph))
    assert chunked.forces_spread.max() > 0


def test_float32_differs_by_its_rounding_only():
    potential = built("facet").float()
    graph = graph_from_atoms(crystal(), CUTOFF)
    assert_same(evaluate_in_chunks(potential, graph, chunks_of(graph, 13)), potential(graph), tolerance=1e-5)


def test_what_cannot_be_divided_is_refused():
    graph = graph_from_atoms(crystal((1, 1, 1)), CUTOFF)
    everything = [torch.arange(8)]
    potential = built("tdn")
    with pytest.raises(ValueError, match="training mode"):
        evaluate_in_chunks(potential.train(), graph, everything)
    potential.eval()
    with pytest.raises(ValueError, match="batch of 2 structures"):
        evaluate_in_chunks(potential, collate([graph, graph]), everything)
    with pytest.raises(ValueError, match="leave out atoms or have them twice"):
        evaluate_in_chunks(potential, graph, [torch.arange(7)])
    direct = EScAIP(species=[11, 17], cutoff=CUTOFF, forces="direct", channels=16).eval()
    with pytest.raises(ValueError, match="no gradient of its energy"):
        evaluate_in_chunks(direct, graph, everything)
    water = graph_from_atoms(molecule("H2O"), CUTOFF)
    with pytest.raises(ValueError, match="which this potential does not know"):
        evaluate_in_chunks(potential, water, [torch.arange(3)])
    with pytest.raises(ValueError, match="does not declare `num_hops`"):
        evaluate_in_chunks(Embedded().eval(), water, [torch.arange(3)])
