"""NorMuon: momentum that is made orthogonal, with a step for each neuron."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

# Quintic iteration x ← a x + b x³ + c x⁵ on the singular values, whose slope at zero is as large as can be; they end up
# between 0.7 and 1.2, which serves as well as 1. Source: Jordan et al., https://kellerjordan.github.io/posts/muon/.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_EPSILON = 1e-8
# Root mean square of an update, as a share of the learning rate: that of AdamW in practice (arXiv:2502.16982).
_RMS = 0.2


class NorMuon(Optimizer):
    """For matrices (..., rows, columns), each of the leading dimensions a matrix of its own:

        M ← β₁ M + (1 − β₁) G,    O = orthogonal part of M (Newton-Schulz)
        v ← β₂ v + (1 − β₂) mean of O² over the inputs of each neuron,    Ô = O / (√v + ε)
        W ← W − η λ W − 0.2 η √(rows · columns) Ô / ‖Ô‖

    so that a learning rate of AdamW serves. Matrices of one shape are treated together.

    Args:
        params: parameters or groups of them; a group's `inputs_last` (by default true, as in nn.Linear) says whether
            the inputs of a neuron are a row or a column.
        lr: η.
        betas: β₁ and β₂.
        weight_decay: λ.

    Raises:
        ValueError: for parameters that are not matrices.

    Source: NorMuon, arXiv:2510.05491; Muon, https://kellerjordan.github.io/posts/muon/.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "inputs_last": True})
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim < 2:
                    raise ValueError(f"got a parameter of shape {tuple(parameter.shape)}; NorMuon is for matrices")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alike: dict[tuple, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike.setdefault((*parameter.shape[-2:], parameter.dtype, parameter.device), []).append(parameter)
            for parameters in alike.values():
                self._update(parameters, group)
        return loss

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        rate, (beta1, beta2) = group["lr"], group["betas"]
        inputs = -1 if group["inputs_last"] else -2
        states = [self.state[parameter] for parameter in parameters]
        for parameter, state in zip(parameters, states, strict=True):
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
                state["neurons"] = torch.zeros_like(parameter.select(inputs, 0).unsqueeze(inputs))
                state["step"] = torch.zeros((), dtype=torch.float32)
            state["step"] += 1
        # One by one, matrices take a dozen small operations each: all of one shape are stacked.
        sizes = [parameter.numel() // math.prod(parameter.shape[-2:]) for parameter in parameters]
        kept = [state["momentum"] for state in states]
        momentum = _stacked(kept).lerp_(_stacked([p.grad for p in parameters if p.grad is not None]), 1 - beta1)
        _unstack(momentum, sizes, kept)
        update = orthogonal(momentum)
        kept = [state["neurons"] for state in states]
        neurons = _stacked(kept).lerp_(update.square().mean(dim=inputs, keepdim=True), 1 - beta2)
        _unstack(neurons, sizes, kept)
        update = update / (neurons.sqrt() + _EPSILON)
        norms = torch.linalg.vector_norm(update, dim=(-2, -1), keepdim=True).clamp_min(_EPSILON)
        update = update * (_RMS * rate * math.sqrt(math.prod(parameters[0].shape[-2:])) / norms)
        torch._foreach_mul_(parameters, 1 - rate * group["weight_decay"])
        parts = update.split(sizes)
        torch._foreach_sub_(parameters, [part.view_as(p) for part, p in zip(parts, parameters, strict=True)])


def _stacked(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1, *tensor.shape[-2:]) for tensor in tensors])


def _unstack(stacked: Tensor, sizes: list[int], into: list[Tensor]) -> None:
    torch._foreach_copy_(into, [part.view_as(t) for part, t in zip(stacked.split(sizes), into, strict=True)])


def orthogonal(matrices: Tensor) -> Tensor:
    """About U Vᵀ of matrices U S Vᵀ, (..., rows, columns): singular values between 0.7 and 1.2, zero stays zero."""
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True).clamp_min(_EPSILON)
    for _ in range(_ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if tall else x
