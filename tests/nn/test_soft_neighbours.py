import math

import pytest
import torch
from ase.build import bulk, molecule

from sciml.graphs import graph_from_atoms
from sciml.nn.bond_order import BondOrientationalOrder
from sciml.nn.soft_neighbours import reverse_edges, soft_neighbours

CUTOFF = 4.0


def graph_of(name):
    atoms = molecule(name) if name != "Si" else bulk("Si", cubic=True) * (1, 1, 2)
    atoms.rattle(0.1, seed=1)
    return graph_from_atoms(atoms, CUTOFF)


def envelope(x):
    return math.exp(-x * x / (1 - x * x)) if x < 1 else 0.0


@pytest.mark.parametrize("name", ["CH3CH2OH", "Si"])
@pytest.mark.parametrize("num_neighbours", [None, 4])
def test_envelope_is_its_formula_edge_by_edge(name, num_neighbours):
    graph = graph_of(name)
    distances = graph.edge_vectors().norm(dim=1)
    senders, receivers = graph.edge_index.tolist()
    reverse = reverse_edges(graph.edge_index, graph.edge_shifts, graph.num_nodes)
    slots = soft_neighbours(
        distances, graph.edge_index, reverse, graph.num_nodes, cutoff=CUTOFF, num_neighbours=num_neighbours
    )
    d = distances.tolist()

    def rank(edge):
        own = [k for k in range(len(d)) if receivers[k] == receivers[edge]]
        return sum(envelope(d[k] / CUTOFF) / (1 + math.exp(-(d[edge] - d[k]) / 0.2)) for k in own)

    for edge in range(0, len(d), 7):
        x = d[edge] / CUTOFF
        if num_neighbours is not None:
            (back,) = [
                k
                for k in range(len(d))
                if (senders[k], receivers[k]) == (receivers[edge], senders[edge])
                and torch.equal(graph.edge_shifts[k], -graph.edge_shifts[edge])
            ]
            assert reverse[edge] == back
            terms = (rank(edge) / num_neighbours, rank(back) / num_neighbours, x)
            x = 0.1 * math.log(sum(math.exp(t / 0.1) for t in terms))
        assert float(slots.envelope[edge]) == pytest.approx(envelope(x), rel=1e-10, abs=1e-100)


def test_slots_hold_the_atom_itself_and_all_edges_with_an_envelope():
    graph = graph_of("Si")
    distances = graph.edge_vectors().norm(dim=1)
    reverse = reverse_edges(graph.edge_index, graph.edge_shifts, graph.num_nodes)
    slots = soft_neighbours(distances, graph.edge_index, reverse, graph.num_nodes, cutoff=CUTOFF, num_neighbours=2)
    assert slots.edges.shape[1] % 8 == 0
    assert (slots.log_envelope[:, 0] == 0).all()
    held = slots.edges[slots.edges < len(distances)]
    assert sorted(held.tolist()) == (slots.envelope > 0).nonzero()[:, 0].tolist()
    assert 0 < len(held) < len(distances)
    senders, receivers = graph.edge_index
    rows = torch.arange(graph.num_nodes)[:, None].expand_as(slots.edges)
    assert torch.equal(receivers[held], rows[slots.edges < len(distances)])
    atoms = slots.atoms(senders)
    assert torch.equal(atoms[slots.edges < len(distances)], senders[held])
    assert torch.equal(atoms[slots.edges == len(distances)], rows[slots.edges == len(distances)])
    torch.testing.assert_close(slots.fill(slots.envelope)[:, 1:], slots.log_envelope.exp()[:, 1:])
    # Both ways, or not at all.
    torch.testing.assert_close(slots.envelope, slots.envelope[reverse])


def test_no_edges():
    nothing = torch.zeros(2, 0, dtype=torch.long)
    slots = soft_neighbours(torch.zeros(0), nothing, nothing[0], 3, cutoff=CUTOFF, num_neighbours=4)
    assert slots.log_envelope.tolist() == [[0.0, *[-math.inf] * 7]] * 3


def test_edges_one_way_have_no_reverse():
    with pytest.raises(ValueError, match="some have no reverse"):
        reverse_edges(torch.tensor([[0], [1]]), torch.zeros(1, 3), 2)


def test_bond_orientational_order_of_known_crystals():
    """q_4 and q_6 of the twelve neighbours of fcc: 0.19094 and 0.57452 (without the atom itself)."""
    graph = graph_from_atoms(bulk("Cu", "fcc", a=3.6), 3.0)
    vectors = graph.edge_vectors()
    assert len(vectors) == 12
    order = BondOrientationalOrder(9).double()
    q = order(vectors / vectors.norm(dim=1, keepdim=True), torch.ones(12).double(), graph.edge_index[1], 1)[0]
    itself = 12 / 13
    # Component normalisation has Σ_m |Y_lm|² = 2l + 1, so that q_l here is that of the literature.
    assert float(q[4]) / itself == pytest.approx(0.19094, abs=2e-5)
    assert float(q[6]) / itself == pytest.approx(0.57452, abs=2e-5)
    assert float(q[0]) == pytest.approx(1.0, abs=1e-5)
    assert float(q[1]) == pytest.approx(1e-3, rel=1e-6)
