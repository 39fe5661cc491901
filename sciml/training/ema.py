"""Exponential moving average of a model's weights."""

import copy

import torch
from torch import Tensor, nn


class MovingAverage:
    """A copy of a model whose weights are the exponential moving average of the model's,

        w̄ ← β_t w̄ + (1 - β_t) w,      β_t = min(decay, (1 + t) / (10 + t))

    after t updates. The ramp of β forgets the random initial weights: a constant decay of 0.999 would still carry 37 %
    of them after a thousand steps (cf. Karras et al., arXiv:2312.02696, whose power-law profile it follows early on).
    Buffers are copied.

    Args:
        model: on its final device and in its final dtype.
        decay: β in the long run; 0 follows the model exactly.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._source = [p.detach() for p in model.parameters()]
        self._average = [p.detach() for p in self.model.parameters()]
        self._source_buffers = list(model.buffers())
        self._average_buffers = list(self.model.buffers())

    def decay_at(self, num_updates: int) -> float:
        """β_t of update number `num_updates` (from 0)."""
        return min(self.decay, (1 + num_updates) / (10 + num_updates))

    @torch.no_grad()
    def update(self, share: float | Tensor) -> None:
        """Take in the model's present weights, which get the share 1 − β_t; a scalar, on the device or not."""
        if isinstance(share, Tensor):  # torch._foreach_lerp_ would ask the device for its value
            steps = torch._foreach_sub(self._source, self._average)
            torch._foreach_mul_(steps, share)
            torch._foreach_add_(self._average, steps)
        else:
            torch._foreach_lerp_(self._average, self._source, share)
        if self._source_buffers:
            torch._foreach_copy_(self._average_buffers, self._source_buffers)
