import copy
import math

import pytest
import torch
from torch import nn

from sciml.potentials.facet import Facet
from sciml.training.normuon import NorMuon, orthogonal
from sciml.training.optimizers import FlatGradients, OptimizerSettings, build_optimizer, learning_rate


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(3, 4)
        self.linear = nn.Linear(4, 4)
        self.norm = nn.LayerNorm([2, 2])
        self.species_embedding = nn.Parameter(torch.randn(3, 4))
        self.tied = self.linear.weight
        self.frozen = nn.Parameter(torch.randn(2, 2), requires_grad=False)
        self.float64 = nn.Parameter(torch.randn(2, 2, dtype=torch.float64))


def test_only_matrices_decay():
    model = Model()
    decayed, free = build_optimizer(model, OptimizerSettings(weight_decay=0.1)).param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert {id(p) for p in decayed["params"]} == {id(model.linear.weight), id(model.float64)}
    assert len(free["params"]) == 5


@pytest.mark.parametrize("name", ["adamw", "amsgrad", "muon", "normuon"])
def test_optimizers_minimise_and_continue_where_they_stopped(name):
    torch.manual_seed(0)
    x, target = torch.randn(64, 6), torch.randn(64, 3)

    def fresh():
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
        return model, build_optimizer(model, OptimizerSettings(name=name, learning_rate=0.02, weight_decay=0.0))

    def step(model, optimizer):
        loss = (model(x) - target).square().mean()
        model.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    model, optimizer = fresh()
    losses = [step(model, optimizer) for _ in range(60)]
    assert losses[-1] < 0.85 * losses[0]
    continued, other = fresh()
    continued.load_state_dict(model.state_dict())
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    step(model, optimizer)
    step(continued, other)
    for a, b in zip(model.parameters(), continued.parameters(), strict=True):
        assert torch.equal(a, b)
    for group in other.param_groups:
        group["lr"] = 0.0
    before = [p.clone() for p in continued.parameters()]
    step(continued, other)
    assert all(torch.equal(a, b) for a, b in zip(before, continued.parameters(), strict=True))


@pytest.mark.parametrize("inputs_last", [True, False])
def test_normuon_treats_matrices_together_as_it_treats_each_alone(inputs_last):
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 5), (5, 3), (4, 4), (64, 2), (70, 65), (2, 3, 4, 130), (130, 3)]
    together, alone = (
        [nn.Parameter(torch.randn(shape, generator=generator.manual_seed(1), dtype=torch.float64)) for shape in shapes]
        for _ in range(2)
    )
    optimizers = [
        NorMuon([{"params": part, "inputs_last": inputs_last}], lr=0.1, weight_decay=0.1)
        for part in (together, *([p] for p in alone))
    ]
    for _ in range(3):
        for p, other in zip(together, alone, strict=True):
            p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            other.grad = p.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for p, other in zip(together, alone, strict=True):
        torch.testing.assert_close(p, other, rtol=1e-12, atol=1e-12)


def test_normuon_makes_updates_orthogonal_with_equal_neurons():
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonal(torch.randn(5, 8, 24, dtype=torch.float64)))
    assert ((values > 0.6) & (values < 1.3)).all()
    assert (orthogonal(torch.zeros(3, 4)) == 0).all()
    linear, stacked = nn.Linear(6, 4, bias=False), nn.Parameter(torch.randn(2, 6, 4))
    with torch.no_grad():
        stacked[0] = linear.weight.T
    for parameters, inputs_last in (([linear.weight], True), ([stacked], False)):
        optimizer = NorMuon([{"params": parameters, "inputs_last": inputs_last}], lr=0.1)
        for parameter in parameters:
            before = parameter.detach().clone()
            gradient = torch.linspace(-1, 2, 24).view(4, 6).sin()
            parameter.grad = gradient if inputs_last else torch.stack([gradient.T, torch.randn(6, 4)])
            optimizer.step()
            change = (parameter - before).detach()
            rms = change.square().mean(dim=(-2, -1)).sqrt()
            torch.testing.assert_close(rms, torch.full_like(rms, 0.02))
            of_neurons = change.square().mean(dim=-1 if inputs_last else -2)
            torch.testing.assert_close(of_neurons, of_neurons.mean().expand_as(of_neurons))
    # The same matrix, lying down or standing up, changes alike.
    torch.testing.assert_close(stacked[0].T, linear.weight)
    with pytest.raises(ValueError, match="NorMuon is for matrices"):
        NorMuon([nn.Parameter(torch.zeros(3))])


