"""What to say when a loss is not finite or runs away: where, which term, which items, and what to try."""

import copy
import math
from collections.abc import Sequence

import torch
from torch import nn

from sciml.training.loading import Loader
from sciml.training.losses import Objective, Sums

ADVICE = (
    "try a smaller optimizer.learning_rate, a smaller optimizer.clip_norm or a longer optimizer.warmup, "
    "and check the labels of the structures above (units, unconverged or overlapping frames)"
)


class DivergenceError(ValueError):
    """The training cannot go on: a loss or a gradient is not finite, or the loss grows without bound."""


def describe_terms(objective: Objective, sums: Sums) -> str:
    """Value of each term of the loss, `energy_per_atom nan, forces 0.12`."""
    values = zip(objective.targets, sums.loss.tolist(), sums.loss_count.tolist(), strict=True)
    return ", ".join(f"{target} {loss / count:.4g}" for target, loss, count in values if count > 0)


def describe_items(
    model: nn.Module, objective: Objective, loader: Loader, indices: Sequence[int], *, shown: int = 3
) -> str:
    """The items of a batch with the worst loss, evaluated one by one; those that are not finite come first."""
    single = copy.deepcopy(model).eval()
    losses = []
    for index in indices:
        with torch.no_grad():
            loss = weighted_loss(objective, objective(single, loader.batch([index])))
        losses.append((loss, index))
    losses.sort(key=lambda item: math.inf if math.isnan(item[0]) else item[0], reverse=True)
    lines = [f"  {loader.describe(index)}: loss {loss:.4g}" for loss, index in losses[:shown]]
    if len(losses) > shown:
        lines.append(f"  and {len(losses) - shown} more")
    return "\n".join(lines)


def weighted_loss(objective: Objective, sums: Sums) -> float:
    """The loss L of the given sums; a target without labels contributes nothing."""
    terms = zip(objective.weights, sums.loss.tolist(), sums.loss_count.tolist(), strict=True)
    return sum((weight * loss / count for weight, loss, count in terms if count > 0 and weight > 0), 0.0)


def weights_are_finite(model: nn.Module) -> bool:
    """Whether every parameter is finite."""
    return all(bool(parameter.isfinite().all()) for parameter in model.parameters())
