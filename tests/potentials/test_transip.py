import copy

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from sciml.cli import main
from sciml.graphs import collate, graph_from_atoms
from sciml.nn.dense_layout import dense_layout
from sciml.potentials import Committee, EScAIP, PotentialCalculator, TransIP
from sciml.potentials.rotation_error import rotation_error
from sciml.rotations import random_rotations
from sciml.testing import check_potential, measure_potential
from tests.embedded_potential import Embedded

SMALL = {"channels": 48, "num_heads": 4, "num_blocks": 2}
MOLECULES = [molecule("CH3CH2OH"), molecule("H2O"), Atoms("O"), molecule("C6H6")]


def transip(species=(1, 6, 8), **arguments):
    torch.manual_seed(0)
    return TransIP(species=species, **{**SMALL, **arguments})


def graphs(potential, structures=MOLECULES):
    return [graph_from_atoms(atoms, potential.cutoff) for atoms in structures]


@pytest.mark.parametrize(
    "arguments", [{"species": (1, 8), "rotate_values": False}, {"species": (8,), "repulsion": True}], ids=str
)
def test_obeys_the_laws_that_a_potential_without_locality_can_obey(arguments):
    report = check_potential(transip(**arguments))
    assert report.errors["forces"] < 1e-8
    assert report.errors["dimer_cutoff"] < 1e-6
    assert report.errors["isolated_atoms"] == 0
    assert report.errors["rotation"] > 1e-5
    assert set(report.left_out) == {"stress", "supercell"}
    assert "left out   the potential takes no periodic structures" in str(report)


def test_laws_are_left_out_of_nothing_else():
    report = measure_potential(Embedded(species=(8,)))
    assert report.left_out == {}
    assert not report.failed


def test_a_broken_law_is_found_without_periodic_structures():
    class SeesTheBatch(TransIP):
        def evaluate(self, graph):
            output = super().evaluate(graph)
            return output._replace(energies=output.energies * (1 + 1e-3 * graph.num_systems))

    torch.manual_seed(0)
    assert measure_potential(SeesTheBatch(species=[8], **SMALL)).failed == ["batch"]


def test_a_batch_is_a_loop():
    potential = transip().double().eval()
    together = potential(collate(graphs(potential)))
    alone = [potential(graph) for graph in graphs(potential)]
    for name in ("energy", "energies", "forces"):
        torch.testing.assert_close(
            getattr(together, name), torch.cat([getattr(out, name) for out in alone]), rtol=1e-12, atol=1e-12
        )


def test_an_atom_alone_has_no_force_and_its_own_energy():
    potential = transip(reference_energies=[-13.0, -1000.0, -2000.0]).train()
    out = potential(graph_from_atoms(Atoms("O", positions=[[3.0, -2.0, 1e3]]), potential.cutoff))
    assert torch.equal(out.forces, torch.zeros(1, 3).double())
    assert out.energy.item() == pytest.approx(-2000, abs=10)
    out.energy.sum().backward()
    assert all(p.grad.isfinite().all() for p in potential.parameters() if p.grad is not None)


def test_every_pair_interacts_however_far():
    potential = transip().double().eval()
    forces = [
        potential(graph_from_atoms(Atoms("OH", positions=[[0, 0, 0], [0, 0, z]]), potential.cutoff)).forces
        for z in (20.0, 21.0)
    ]
    assert (forces[0] - forces[1]).abs().max() > 1e-6


def test_float32_forces_do_not_depend_on_where_the_molecule_is():
    potential = transip().eval()
    here, there = molecule("CH3CH2OH"), molecule("CH3CH2OH")
    there.positions += [1000.0, -500.0, 2000.0]
    a, b = (potential(graph_from_atoms(atoms, potential.cutoff)) for atoms in (here, there))
    torch.testing.assert_close(a.forces, b.forces, rtol=1e-4, atol=1e-6)


def test_only_turned_values_see_where_atoms_of_one_element_are():
    graph = graph_from_atoms(Atoms("O3", positions=[[0, 0, 0], [1.3, 0, 0], [0.5, 1.1, 0.2]]), 3.0)
    largest = [
        float(transip(rotate_values=rotate_values).double().eval()(graph).forces.abs().max())
        for rotate_values in (True, False)
    ]
    assert largest[0] > 1e-4
    assert largest[1] < 1e-12


@pytest.mark.parametrize("rotate_values", [True, False])
def test_every_weight_matters_to_the_forces(rotate_values):
    potential = transip(rotate_values=rotate_values).double().train()
    out = potential(collate(graphs(potential)))
    (out.forces.square().sum() + out.energy.sum()).backward()
    assert [name for name, p in potential.named_parameters() if p.grad is None] == []


def test_the_gradient_of_a_loss_of_forces_is_right():
    potential = transip(channels=24, num_blocks=1).double().train()
    graph = graphs(potential)[1]

    def loss():
        return potential(graph).forces.square().sum()

    weight = potential.blocks[0].attention.query_key_value.weight
    (gradient,) = torch.autograd.grad(loss(), weight)
    direction = torch.randn_like(weight)
    step = 1e-5
    with torch.no_grad():
        weight += step * direction
        above = loss()
        weight -= 2 * step * direction
        below = loss()
    assert ((above - below) / (2 * step)).item() == pytest.approx((gradient * direction).sum().item(), rel=1e-6)


