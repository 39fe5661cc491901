"""Rolling a surrogate out: each frame from the last ones, of which all but the first are its own."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Rollout(NamedTuple):
    """A rollout, and how far it came.

    Attributes:
        frames: (batch, steps, channels, num_x, num_y); NaN from the step on at which a sample diverged.
        diverged_at: (batch,), the step, from 1, at which a sample stopped being a number or left the bound; 0 for none.
    """

    frames: Tensor
    diverged_at: Tensor


@torch.no_grad()
def rollout(step: Callable[[Tensor], Tensor], history: Tensor, steps: int, *, bound: float = 1e3) -> Rollout:
    """Predict `steps` frames, one after the other.

    Args:
        step: of the last frames, (batch, times · channels, num_x, num_y), oldest first, to the next one, (batch,
            channels, num_x, num_y): a surrogate in evaluation mode, or, with a history of one frame, a solver.
        history: the frames to start from, (batch, times, channels, num_x, num_y).
        steps: number of frames.
        bound: of |u| over the largest |u| of the history's sample, beyond which a sample counts as diverged. It is left
            out of the following steps, so that it neither slows nor spoils the others.

    Raises:
        ValueError: if the shapes do not fit.
    """
    if history.dim() != 5 or steps < 1:
        raise ValueError(
            f"got a history of shape {tuple(history.shape)} and {steps} steps; expected (batch, times, channels, "
            "num_x, num_y) and at least one step"
        )
    batch, times, channels = history.shape[:3]
    frames = history.new_full((batch, steps, *history.shape[2:]), torch.nan)
    diverged_at = torch.zeros(batch, dtype=torch.int64, device=history.device)
    limit = bound * history.abs().amax(dim=(1, 2, 3, 4)).clamp_min(torch.finfo(history.dtype).tiny)
    going, last = torch.arange(batch, device=history.device), history
    for number in range(1, steps + 1):
        new = step(last.flatten(1, 2))
        expected = (len(going), channels, *history.shape[3:])
        if tuple(new.shape) != expected:
            raise ValueError(f"got a frame of shape {tuple(new.shape)}; expected {expected}")
        size = new.abs().amax(dim=(1, 2, 3))
        good = size <= limit[going]  # false for NaN
        diverged_at[going[~good]] = number
        going, new, last = going[good], new[good], last[good]
        if not len(going):
            break
        frames[going, number - 1] = new
        last = torch.cat([last[:, 1:], new[:, None]], dim=1) if times > 1 else new[:, None]
    return Rollout(frames, diverged_at)


def persistence(history: Tensor, steps: int) -> Tensor:
    """The last frame again and again, (batch, steps, channels, num_x, num_y): what every surrogate has to beat."""
    return history[:, -1:].expand(-1, steps, -1, -1, -1)
