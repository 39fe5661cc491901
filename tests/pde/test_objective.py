import pytest
import torch
from torch import nn

from sciml.pde.augmentation import Augmentation
from sciml.pde.field_data import Windows
from sciml.pde.metrics import scaled_l2
from sciml.pde.objective import FieldObjective, Unrolling
from tests.pde.test_surrogate import surrogate
from tests.pde.tiny_fields import trajectories

HISTORY = 2


def batch(steps, bundle=1):
    windows = Windows(trajectories(3, 9), HISTORY + steps * bundle)
    return windows.collate(windows.items[:4])


def losses(model, objective, data):
    sums = objective(model, data)
    return sums.loss / sums.loss_count


def composed(model, frames, steps):
    """`steps` predictions one by one, normalised."""
    history, predicted = model.normalised(frames)[:, :HISTORY], []
    for _ in range(steps):
        new = model.predict(history)
        predicted.append(new)
        history = torch.cat([history, new], dim=1)[:, -HISTORY:]
    return torch.cat(predicted, dim=1)


@pytest.mark.parametrize("bundle", [1, 2])
@pytest.mark.parametrize("delta", [False, True])
def test_unrolled_is_one_step_composed_with_itself(bundle, delta):
    model = surrogate(bundle=bundle, delta=delta).train()
    data = batch(3, bundle)
    true = model.normalised(data.frames)[:, HISTORY:]
    objective = FieldObjective(model.fields, unrolling=Unrolling(steps=3))
    expected = scaled_l2(composed(model, data.frames, 3), true).mean(dim=(0, 1))
    torch.testing.assert_close(losses(model, objective, data), expected.double(), rtol=1e-5, atol=0)
    mse = FieldObjective(model.fields, kind="mse")
    error = (composed(model, data.frames, 3) - true).square().mean(dim=(0, 1, 3, 4))
    torch.testing.assert_close(losses(model, mse, data), error.double(), rtol=1e-5, atol=0)
    sums = mse(model, data)
    physical = model.std.flatten().double() ** 2 * error.double()
    torch.testing.assert_close(sums.square / sums.components, physical, rtol=1e-5, atol=0)


class Recorder(nn.Module):
    """A network whose steps can be told apart: each use of the weight is counted by the gradient it gets."""

    def __init__(self, network):
        super().__init__()
        self.network, self.seen = network, []

    def forward(self, u, parameters=None):
        self.seen.append((torch.is_grad_enabled(), u.requires_grad))
        return self.network(u, parameters)


@pytest.mark.parametrize(
    ("unrolling", "expected"),
    [
        (Unrolling(steps=4), [(True, False), (True, True), (True, True), (True, True)]),
        (Unrolling(steps=4, backpropagate=2), [(True, False), (True, True), (True, False), (True, True)]),
        (Unrolling(steps=4, backpropagate=1), [(True, False)] * 4),
        (Unrolling(steps=4, pushforward=True), [(False, False)] * 3 + [(True, False)]),
    ],
)
def test_gradients_go_where_they_should(unrolling, expected):
    model = surrogate().train()
    model.network = Recorder(model.network)
    sums = FieldObjective(model.fields, unrolling=unrolling)(model, batch(4))
    assert model.network.seen == expected
    sums.loss.sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert sums.loss_count.tolist() == [4 * (1 if unrolling.pushforward else 4)] * 3


def test_pushforward_has_the_gradient_of_a_step_from_its_own_frames():
    model = surrogate().train()
    data = batch(2)
    FieldObjective(model.fields, unrolling=Unrolling(steps=2, pushforward=True))(model, data).loss.sum().backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    frames = model.normalised(data.frames)
    with torch.no_grad():
        first = model.predict(frames[:, :HISTORY])
    second = model.predict(torch.cat([frames[:, 1:HISTORY], first], dim=1))
    scaled_l2(second, frames[:, -1:]).sum().backward()
    for gradient, parameter in zip(gradients, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-5)


def test_noise_and_augmentation_are_for_training_only():
    model = surrogate()
    data = batch(1)
    grid = trajectories(1).grid
    augmentation = Augmentation(["rotation", "reflection"], fields=model.fields, grid=grid, at="nodes")
    plain = FieldObjective(model.fields)
    for changed in (
        FieldObjective(model.fields, unrolling=Unrolling(noise=0.1)),
        FieldObjective(model.fields, augmentation=augmentation),
    ):
        torch.testing.assert_close(losses(model.eval(), changed, data), losses(model.eval(), plain, data))
        assert (losses(model.train(), changed, data) - losses(model.train(), plain, data)).abs().max() > 1e-4
    torch.manual_seed(5)
    first = losses(model.train(), changed, data)
    torch.manual_seed(5)
    torch.testing.assert_close(losses(model, changed, data), first, rtol=0, atol=0)


def test_a_field_at_rest_has_a_finite_error():
    model = surrogate()
    data = batch(1)
    data = data._replace(frames=model.mean.expand_as(data.frames).clone())
    assert losses(model, FieldObjective(model.fields), data).isfinite().all()


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="one of scaled_l2, mse"):
        FieldObjective(surrogate().fields, kind="mae")
    with pytest.raises(ValueError, match=r"unroll\.pushforward with steps=1"):
        Unrolling(pushforward=True)
    with pytest.raises(ValueError, match=r"unroll\.steps=0"):
        Unrolling(steps=0)
    with pytest.raises(ValueError, match=r"unroll\.noise=-1"):
        Unrolling(noise=-1)
