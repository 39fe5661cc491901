import math

import pytest
import torch
from torch import nn

from sciml.training.optimizers import FlatGradients, OptimizerSettings, adamw, learning_rate


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
    decayed, free = adamw(model, OptimizerSettings(weight_decay=0.1)).param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert {id(p) for p in decayed["params"]} == {id(model.linear.weight), id(model.float64)}
    assert len(free["params"]) == 5


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
        adamw(nn.ReLU(), OptimizerSettings())
