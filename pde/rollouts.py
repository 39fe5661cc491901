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
def rollout(
    step: Callable[..., Tensor],
    history: Tensor,
    steps: int,
    *,
    parameters: Tensor | None = None,
    bound: float = 1e3,
) -> Rollout:
    """Predict `steps` frames, one after the other.

    Args:
        step: of the last frames, (batch, times · channels, num_x, num_y), oldest first, to the next one, (batch,
            channels, num_x, num_y), or the next few (batch, few · channels, num_x, num_y): a surrogate in evaluation
            mode, or, with a history of one frame, a solver.
        history: the frames to start from, (batch, times, channels, num_x, num_y).
        steps: number of frames.
        parameters: (batch, parameters), second argument of `step` if given.
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
    going, last, done = torch.arange(batch, device=history.device), history, 0
    while done < steps and len(going):
        u = last.flatten(1, 2)
        new = step(u) if parameters is None else step(u, parameters[going])
        if new.dim() != 4 or len(new) != len(going) or new.shape[1] % channels or new.shape[2:] != history.shape[3:]:
            expected = (len(going), channels, *history.shape[3:])
            raise ValueError(f"got a frame of shape {tuple(new.shape)}; expected {expected}, or a few of them")
        new = new.unflatten(1, (-1, channels))
        for frame in new.unbind(1)[: steps - done]:
            size = frame.abs().amax(dim=(1, 2, 3))
            # False for NaN, and for what has diverged in an earlier frame of the same step.
            good = (size <= limit[going]) & (diverged_at[going] == 0)
            bad = going[~good]
            diverged_at[bad] = torch.where(diverged_at[bad] == 0, done + 1, diverged_at[bad])
            frames[going[good], done] = frame[good]
            done += 1
        left = diverged_at[going] == 0
        last = torch.cat([last, new], dim=1)[left, -times:]
        going = going[left]
    return Rollout(frames, diverged_at)


def persistence(history: Tensor, steps: int) -> Tensor:
    """The last frame again and again, (batch, steps, channels, num_x, num_y): what every surrogate has to beat."""
    return history[:, -1:].expand(-1, steps, -1, -1, -1)