# --- layout -----------------------------------------------------------------------------------------------------------


def test_a_wider_layout_and_systems_without_atoms_change_nothing():
    potential = transip().double().train()
    batch = collate(graphs(potential))
    expected = potential(batch)
    wide = copy.copy(batch)
    wide.max_atoms = 20
    # A padded batch has systems without atoms.
    wide.cell = torch.cat([batch.cell, batch.cell[:1]])
    wide.pbc = torch.cat([batch.pbc, batch.pbc[:1]])
    out = potential(wide)
    torch.testing.assert_close(out.forces, expected.forces, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(out.energy[:-1], expected.energy)
    assert out.energy[-1] == 0
    out.forces.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in potential.parameters() if p.grad is not None)


def test_the_layout_fills_and_takes():
    potential = transip()
    batch = collate(graphs(potential))
    layout = dense_layout(batch)
    assert layout.occupied.shape == (4, 12)
    assert layout.occupied.sum(dim=1).tolist() == [9, 3, 1, 12]
    values = torch.randn(batch.num_nodes, 5)
    dense = layout.fill(values)
    assert torch.equal(layout.take(dense), values)
    assert torch.equal(dense[1, :3], values[9:12])
    assert (dense[~layout.occupied] == 0).all()


# --- what is refused --------------------------------------------------------------------------------------------------


def test_periodic_structures_are_refused_with_the_reason(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    message = (
        "TransIP takes no periodic structures and got one that is periodic along 'abc'.*no meaning among infinitely "
        "many images; use EScAIP, Facet or TDN, or set atoms.pbc = False"
    )
    diamond = bulk("C", cubic=True)
    with pytest.raises(ValueError, match=message):
        transip()(graph_from_atoms(diamond, 3.0))
    diamond.calc = PotentialCalculator(transip())
    with pytest.raises(ValueError, match=message):
        diamond.get_potential_energy()
    slab = diamond.copy()
    slab.pbc = (False, True, False)
    with pytest.raises(ValueError, match="periodic along 'b'"):
        transip()(collate([graph_from_atoms(molecule("H2O"), 3.0), graph_from_atoms(slab, 3.0)]))

    frames = [bulk("C", a=3.5 + 0.02 * n, cubic=True) for n in range(12)]
    for n, atoms in enumerate(frames):
        atoms.info["ref_energy"] = float(n)
    ase.io.write("data.xyz", frames)
    arguments = ["--train", "data.xyz", "--keys.energy", "ref_energy", "--output", "run", "--device", "cpu"]
    assert main(["train", *arguments, "--model.name", "transip"]) == 2
    error = capsys.readouterr().err
    assert "data.xyz, frame 0" in error
    assert "takes no periodic structures" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 40}, "got 40 channels for 4 heads; expected a multiple of 24"),
        ({"num_blocks": 0}, "got num_blocks=0; it must be positive"),
        ({"shortest_wavelength": 80.0}, "expected the first not to be larger"),
        ({"repulsion": True, "species": (1, 55)}, "got cutoff=3.0 with a repulsion that reaches 4.88 Å"),
        ({"species": (1, 1)}, "expected distinct atomic numbers"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        transip(**arguments)


# --- rotation error ---------------------------------------------------------------------------------------------------


def test_the_rotation_error_is_what_a_loop_over_rotations_finds():
    potential = transip().double().train()
    (graph,) = graphs(potential, MOLECULES[:1])
    measured = rotation_error(potential, [graph], num_rotations=3, seed=5)
    assert potential.training
    generator = torch.Generator().manual_seed(5)
    like = torch.zeros(1).double()
    matrices = [random_rotations(1, like=like, generator=generator)[0].numpy() for _ in range(3)]
    potential.eval()
    original = potential(graph)
    forces, energies = original.forces.numpy(), [original.energy.item()]
    square = 0.0
    for matrix in matrices:
        atoms = MOLECULES[0].copy()
        atoms.positions = atoms.positions @ matrix.T
        turned = potential(graph_from_atoms(atoms, potential.cutoff))
        square += np.square(turned.forces.numpy() - forces @ matrix.T).sum() / 3
        energies.append(turned.energy.item())
    assert measured.forces == pytest.approx(np.sqrt(square / np.square(forces).sum()), rel=1e-6)
    assert measured.energy_per_atom == pytest.approx(np.std(energies) / 9, rel=1e-6)


def test_batches_do_not_change_the_rotation_error_much_nor_does_symmetry_leave_any():
    potential = transip().double()
    whole = rotation_error(potential, graphs(potential))
    parts = rotation_error(potential, graphs(potential), max_atoms=5, num_rotations=50)
    assert whole.forces == pytest.approx(parts.forces, rel=0.5)
    torch.manual_seed(0)
    exact = EScAIP(species=[1, 6, 8], cutoff=3.0, channels=16, num_blocks=1).double()
    assert max(rotation_error(exact, graphs(exact))) < 1e-10
    assert rotation_error(potential, graphs(potential, [Atoms("O")])).forces == 0
    with pytest.raises(ValueError, match="got 0 structures"):
        rotation_error(potential, [])


def test_a_committee_declares_what_its_members_do():
    committee = Committee([transip(), transip()])
    assert (committee.local, committee.periodic, committee.symmetry) == (False, False, "none")
    assert rotation_error(committee, graphs(committee, MOLECULES[:2])).forces > 0
