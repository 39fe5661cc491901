"""`check_potential` passes a potential that obeys the laws and names the law that a broken one breaks."""

import math

import pytest
import torch

from sciml.potentials.analytic import LennardJones, Morse
from sciml.testing import TOLERANCES, check_potential
from tests.embedded_potential import Embedded


class WrongForceSign(Embedded):
    def forward(self, graph):
        output = super().forward(graph)
        return output._replace(forces=-output.forces)


class DoubledStress(Embedded):
    def forward(self, graph):
        output = super().forward(graph)
        return output._replace(stress=2 * output.stress)


class PrefersAnAxis(Embedded):
    def density(self, graph, vectors):
        return super().density(graph, vectors * torch.tensor([1.0, 1.0, 1.001]))


class Chiral(Embedded):
    def atomic_energies(self, graph, edge_vectors):
        radius = edge_vectors.norm(dim=1, keepdim=True)
        moments = [
            torch.zeros(graph.num_nodes, 3, dtype=torch.float64).index_add(
                0, graph.edge_index[1], edge_vectors * self.weight(radius) * radius**power
            )
            for power in range(3)
        ]
        return super().atomic_energies(graph, edge_vectors) + torch.linalg.det(torch.stack(moments, dim=1))


class KnowsWhereItIs(Embedded):
    def atomic_energies(self, graph, edge_vectors):
        return super().atomic_energies(graph, edge_vectors) + 1e-3 * graph.positions[:, 0]


class CountsAtoms(Embedded):
    def density(self, graph, vectors):
        first = torch.searchsorted(graph.system_index, torch.arange(graph.num_systems))
        return super().density(graph, vectors) * (
            1 + 1e-3 * (torch.arange(graph.num_nodes) - first[graph.system_index])
        )


class NotExtensive(Embedded):
    def density(self, graph, vectors):
        sizes = torch.bincount(graph.system_index)[graph.system_index]
        return super().density(graph, vectors) / sizes


class HardCutoff(Embedded):
    def weight(self, r):
        return torch.exp(-r / self.width)


class AveragesNeighbours(Embedded):
    def density(self, graph, vectors):
        counts = torch.bincount(graph.edge_index[1], minlength=graph.num_nodes).clamp(min=1)
        return super().density(graph, vectors) / counts


class NeedsNeighbours(Embedded):
    def density(self, graph, vectors):
        counts = torch.bincount(graph.edge_index[1], minlength=graph.num_nodes)
        return super().density(graph, vectors) * counts / counts


class NormalisesTheBatch(Embedded):
    def density(self, graph, vectors):
        density = super().density(graph, vectors)
        return density / (1 + 1e-3 * density.mean())


class ForgetsAnArgument(Embedded):
    @property
    def config(self):
        return {"species": list(self.species), "cutoff": self.cutoff}


MUTANTS = {
    "forces": WrongForceSign,
    "stress": DoubledStress,
    "rotation": PrefersAnAxis,
    "inversion": Chiral,
    "translation": KnowsWhereItIs,
    "permutation": CountsAtoms,
    "supercell": NotExtensive,
    "dimer_cutoff": HardCutoff,
    "trimer_cutoff": AveragesNeighbours,
    "isolated_atoms": NeedsNeighbours,
    "batch": NormalisesTheBatch,
    "save_load": ForgetsAnArgument,
}


# What a mutant breaks besides its own law; anything, where structures or atoms no longer stand for themselves.
CONSEQUENCES = {
    "permutation": {"supercell", "isolated_atoms"},
    "supercell": {"isolated_atoms"},
    "dimer_cutoff": {"trimer_cutoff"},
    "translation": TOLERANCES.keys(),
    "isolated_atoms": TOLERANCES.keys(),
    "batch": TOLERANCES.keys(),
}


def test_sound_potential_passes():
    report = check_potential(Embedded())
    assert report.errors.keys() == TOLERANCES.keys()
    assert report.errors["forces"] < 1e-8
    assert report.errors["rotation"] < 1e-11
    assert not report.failed


@pytest.mark.parametrize(
    "potential",
    [
        LennardJones({"Ar-Ar": {"epsilon": 0.0104, "sigma": 3.4}}, 6.0),
        Morse(
            {
                pair: {"depth": 0.4, "steepness": 1.5, "distance": distance}
                for pair, distance in [("Cu-Cu", 2.6), ("Cu-Zr", 2.8), ("Zr-Zr", 3.1)]
            },
            5.0,
        ),
    ],
    ids=["LennardJones", "Morse"],
)
def test_analytic_potentials_pass(potential):
    report = check_potential(potential, tolerances={"forces": 1e-8, "stress": 1e-8, "rotation": 1e-10})
    assert report.errors["dimer_cutoff"] < 1e-6


def test_every_law_has_a_mutant():
    assert MUTANTS.keys() == TOLERANCES.keys()


@pytest.mark.parametrize("law", MUTANTS)
def test_mutant_breaks_its_law(law):
    with pytest.raises(AssertionError, match=MUTANTS[law].__name__) as error:
        check_potential(MUTANTS[law](width=0.8))
    failed = set(str(error.value).split(":")[0].split(" breaks ")[1].split(", "))
    assert law in failed
    assert failed <= {law, *CONSEQUENCES.get(law, ())}


def test_unclaimed_laws_are_measured_but_not_demanded():
    potential = Chiral()
    potential.symmetry = "SO(3)"
    report = check_potential(potential)
    assert report.errors["inversion"] > 1e-3
    assert "not claimed" in str(report)
    potential = WrongForceSign()
    potential.conservative = False
    assert check_potential(potential).errors["forces"] > 1


def test_tolerances_can_be_tightened():
    with pytest.raises(AssertionError, match="breaks forces"):
        check_potential(Embedded(), tolerances={"forces": 1e-16})


def test_potential_is_left_as_it_was():
    potential = Embedded().train()
    check_potential(potential)
    assert potential.training
    assert potential.charge.requires_grad
    assert potential.charge.dtype == torch.float32


def test_one_species_and_a_chosen_subset():
    check_potential(Embedded(species=[18]))
    check_potential(Embedded(species=[1, 6, 8]), species=[6])


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="no law speed"):
        check_potential(Embedded(), tolerances={"speed": 1.0})
    with pytest.raises(ValueError, match=r"got species \[79\]"):
        check_potential(Embedded(), species=[79])
    flat = Embedded()
    flat.charge.data.zero_()
    with pytest.raises(ValueError, match="too small to test"):
        check_potential(flat)


def test_seed_changes_the_structures():
    errors = [check_potential(Embedded(), seed=seed).errors["forces"] for seed in (1, 1, 2)]
    assert errors[0] == errors[1] != errors[2]
    assert all(math.isfinite(error) for error in errors)
