import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from sciml.graphs import collate, graph_from_atoms
from sciml.potentials.escaip import PRESETS, EScAIP
from sciml.testing import check_potential

SMALL = {
    "channels": 32,
    "num_heads": 2,
    "num_blocks": 2,
    "num_radial": 16,
    "radial_channels": 16,
    "species_channels": 8,
    "bond_order_channels": 8,
    "cutoff": 3.5,
    "num_neighbours": 6,
}


def escaip(species=(1, 6, 8), **arguments):
    torch.manual_seed(0)
    return EScAIP(species=species, **{**SMALL, **arguments})


@pytest.mark.parametrize(
    "arguments",
    [{}, {"order": "strang"}, {"num_neighbours": None}, {"num_blocks": 1}, {"forces": "direct"}],
    ids=str,
)
def test_obeys_the_laws(arguments):
    report = check_potential(escaip(species=(1, 8), **arguments))
    if "forces" not in arguments:
        assert report.errors["rotation"] < 1e-10
        assert report.errors["forces"] < 1e-8


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_numbers_of_weights_that_are_written_down(name):
    import sciml.potentials.escaip as module

    with open(module.__file__, encoding="utf-8") as source:
        (row,) = [line.split() for line in source if line.split()[:1] == [name]]
    one, direct, further = (int(number.replace(",", "")) for number in row[1:])
    count = {
        (number, forces): sum(
            p.numel() for p in EScAIP.from_preset(name, species=range(1, number + 1), forces=forces).parameters()
        )
        for number, forces in ((1, "gradient"), (1, "direct"), (2, "gradient"))
    }
    assert count == {(1, "gradient"): one, (1, "direct"): direct, (2, "gradient"): one + further}


def test_direct_forces_neither_push_nor_turn():
    potential = escaip(forces="direct").double().eval()
    atoms = [molecule("CH3CH2OH"), molecule("CO"), Atoms("H"), bulk("C", cubic=True)]
    atoms[3].rattle(0.1, seed=0)
    graph = collate([graph_from_atoms(a, potential.cutoff) for a in atoms])
    out = potential(graph)
    assert float(out.forces.abs().max()) > 1e-3
    for n, system in enumerate(atoms):
        forces = out.forces[graph.batch == n].numpy()
        assert np.abs(forces.sum(axis=0)).max() < 1e-12
        if not system.pbc.any():
            positions = system.positions - system.positions.mean(axis=0)
            assert np.abs(np.cross(positions, forces).sum(axis=0)).max() < 1e-10
    assert out.stress.isnan().all()
    assert not potential.conservative
    assert potential.symmetry == "none"


def test_direct_forces_train():
    potential = escaip(forces="direct").train()
    out = potential(graph_from_atoms(molecule("CH3CH2OH"), potential.cutoff))
    (out.forces.square().sum() + out.energy.sum()).backward()
    without = [name for name, p in potential.named_parameters() if p.grad is None]
    assert not without


def test_every_weight_matters_to_the_forces():
    potential = escaip().double().train()
    out = potential(graph_from_atoms(molecule("CH3CH2OH"), potential.cutoff))
    (out.forces.square().sum() + out.energy.sum()).backward()
    without = [name for name, p in potential.named_parameters() if p.grad is None]
    assert not without


def test_forces_are_smooth_where_neighbours_change_ranks():
    """An atom passes between others, of which only about two can be neighbours."""
    potential = escaip(num_neighbours=2, species=(6, 8)).double().eval()
    rng = np.random.default_rng(0)
    others = rng.uniform(-2.5, 2.5, (9, 3))
    step = 1e-3
    forces = []
    for t in np.arange(0, 0.4, step):
        atoms = Atoms("OC9", positions=np.vstack([[t - 0.2, 0.1, 0.2], others]))
        forces.append(potential(graph_from_atoms(atoms, potential.cutoff)).forces.numpy())
    second = np.diff(np.array(forces), n=2, axis=0) / step**2
    third = np.diff(second, axis=0)
    # A jump of the second derivative would be as large as the derivative itself in one step.
    assert np.abs(third).max() < 0.2 * np.abs(second).max()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 30, "num_heads": 4}, "got 30 channels for 4 heads"),
        ({"order": "lie"}, "got order='lie'; available: plain, strang"),
        ({"forces": "both"}, "got forces='both'; available: gradient, direct"),
        ({"num_blocks": 0}, "got num_blocks=0; it must be positive"),
        ({"num_neighbours": 0}, "got num_neighbours=0"),
        ({"species": (1, 1)}, "expected distinct atomic numbers"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        escaip(**arguments)


def test_unknown_preset():
    with pytest.raises(ValueError, match="got the preset '2M'; available: 1M, 4M"):
        EScAIP.from_preset("2M", species=[1])
