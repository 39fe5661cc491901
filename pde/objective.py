"""What a surrogate is asked to minimise: errors of the frames that it predicts, one step ahead or many."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sciml.pde.augmentation import Augmentation
from sciml.pde.field_data import Batch
from sciml.pde.stepper import Field
from sciml.pde.surrogate import Surrogate
from sciml.training.losses import Sums

ErrorKind = Literal["scaled_l2", "mse"]

# The least norm that scaled errors are relative to, as root mean square in standard deviations: a field may be at rest.
_FLOOR = 1e-3


@dataclass(frozen=True)
class Unrolling:
    """How many steps of its own a surrogate makes in training, and through which of them gradients go.

    Attributes:
        steps: predictions one after the other, each from those before.
        backpropagate: gradients go back through at most so many steps; null for all.
        pushforward: whether the error of the last step alone counts and gradients stay in it (arXiv:2202.03376), so
            that the network meets its own errors at the cost of a single backward pass.
        noise: standard deviation of Gaussian noise on the frames that it starts from, in standard deviations of the
            fields (arXiv:2002.09405); in training only.
    """

    steps: int = 1
    backpropagate: int | None = None
    pushforward: bool = False
    noise: float = 0.0

    def __post_init__(self) -> None:
        for name in ("steps", "backpropagate"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"got unroll.{name}={value}; it must be at least 1")
        if not 0 <= self.noise < float("inf"):
            raise ValueError(f"got unroll.noise={self.noise}; it must not be negative")
        if self.pushforward and (self.steps < 2 or self.backpropagate is not None):
            raise ValueError(
                f"got unroll.pushforward with steps={self.steps} and backpropagate={self.backpropagate}; it needs at "
                "least 2 steps, and cuts gradients by itself"
            )


class FieldObjective:
    """Errors of predicted frames, in normalised units; a term for each field, all of the same weight.

        scaled_l2:  mean over samples and frames of ‖ũ_predicted − ũ_true‖ / ‖ũ_true‖
        mse:        mean of (ũ_predicted − ũ_true)²

    The reported mean absolute and root mean square errors are in physical units. The number of steps is that which the
    frames of a batch allow, hence windows for validation may be longer or shorter than those for training.

    Args:
        fields: of the surrogate.
        kind: of the error.
        unrolling: of training; in validation the errors of all steps count, and there is no noise.
        augmentation: of training windows.

    Source: arXiv:2403.19507 for scaled_l2.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        *,
        kind: ErrorKind = "scaled_l2",
        unrolling: Unrolling | None = None,
        augmentation: Augmentation | None = None,
    ) -> None:
        if kind not in ("scaled_l2", "mse"):
            raise ValueError(f"got the loss {kind!r}; it is one of scaled_l2, mse")
        self.kind, self.unrolling, self.augmentation = kind, unrolling or Unrolling(), augmentation
        self.targets = tuple(field.name for field in fields)
        self.weights = (1 / len(fields),) * len(fields)
        self.units = tuple(field.unit for field in fields)

    def training_weights(self, progress: float) -> tuple[float, ...]:  # noqa: ARG002
        """The same throughout."""
        return self.weights

    def __call__(self, model: nn.Module, batch: Batch) -> Sums:
        """Sums over the windows of `batch`, each field a target."""
        assert isinstance(model, Surrogate)
        frames = batch.frames
        if model.training and self.augmentation is not None:
            frames = self.augmentation(frames)
        frames = model.normalised(frames.to(model.mean.dtype))
        history, true = frames[:, : model.history], frames[:, model.history :]
        if model.training and self.unrolling.noise > 0:
            history = history + self.unrolling.noise * torch.randn_like(history)
        parameters = None if batch.parameters is None else batch.parameters.to(frames.dtype)
        predicted = self._predict(model, history, parameters, true.shape[1] // model.bundle)
        return self._sums(predicted, true[:, -predicted.shape[1] :], model.std)

    def _predict(self, model: Surrogate, history: Tensor, parameters: Tensor | None, steps: int) -> Tensor:
        """Predicted frames whose errors count, (batch, times, fields, num_x, num_y)."""
        pushforward = model.training and self.unrolling.pushforward
        cut = self.unrolling.backpropagate
        predicted: list[Tensor] = []
        for step in range(steps):
            if pushforward and step < steps - 1:
                with torch.no_grad():
                    new = model.predict(history, parameters)
            else:
                if cut is not None and step % cut == 0:
                    history = history.detach()
                new = model.predict(history, parameters)
                predicted.append(new)
            history = torch.cat([history, new], dim=1)[:, -model.history :]
        return torch.cat(predicted, dim=1)

    def _sums(self, predicted: Tensor, true: Tensor, std: Tensor) -> Sums:
        error = predicted - true
        samples, points = error.shape[0] * error.shape[1], error.shape[-1] * error.shape[-2]
        square = error.square().sum(dim=(-2, -1))  # (batch, times, fields)
        if self.kind == "mse":
            loss, count = square.sum(dim=(0, 1)), samples * points
        else:
            size = torch.linalg.vector_norm(true, dim=(-2, -1)).clamp_min(_FLOOR * points**0.5)
            loss, count = (torch.linalg.vector_norm(error, dim=(-2, -1)) / size).sum(dim=(0, 1)), samples
        scale = std.flatten().double()
        absolute = error.detach().abs().sum(dim=(0, 1, 3, 4)).double() * scale
        counts = torch.full_like(absolute, count)
        components = torch.full_like(absolute, samples * points)
        return Sums(loss.double(), counts, absolute, square.detach().sum(dim=(0, 1)).double() * scale**2, components)
