import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from sciml.graphs import collate, graph_from_atoms
from sciml.potentials.facet import Facet
from sciml.testing import check_potential


def facet(species=(1, 6, 8), **arguments):
    """A Facet whose residual branches are open (their scales start at zero)."""
    torch.manual_seed(0)
    potential = Facet(species=species, **{"channels": 8, **arguments})
    for layer in potential.layers:
        torch.nn.init.normal_(layer.norm_out.scale, std=0.2)
    return potential


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        # Fewer neighbours and channels than by default: the same laws in a tenth of the time.
        {"pseudo": True, "num_layers": 3, "channels": 4, "cutoff": 3.5},
        {"lmax": 1, "cutoff": 3.0},
        {"lmax": 3, "num_layers": 1, "cutoff": 3.5},
        {"lmax": 0, "cutoff": 3.5},
        {"tensor_product": "gaunt_grid", "channels": 4, "cutoff": 3.5},
        {"tensor_product": {"backend": "gaunt_fourier"}, "channels": 4, "cutoff": 3.5},
        {"tensor_product": {"backend": "cp", "rank": "exact"}, "channels": 4, "cutoff": 3.5},
        {"tensor_product": "cp", "pseudo": True, "channels": 4, "cutoff": 3.5},
        {"tensor_product": "vector_signal", "pseudo": True, "num_layers": 3, "channels": 4, "cutoff": 3.5},
    ],
    ids=str,
)
def test_obeys_the_laws_to_rounding(arguments):
    report = check_potential(facet(species=(1, 8), **arguments))
    assert report.errors["rotation"] < 1e-10
    assert report.errors["inversion"] < 1e-10
    assert report.errors["forces"] < 1e-8
    assert report.errors["dimer_cutoff"] < 1e-6


def test_silu_mixer_reports_its_error_and_breaks_rotation():
    potential = facet(species=(1, 8), activation="silu", cutoff=3.5)
    assert potential.equivariance_error() > 1e-3
    assert facet().equivariance_error() < 1e-12
    with pytest.raises(AssertionError, match="rotation"):
        check_potential(potential)


def test_pseudo_irreps_are_reached_layer_by_layer():
    layers = facet(pseudo=True, num_layers=3).layers
    assert [str(layer.irreps_out) for layer in layers] == [
        "1x0e+1x1o+1x2e",
        "1x0e+1x1o+1x2e+1x1e+1x2o",
        "1x0e+1x1o+1x2e+1x1e+1x2o+1x0o",
    ]


def test_energy_is_invariant_but_chirality_can_be_felt_by_pseudoscalars():
    """Mirror images have the same energy; 0o features change sign."""
    potential = facet(pseudo=True, num_layers=3).double().eval()
    atoms = Atoms("CH2OO", [[0, 0, 0], [1.1, 0, 0.1], [-0.3, 1.0, 0.3], [-0.5, -0.6, 1.2], [0.2, -0.4, -1.3]])
    mirror = atoms.copy()
    mirror.positions[:, 0] *= -1
    features = []

    def record(module, inputs, output):
        features.append(output)

    potential.layers[-1].register_forward_hook(record)
    here, there = (potential(graph_from_atoms(a, 5.0)) for a in (atoms, mirror))
    torch.testing.assert_close(here.energy, there.energy, rtol=1e-12, atol=1e-12)
    pseudoscalar = [output[:, -1] for output in features]
    assert pseudoscalar[0].abs().max() > 1e-8
    torch.testing.assert_close(pseudoscalar[0], -pseudoscalar[1], rtol=1e-9, atol=1e-14)


def test_float32_agrees_with_float64_and_keeps_large_reference_energies():
    references = [-13.568422178253735, -1026.8538996116154, -2037.796869412825]
    potential = facet(reference_energies=references).eval()
    graph = graph_from_atoms(molecule("CH3CH2OH"), 5.0)
    single = potential(graph)
    double = potential.double()(graph)
    assert single.energy.dtype == torch.float64
    # a float32 sum near -4173 eV would be off by 2e-4
    assert (single.energy - double.energy).abs().item() < 2e-5
    assert (single.forces - double.forces).abs().max() < 1e-5


