import pytest
import torch
from ase.build import molecule

from sciml.graphs import graph_from_atoms
from sciml.nn.radial import envelope
from sciml.nn.smooth_softmax import smooth_softmax
from sciml.potentials.tdn import TDN, smooth_leaky_relu
from sciml.testing import check_potential

SMALL = {"channels": 8, "num_heads": 2, "num_radial": 8, "radial_channels": 8, "cutoff": 3.5}


def tdn(species=(1, 8), **arguments):
    torch.manual_seed(0)
    return TDN(species=species, **{**SMALL, **arguments})


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"lmax": 1, "num_blocks": 1},
        {"lmax": 0, "num_blocks": 1},
        {"tensor_product": "clebsch_gordan"},
        {"tensor_product": "gaunt_grid", "num_blocks": 1},
    ],
    ids=str,
)
def test_obeys_the_laws_to_rounding(arguments):
    report = check_potential(tdn(**arguments))
    assert report.errors["rotation"] < 1e-9
    assert report.errors["forces"] < 1e-8


def test_a_low_rank_says_how_inexact_it_is():
    assert tdn().equivariance_error() < 1e-10
    assert tdn(tensor_product={"backend": "cp", "rank": 20}).equivariance_error() > 1e-3
    assert tdn().config["tensor_product"] == {"backend": "cp", "rank": "exact"}


def test_paths_share_their_weights():
    shared, separate = (tdn(tensor_product=name).blocks[0].attention for name in ("cp", "clebsch_gordan"))
    assert shared.product.weight_numel == 8
    assert separate.product.weight_numel == 8 * len(separate.product.paths)


def test_every_weight_matters_to_the_forces():
    potential = tdn(species=(1, 6, 8)).double().train()
    out = potential(graph_from_atoms(molecule("CH3CH2OH"), potential.cutoff))
    (out.forces.square().sum() + out.energy.sum()).backward()
    assert [name for name, p in potential.named_parameters() if p.grad is None] == []


def test_softmax_is_its_formula_and_stays_finite():
    logits = torch.tensor([[1.0, 700.0], [2.0, -700.0], [0.5, 0.0]], dtype=torch.float64)
    weights, receivers = torch.tensor([0.5, 0.0, 1.0], dtype=torch.float64), torch.tensor([0, 0, 2])
    alpha = smooth_softmax(logits, weights, receivers, 4)
    first = 0.5 * torch.tensor([1.0]).exp() / (1 + 0.5 * torch.tensor([1.0]).exp())
    assert float(alpha[0, 0]) == pytest.approx(float(first))
    assert alpha[0, 1] == 1.0
    assert (alpha[1] == 0).all()
    assert float(alpha[2, 1]) == pytest.approx(0.5)
    assert torch.autograd.gradcheck(
        lambda a, w: smooth_softmax(a, w, receivers, 4),
        (logits.clamp(-3, 3).requires_grad_(), weights.requires_grad_()),
    )


def test_envelope_ends_smoothly():
    x = torch.tensor([0.0, 0.5, 0.999999, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
    values = envelope(x)
    (slope,) = torch.autograd.grad(values.sum(), x)
    assert values.tolist()[0] == 1.0
    assert float(values[1]) == pytest.approx(torch.tensor(-1 / 3).exp().item())
    assert values[2:].tolist() == [0.0] * 3
    assert slope[2:].tolist() == [0.0] * 3


def test_smooth_leaky_relu_has_the_slopes_of_a_leaky_one():
    x = torch.tensor([-30.0, 0.0, 30.0], dtype=torch.float64)
    torch.testing.assert_close(smooth_leaky_relu(x), torch.tensor([-6.0, 0.0, 30.0], dtype=torch.float64))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 7}, "got 7 channels for 2 heads"),
        ({"lmax": -1}, "got lmax=-1"),
        ({"num_blocks": 0}, "got num_blocks=0; it must be positive"),
        ({"tensor_product": {"rank": 3}}, "got tensor_product="),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        tdn(**arguments)
