"""Optimizers with weight decay where it belongs, learning-rate schedules, and gradients in one flat buffer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sciml.training.normuon import NorMuon

OPTIMIZERS = ("adamw", "amsgrad", "muon", "normuon")


@dataclass(frozen=True)
class OptimizerSettings:
    """How the weights are updated.

    Attributes:
        name: adamw; amsgrad (AdamW with the largest second moment so far, arXiv:1904.09237); or, for matrices,
            muon (torch.optim.Muon) or normuon (arXiv:2510.05491), and AdamW for all else.
        learning_rate: peak learning rate, in the scale of AdamW for all.
        schedule: cosine, or plateau: the learning rate is multiplied by `plateau_factor` after `plateau_patience`
            epochs without a better validation loss.
        final_learning_rate: learning rate of the last step, or lowest of the plateaus, as a fraction of the peak.
        plateau_patience: epochs.
        plateau_factor: below 1.
        warmup: fraction of the training over which the learning rate rises linearly from zero.
        weight_decay: decoupled weight decay, of matrices only (not of norms, biases, embeddings, vectors).
        betas: decay of AdamW's first and second moments.
        clip_norm: largest norm of the whole gradient; null for no clipping.
        ema_decay: decay of the running average of the weights, which is what is validated and saved.
    """

    name: Literal["adamw", "amsgrad", "muon", "normuon"] = "adamw"
    learning_rate: float = 5e-3
    schedule: Literal["cosine", "plateau"] = "cosine"
    plateau_patience: int = 50
    plateau_factor: float = 0.8
    final_learning_rate: float = 0.01
    warmup: float = 0.02
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float | None = 10.0
    ema_decay: float = 0.995

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        if self.name not in OPTIMIZERS:
            raise ValueError(f"got the optimizer {self.name!r}; available: {', '.join(OPTIMIZERS)}")
        if self.schedule not in ("cosine", "plateau"):
            raise ValueError(f"got the schedule {self.schedule!r}; available: cosine, plateau")
        if self.plateau_patience < 1:
            raise ValueError(f"got plateau_patience={self.plateau_patience}; it must be at least 1 epoch")
        if not 0 < self.plateau_factor < 1:
            raise ValueError(f"got plateau_factor={self.plateau_factor}; it must be between 0 and 1")
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


class Optimizers:
    """Several optimizers of one model as one.

    Attributes:
        parts: the optimizers.
        param_groups: of all of them.
    """

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts
        self.param_groups = [group for part in parts for group in part.param_groups]

    def step(self) -> None:
        """Update all parameters."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """States of the parts, in order."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave, also of optimizers that ran elsewhere."""
        how: list[dict[str, Any]] = [
            {name: group[name] for name in ("lr", "capturable") if name in group} for group in self.param_groups
        ]
        for part, of_part in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(of_part)
        self.param_groups = [group for part in self.parts for group in part.param_groups]
        for group, own in zip(self.param_groups, how, strict=True):
            group.update(own)


def build_optimizer(model: nn.Module, settings: OptimizerSettings, *, device: torch.device | None = None) -> Optimizers:
    """The optimizer of the settings over the trainable parameters.

    Args:
        model: whose parameters.
        settings: which, and how.
        device: where learning rates are, for steps that the device repeats by itself; None for plain numbers.

    Raises:
        ValueError: if there are none, or torch lacks the optimizer.
    """
    groups: dict[str, list[nn.Parameter]] = {"matrices": [], "columns": [], "decayed": [], "free": []}
    orthogonalised = settings.name in ("muon", "normuon")
    seen: set[nn.Parameter] = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                kind = "decayed" if is_decayed(module, name, parameter) else "free"
                if kind == "decayed" and orthogonalised and min(parameter.shape[-2:]) > 1:
                    # The inputs of a neuron are a row in nn.Linear, and a column in the layers of this package.
                    kind = "matrices" if isinstance(module, nn.Linear) else "columns"
                    if settings.name == "muon" and parameter.ndim > 2:  # torch's takes single matrices only
                        kind = "decayed"
                groups[kind].append(parameter)
    if not seen:
        raise ValueError("the model has no trainable parameters")
    described = {
        kind: {"params": members, "weight_decay": 0.0 if kind == "free" else settings.weight_decay}
        for kind, members in groups.items()
        if members
    }
    parts: list[torch.optim.Optimizer] = []
    rate: float | Tensor = settings.learning_rate
    if device is not None:
        rate = torch.tensor(settings.learning_rate, device=device)
    elementwise = [described[kind] for kind in ("decayed", "free") if kind in described]
    if elementwise:
        adamw = torch.optim.AdamW(
            elementwise,
            lr=rate,
            betas=settings.betas,
            amsgrad=settings.name == "amsgrad",
            fused=True,
            capturable=device is not None and device.type == "cuda",
        )
        parts.append(adamw)
    matrices = [
        described[kind] | {"inputs_last": kind == "matrices"} for kind in ("matrices", "columns") if kind in described
    ]
    if matrices and settings.name == "normuon":
        parts.append(NorMuon(matrices, lr=rate))
    elif matrices:
        if not hasattr(torch.optim, "Muon"):
            raise ValueError(
                f"the optimizer muon needs torch 2.9 or newer, and this is {torch.__version__}; try normuon"
            )
        for group in matrices:
            del group["inputs_last"]
        parts.append(torch.optim.Muon(matrices, lr=settings.learning_rate, adjust_lr_fn="match_rms_adamw"))
    return Optimizers(*parts)


def is_decayed(module: nn.Module, name: str, parameter: Tensor) -> bool:
    """Whether weight decay applies to the parameter `name` of `module`: matrices that are no norm and no embedding."""
    kind = f"{type(module).__name__}.{name}".lower()
    return parameter.ndim >= 2 and not any(word in kind for word in ("norm", "embed", "bias"))


def learning_rate(
    progress: float, settings: OptimizerSettings, valid_losses: Sequence[float] = (), *, valid_interval: int = 1
) -> float:
    """Linear warm-up; then a cosine (arXiv:1608.03983) down to the final rate, or plateaus.

    Args:
        progress: in (0, 1] of the training.
        settings: the schedule.
        valid_losses: of the validations so far.
        valid_interval: epochs between them.
    """
    progress = min(progress, 1.0)
    if progress < settings.warmup:
        return settings.learning_rate * progress / settings.warmup
    if settings.schedule == "plateau":
        share = settings.plateau_factor ** num_plateaus(valid_losses, -(-settings.plateau_patience // valid_interval))
        return settings.learning_rate * max(share, settings.final_learning_rate)
    phase = (progress - settings.warmup) / (1 - settings.warmup) if settings.warmup < 1 else 0.0
    cosine = 0.5 * (1 + math.cos(math.pi * phase))
    return settings.learning_rate * (settings.final_learning_rate + (1 - settings.final_learning_rate) * cosine)


def num_plateaus(losses: Sequence[float], patience: int) -> int:
    """How often `patience` losses in a row were no better than the best before them.

    >>> num_plateaus([3, 2, 2, 2, 2, 2, 1], 2)
    2
    """
    best, waited, plateaus = math.inf, 0, 0
    for loss in losses:
        if loss < best:
            best, waited = loss, 0
        else:
            waited += 1
        if waited == patience:
            waited, plateaus = 0, plateaus + 1
    return plateaus


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