def test_float64_is_exact_after_a_visit_to_float32():
    potential = facet(reference_energies=[-0.1, -0.2, -0.3])
    graph = graph_from_atoms(molecule("CH3CH2OH"), 5.0)
    before = potential.double().eval()(graph)
    after = potential.float().double()(graph)
    assert torch.equal(before.energy, after.energy)


def test_isolated_atom_has_the_reference_and_shift_plus_a_constant():
    potential = facet(reference_energies=[-1.0, -2.0, -3.0], shifts=[0.5, 0.25, 0.125]).double().eval()
    one = potential(graph_from_atoms(Atoms("O"), 5.0))
    far = potential(graph_from_atoms(Atoms("OO", [[0, 0, 0], [0, 0, 9.0]]), 5.0))
    assert torch.isfinite(one.energy).all()
    assert (one.forces == 0).all()
    torch.testing.assert_close(far.energy, 2 * one.energy)
    closed = Facet(species=[8], reference_energies=[-3.0], shifts=[0.125], channels=4)
    torch.nn.init.zeros_(closed.readout[-1].weight)
    torch.nn.init.zeros_(closed.readout[-1].bias)
    assert closed.eval()(graph_from_atoms(Atoms("O"), 5.0)).energy.item() == -2.875


def test_an_unknown_element_is_named():
    with pytest.raises(ValueError, match="atom 3 is Au, which this potential does not know; it knows H, C, O"):
        facet()(collate([graph_from_atoms(atoms, 5.0) for atoms in (molecule("H2O"), Atoms("Au"))]))


def test_species_order_does_not_matter():
    ordered = Facet(species=[1, 8], reference_energies=[-1.0, -8.0], shifts=[0.1, 0.8])
    reversed_ = Facet(species=[8, 1], reference_energies=[-8.0, -1.0], shifts=[0.8, 0.1])
    assert ordered.config == reversed_.config
    assert reversed_.species == (1, 8)


def test_training_mode_differentiates_forces():
    potential = facet().train()
    graph = collate([graph_from_atoms(molecule(name), 5.0) for name in ("H2O", "CH3CH2OH")])
    output = potential(graph)
    (output.forces.square().sum() + output.energy.sum()).backward()
    missing = [name for name, p in potential.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert missing == []


def test_stress_is_the_slope_of_the_energy_by_volume():
    """dE/dV = tr σ / 3."""
    potential = facet(species=(29,)).double().eval()

    def at(scale):
        atoms = bulk("Cu", cubic=True)
        atoms.set_cell(atoms.cell * scale, scale_atoms=True)
        return atoms.get_volume(), potential(graph_from_atoms(atoms, 5.0))

    (v0, low), (v1, high), (_, middle) = at(1 - 1e-5), at(1 + 1e-5), at(1.0)
    slope = (high.energy - low.energy) / (v1 - v0)
    trace = torch.einsum("saa->s", middle.stress) / 3
    torch.testing.assert_close(slope, trace, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"species": []}, "distinct atomic numbers"),
        ({"species": [1, 1]}, "distinct atomic numbers"),
        ({"species": [0]}, "distinct atomic numbers"),
        ({"species": [1], "cutoff": 0.0}, "cutoff=0.0"),
        ({"species": [1], "lmax": -1}, "lmax=-1"),
        ({"species": [1], "energy_scale": float("nan")}, "energy_scale=nan"),
        ({"species": [1, 8], "shifts": [0.0]}, "1 shifts for 2 species"),
        ({"species": [1], "activation": "relu"}, "product, silu"),
        ({"species": [1], "tensor_product": "gaunt"}, "clebsch_gordan"),
        ({"species": [1], "tensor_product": {"rank": 7}}, r"\{backend: gaunt_grid\}"),
        ({"species": [1], "tensor_product": {"backend": "gaunt_grid", "rank": 7}}, "only cp has a rank"),
        ({"species": [1], "tensor_product": "vector_signal"}, "set pseudo: true"),
    ],
    ids=str,
)
def test_nonsense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Facet(**arguments)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_with_cpu():
    potential = facet().double().eval()
    graph = collate([graph_from_atoms(molecule(name), 5.0) for name in ("H2O", "CH3CH2OH")])
    here, there = potential(graph), potential.cuda()(graph.clone().cuda())
    torch.testing.assert_close(here.energy, there.energy.cpu(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(here.forces, there.forces.cpu(), rtol=1e-8, atol=1e-10)
