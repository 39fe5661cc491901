"""Rotation augmentation: the baseline of every way to learn a symmetry, structures turned at random in each epoch."""

from torch import nn

from sciml.graphs import AtomicGraph
from sciml.rotations import random_rotations, rotated
from sciml.training.losses import Objective, Sums


class RotationAugmentation:
    """An objective whose training structures are turned with their labels, each by a rotation drawn anew each time.

    Rotations come from torch's own generator of the device, which the loop seeds for each epoch. In evaluation mode
    structures stay as they are.

    Args:
        objective: what is minimised.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.targets, self.weights, self.units = objective.targets, objective.weights, objective.units

    def training_weights(self, progress: float) -> tuple[float, ...]:
        """Those of the objective."""
        return self.objective.training_weights(progress)

    def __call__(self, model: nn.Module, batch: AtomicGraph) -> Sums:
        """Sums of the objective over the turned structures of `batch`."""
        if model.training:
            batch = rotated(batch, random_rotations(batch.num_systems, like=batch.positions))
        return self.objective(model, batch)