def test_matrices_of_the_package_go_to_the_optimizer_of_matrices():
    model = Facet(species=[1, 8], channels=8)
    parts = build_optimizer(model, OptimizerSettings(name="normuon")).parts
    names = {parameter: name for name, parameter in model.named_parameters()}
    linear, columns = ([names[p] for p in group["params"]] for group in parts[1].param_groups)
    assert "readout.0.weight" in linear
    assert "layers.0.linear_senders.weight" in columns
    assert "embedding" not in [*linear, *columns]
    assert not parts[1].param_groups[1]["inputs_last"]


def test_plateaus_lower_the_learning_rate():
    settings = OptimizerSettings(
        learning_rate=1.0, schedule="plateau", plateau_patience=2, plateau_factor=0.5, warmup=0.1
    )
    assert learning_rate(0.05, settings, [1.0]) == 0.5
    assert learning_rate(0.5, settings, [3.0, 2.0, 2.5]) == 1.0
    assert learning_rate(0.5, settings, [3.0, 2.0, 2.5, 2.1]) == 0.5
    assert learning_rate(0.5, settings, [3.0, 2.0, 2.5, 2.1, 1.0, 1.0, 1.0]) == 0.25
    assert learning_rate(0.5, settings, [1.0] * 100) == settings.final_learning_rate


def test_learning_rate_rises_linearly_and_falls_as_a_cosine():
    settings = OptimizerSettings(learning_rate=2.0, warmup=0.2, final_learning_rate=0.1)
    assert learning_rate(0.05, settings) == pytest.approx(0.5)
    assert learning_rate(0.2, settings) == 2.0
    assert learning_rate(0.6, settings) == pytest.approx(1.1)
    assert learning_rate(1.0, settings) == pytest.approx(0.2)
    assert learning_rate(1.5, settings) == learning_rate(1.0, settings)
    assert learning_rate(1e-9, OptimizerSettings(learning_rate=2.0, warmup=0.0)) == pytest.approx(2.0)


def test_flat_gradients_are_what_autograd_gives():
    model, reference = Model(), Model()
    reference.load_state_dict(model.state_dict())
    gradients = FlatGradients(model)
    for _ in range(2):
        gradients.zero()
        for m in (model, reference):
            y = m.norm(m.linear(m.embedding.weight).view(3, 2, 2)).pow(3).sum() + m.float64.pow(2).sum()
            m.zero_grad() if m is reference else None
            y.backward()
    for p, q in zip(model.parameters(), reference.parameters(), strict=True):
        if p.requires_grad:
            expected = torch.zeros_like(q) if q.grad is None else q.grad
            torch.testing.assert_close(p.grad, expected, rtol=0, atol=0)
    assert len(gradients.buffers) == 2
    norms = [p.grad.double().norm() for p in model.parameters() if p.requires_grad]
    norm = gradients.norm().item()
    assert norm == pytest.approx(torch.stack(norms).norm().item(), rel=1e-6)
    gradients.clip(norm, 2 * norm)
    assert gradients.norm().item() == norm
    gradients.clip(norm, 0.5)
    assert gradients.norm().item() == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"warmup": 1.5},
        {"ema_decay": -0.1},
        {"weight_decay": -1.0},
        {"clip_norm": 0.0},
        {"betas": (0.9, 1.0)},
    ],
)
def test_nonsense_is_refused_by_name(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        OptimizerSettings(**arguments)


def test_a_model_without_weights_is_refused():
    with pytest.raises(ValueError, match="no trainable parameters"):
        build_optimizer(nn.ReLU(), OptimizerSettings())
