import pytest
import torch
from ase.build import molecule

from sciml.graphs import graph_from_atoms
from sciml.nn.edge_weights import EdgeWeights, weighted_basis
from sciml.nn.soft_neighbours import soft_neighbours
from sciml.potentials import Lens
from sciml.potentials.lens import ATTENTIONS
from sciml.testing import check_potential

SIZES = {"species": [1, 6, 8], "channels": 16, "num_heads": 2, "cutoff": 3.0}


def lens(**options):
    torch.manual_seed(3)
    potential = Lens(**{**SIZES, **options})
    with torch.no_grad():
        for name, weight in potential.named_parameters():
            if "norm_out" in name:  # zero at the start, where layers are the identity
                weight.fill_(0.5)
    return potential


@pytest.mark.parametrize(
    "options",
    [
        *({"attention": attention} for attention in ATTENTIONS),
        {"num_neighbours": 12},
        {"tensor_product": "gaunt_grid"},
        {"lmax": 1, "pseudo": True, "repulsion": True},
    ],
    ids=str,
)
def test_laws(options):
    check_potential(lens(**options), species=[1, 8])


def test_weights_of_edges_are_a_softmax_with_the_atom_itself_in_its_denominator():
    graph = graph_from_atoms(molecule("CH3CH2OH"), 3.0)
    distances = graph.edge_vectors().norm(dim=1)
    slots = soft_neighbours(distances, graph.edge_index, None, graph.num_nodes, cutoff=3.0, num_neighbours=None)
    module = EdgeWeights(16, 2, average_num_neighbors=5.0).double()
    of_slots = torch.randn(*slots.edges.shape, 16, dtype=torch.float64)
    weights = module(of_slots, slots, slots.log_envelope)
    logits = module.logits(of_slots)
    for atom in range(graph.num_nodes):
        own = (graph.edge_index[1] == atom).nonzero()[:, 0].tolist()
        places = [slots.edges[atom].tolist().index(edge) for edge in own]
        terms = torch.stack([logits[atom, p].exp() * slots.envelope[e] for e, p in zip(own, places, strict=True)])
        expected = 5.0 * terms / (logits[atom, 0].exp() + terms.sum(dim=0))
        assert torch.allclose(weights[own], expected)
    basis = torch.rand(graph.num_edges, 3, dtype=torch.float64)
    assert torch.equal(weighted_basis(basis, weights)[:, 4], weights[:, 1] * basis[:, 1])


def test_angles_between_neighbours_matter_to_angular_attention_only():
    # Two hydrogens around an oxygen at two angles: all pairs within the cutoff have the same distances from it.
    def weights_at(potential, angle):
        atoms = molecule("H2O")
        atoms.set_angle(1, 0, 2, angle)
        graph = graph_from_atoms(atoms, 3.0)
        layer = potential.layers[0]
        found = {}
        layer.weights.register_forward_hook(lambda _module, _inputs, output: found.update(alpha=output))
        potential(graph)
        pair = (graph.edge_index[0] == 1) & (graph.edge_index[1] == 0)
        return found["alpha"][pair]

    for attention, differ in (("angular", True), ("pair", False)):
        potential = lens(attention=attention).eval()
        # The bond-orientational order sees the angle too: switched off.
        for name, weight in potential.named_parameters():
            if "bond_order" in name:
                weight.data.zero_()
        assert torch.allclose(weights_at(potential, 90.0), weights_at(potential, 110.0), atol=1e-7) != differ


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": "angle"}, "got attention='angle'; available: angular, radial, pair"),
        ({"num_heads": 3}, "got 16 channels for 3 heads"),
        ({"num_neighbours": 0}, "must be positive, or None"),
        ({"lmax": -1}, "must not be negative"),
        ({"num_weights": 0}, "num_weights"),
    ],
)
def test_bad_sizes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        lens(**options)
