import torch
from torch import nn

from sciml.training.ema import MovingAverage


def test_average_follows_the_recursion():
    torch.manual_seed(0)
    model = nn.BatchNorm1d(3, dtype=torch.float64)
    average = MovingAverage(model, 0.5)
    expected = model.weight.detach().clone()
    for t in range(20):
        with torch.no_grad():
            model.weight.normal_()
            model.running_mean.normal_()
        average.update(1 - average.decay_at(t))
        decay = min(0.5, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * model.weight.detach()
        torch.testing.assert_close(average.model.weight, expected, rtol=1e-14, atol=1e-14)
        assert torch.equal(average.model.running_mean, model.running_mean)
    assert not average.model.weight.requires_grad
    assert not average.model.training


def test_decay_zero_follows_the_model():
    model = nn.Linear(2, 2)
    average = MovingAverage(model, 0.0)
    nn.init.normal_(model.weight)
    average.update(1 - average.decay_at(5))
    assert torch.equal(average.model.weight, model.weight)
