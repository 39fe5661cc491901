import math

import pytest
import torch
from ase import Atoms

from sciml.graphs import graph_from_atoms
from sciml.potentials.escaip import EScAIP
from sciml.potentials.facet import Facet
from sciml.potentials.repulsion import ScreenedRepulsion
from sciml.potentials.tdn import TDN
from sciml.testing import check_potential


def energy(symbols, distance):
    graph = graph_from_atoms(Atoms(symbols, positions=[[0, 0, 0], [0, 0, distance]]), 3.0)
    return float(ScreenedRepulsion()(graph, graph.edge_vectors()).sum())


def test_value_of_two_silicon_atoms():
    """The formula, evaluated on its own."""
    r, z = 0.5, 14
    x = r / (0.8854 * 0.529177210903 / (2 * z**0.23))
    screening = sum(
        c * math.exp(-b * x) for c, b in ((0.18175, 3.1998), (0.50986, 0.94229), (0.28022, 0.4029), (0.02817, 0.20162))
    )
    fade = r / (2 * 1.11)  # covalent radius of silicon, Å
    expected = 14.399645478 * z * z / r * screening * math.exp(-(fade**2) / (1 - fade**2))
    assert energy("Si2", r) == pytest.approx(expected, rel=1e-9)
    assert expected > 100


def test_bonded_atoms_are_left_alone():
    assert energy("Si2", 2.35) == 0.0
    assert energy("H2", 0.74) == 0.0
    assert energy("H2", 0.3) > 1.0
    assert energy("Cu2", 0.01) > 1e5


@pytest.mark.parametrize("model", [Facet, TDN, EScAIP])
def test_any_potential_can_have_it(model):
    torch.manual_seed(0)
    sizes = {"channels": 16, "cutoff": 3.0, "species": [1, 8]}
    potential, with_it = model(**sizes), model(**sizes, repulsion=True)
    for parameter in potential.parameters():
        if not parameter.any():  # such as the scales with which residual branches start
            torch.nn.init.normal_(parameter, std=0.2)
    with_it.load_state_dict(potential.state_dict())
    assert with_it.config["repulsion"] is True
    close = graph_from_atoms(Atoms("OH", positions=[[0, 0, 0], [0, 0, 0.3]]), 3.0)
    difference = with_it.eval()(close).energy - potential.eval()(close).energy
    assert float(difference) == pytest.approx(energy("OH", 0.3), rel=1e-5)
    assert float(with_it(close).forces[1, 2]) > 10
    check_potential(with_it)


def test_direct_forces_cannot_have_it():
    with pytest.raises(ValueError, match="direct forces, which are no gradient of it"):
        EScAIP(species=[1], repulsion=True, forces="direct")
