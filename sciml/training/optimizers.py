"""AdamW with weight decay where it belongs, the learning-rate schedule, and gradients in one flat buffer."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class OptimizerSettings:
    """How the weights are updated.

    Attributes:
        learning_rate: peak learning rate.
        final_learning_rate: learning rate of the last step, as a fraction of the peak.
        warmup: fraction of the training over which the learning rate rises linearly from zero.
        weight_decay: decoupled weight decay, of matrices only (not of norms, biases, embeddings, vectors).
        betas: decay of AdamW's first and second moments.
        clip_norm: largest norm of the whole gradient; null for no clipping.
        ema_decay: decay of the running average of the weights, which is what is validated and saved.
    """

    learning_rate: float = 5e-3
    final_learning_rate: float = 0.01
    warmup: float = 0.02
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float | None = 10.0
    ema_decay: float = 0.995

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        for name, low, high in (("final_learning_rate", 0, 1), ("warmup", 0, 1), ("ema_decay", 0, 1)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"got {name}={getattr(self, name)}; it must be between {low} and {high}")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise ValueError(f"got learning_rate={self.learning_rate}; it must be positive and finite")
        if not self.weight_decay >= 0:
            raise ValueError(f"got weight_decay={self.weight_decay}; it must not be negative")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"got clip_norm={self.clip_norm}; it must be positive, or null for no clipping")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"got betas={self.betas}; they must be two numbers in [0, 1)")


def adamw(model: nn.Module, settings: OptimizerSettings) -> torch.optim.AdamW:
    """AdamW (arXiv:1711.05101) over the trainable parameters, its kernel fused over all of them."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    seen: set[nn.Parameter] = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                (decayed if is_decayed(module, name, parameter) else free).append(parameter)
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": free, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise ValueError("the model has no trainable parameters")
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, fused=True)


def is_decayed(module: nn.Module, name: str, parameter: Tensor) -> bool:
    """Whether weight decay applies to the parameter `name` of `module`: matrices that are no norm and no embedding."""
    kind = f"{type(module).__name__}.{name}".lower()
    return parameter.ndim >= 2 and not any(word in kind for word in ("norm", "embed", "bias"))


def learning_rate(progress: float, settings: OptimizerSettings) -> float:
    """Linear warm-up, then a cosine (arXiv:1608.03983) down to the final rate; `progress` in (0, 1] of the training."""
    progress = min(progress, 1.0)
    if progress < settings.warmup:
        return settings.learning_rate * progress / settings.warmup
    phase = (progress - settings.warmup) / (1 - settings.warmup) if settings.warmup < 1 else 0.0
    cosine = 0.5 * (1 + math.cos(math.pi * phase))
    return settings.learning_rate * (settings.final_learning_rate + (1 - settings.final_learning_rate) * cosine)


class FlatGradients:
    """The gradients of all trainable parameters as views of one buffer per dtype.

    Zeroing, the norm, clipping and the sum over processes are then one operation each, however many parameters there
    are. A parameter that the loss does not reach has a zero gradient, not None: a process whose share of a batch is
    empty thus treats every parameter like the others do.
    """

    def __init__(self, model: nn.Module) -> None:
        parameters = [p for p in model.parameters() if p.requires_grad]
        self.buffers: list[Tensor] = []
        for dtype in dict.fromkeys(p.dtype for p in parameters):
            members = [p for p in parameters if p.dtype == dtype]
            buffer = members[0].new_zeros(sum(p.numel() for p in members), requires_grad=False)
            for parameter, part in zip(members, buffer.split([p.numel() for p in members]), strict=True):
                parameter.grad = part.view_as(parameter)
            self.buffers.append(buffer)

    def zero(self) -> None:
        """Set all gradients to zero, in place: backward passes add to them."""
        for buffer in self.buffers:
            buffer.zero_()

    def norm(self) -> Tensor:
        """Euclidean norm of the whole gradient, a scalar."""
        return torch.stack([torch.linalg.vector_norm(buffer).double() for buffer in self.buffers]).norm()

    def clip(self, norm: float, largest: float) -> None:
        """Scale the gradient, whose norm is `norm`, down to the norm `largest` if it is above."""
        if norm > largest:
            for buffer in self.buffers:
                buffer.mul_(largest / norm)
