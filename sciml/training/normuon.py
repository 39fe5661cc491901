"""NorMuon: momentum that is made orthogonal, with a step for each neuron."""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

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

    so that a learning rate of AdamW serves. Matrices of similar shapes are treated together.

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
        self._layouts: dict[tuple[Any, ...], _Layout] = {}
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
            buckets: dict[tuple[Any, ...], list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    buckets.setdefault(self._bucket(parameter), []).append(parameter)
            for bucket, parameters in buckets.items():
                self._update(parameters, group, bucket)
        return loss

    @staticmethod
    def _bucket(parameter: Tensor) -> tuple[Any, ...]:
        """What matrices that are treated together share: padded rows and columns, transposition, dtype, device.

        A network has matrices of a dozen shapes, and the iteration is twenty small operations for each. Zero rows and
        columns stay zero in it, so that matrices of a few padded shapes can be stacked instead.
        """
        rows, columns = parameter.shape[-2:]
        tall = rows > columns
        return (_padded(min(rows, columns)), _padded(max(rows, columns)), tall, parameter.dtype, parameter.device)

    def _update(self, parameters: list[Tensor], group: dict[str, Any], bucket: tuple[Any, ...]) -> None:
        tall = bucket[2]
        rate, (beta1, beta2) = group["lr"], group["betas"]
        states = [self.state[parameter] for parameter in parameters]
        for parameter, state in zip(parameters, states, strict=True):
            if not state:
                inputs = -1 if group["inputs_last"] else -2
                state["momentum"] = torch.zeros_like(parameter)
                state["neurons"] = torch.zeros_like(parameter.select(inputs, 0).unsqueeze(inputs))
                state["step"] = torch.zeros((), dtype=torch.float32)
            state["step"] += 1
        momenta = [state["momentum"] for state in states]
        torch._foreach_lerp_(momenta, [p.grad for p in parameters if p.grad is not None], 1 - beta1)

        neurons = [state["neurons"] for state in states]
        along_rows = group["inputs_last"] != tall  # whether the inputs of a neuron are a row of the stacked matrix
        layout = self._layout(parameters, neurons, bucket, along_rows=along_rows)
        update = orthogonal(layout.matrices.stack(momenta))
        squares = update.square().sum(dim=-1 if along_rows else -2, keepdim=True) / layout.inputs
        mean_squares = layout.neurons.stack(neurons).lerp_(squares, 1 - beta2)
        torch._foreach_copy_(neurons, layout.neurons.unstack(mean_squares, neurons))
        update = update / (mean_squares.sqrt() + _EPSILON)
        norms = torch.linalg.vector_norm(update, dim=(-2, -1), keepdim=True).clamp_min(_EPSILON)
        update = update * (_RMS * rate * layout.elements.sqrt() / norms)
        torch._foreach_mul_(parameters, 1 - rate * group["weight_decay"])
        torch._foreach_sub_(parameters, layout.matrices.unstack(update, parameters))

    def _layout(
        self, parameters: list[Tensor], neurons: list[Tensor], bucket: tuple[Any, ...], *, along_rows: bool
    ) -> "_Layout":
        """The layout of a bucket.

        It is made once, because a step that a GPU repeats by itself (`sciml.recording`) can copy nothing from the host.
        """
        rows, columns, tall, dtype, device = bucket
        key = (*bucket, along_rows, *(parameter.shape for parameter in parameters))
        if key not in self._layouts:
            counts = [parameter.numel() // math.prod(parameter.shape[-2:]) for parameter in parameters]
            per_parameter = [
                [parameter.numel() / n.numel() for parameter, n in zip(parameters, neurons, strict=True)],
                [math.prod(parameter.shape[-2:]) for parameter in parameters],
            ]
            stacked = torch.tensor(per_parameter, dtype=dtype).repeat_interleave(torch.tensor(counts), dim=1)
            inputs, elements = stacked[:, :, None, None].to(device)
            shape = (rows, 1) if along_rows else (1, columns)
            self._layouts[key] = _Layout(
                _Places.of(parameters, counts, (rows, columns), tall=tall),
                _Places.of(neurons, counts, shape, tall=tall),
                inputs,
                elements,
            )
        return self._layouts[key]


class _Places(NamedTuple):
    """Where the elements of tensors lie in a stack of padded matrices.

    Attributes:
        places: of all elements, in the order of the tensors.
        shape: (matrices, rows, columns) of the stack.
    """

    places: Tensor
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, tensors: list[Tensor], counts: list[int], shape: tuple[int, int], *, tall: bool) -> "_Places":
        """The places of tensors of so many matrices each, which are transposed in the stack if they are tall."""
        stack = torch.arange(sum(counts) * math.prod(shape), device=tensors[0].device).view(-1, *shape)
        parts = [
            (part.mT if tall else part)[:, : tensor.shape[-2], : tensor.shape[-1]].flatten()
            for part, tensor in zip(stack.split(counts), tensors, strict=True)
        ]
        return cls(torch.cat(parts), (sum(counts), *shape))

    def stack(self, tensors: list[Tensor]) -> Tensor:
        """The stack of the tensors, with zeros around them."""
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        return flat.new_zeros(math.prod(self.shape)).index_copy(0, self.places, flat).view(self.shape)

    def unstack(self, stack: Tensor, like: list[Tensor]) -> list[Tensor]:
        """The tensors in a stack."""
        parts = stack.flatten().index_select(0, self.places).split([tensor.numel() for tensor in like])
        return [part.view(tensor.shape) for part, tensor in zip(parts, like, strict=True)]


class _Layout(NamedTuple):
    """Of the matrices that are treated together.

    Attributes:
        matrices: where their elements lie.
        neurons: where the neurons' numbers lie.
        inputs: of a neuron, (matrices, 1, 1).
        elements: of a matrix, (matrices, 1, 1).
    """

    matrices: _Places
    neurons: _Places
    inputs: Tensor
    elements: Tensor


def _padded(size: int) -> int:
    """The next power of two from 64 on: at most half of a padded matrix is zero, except of small ones.

    >>> [_padded(size) for size in (3, 64, 65, 1472)]
    [64, 64, 128, 2048]
    """
    return max(64, 1 << (size - 1).bit_length())


def orthogonal(matrices: Tensor) -> Tensor:
    """About U Vᵀ of matrices U S Vᵀ, (..., rows, columns): singular values between 0.7 and 1.2, zero stays zero."""
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    given = matrices.mT if tall else matrices
    x = given.reshape(-1, *given.shape[-2:])
    x = x / torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True).clamp_min(_EPSILON)
    for _ in range(_ITERATIONS):
        square = x @ x.mT
        polynomial = torch.baddbmm(square, square, square, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    x = x.view(given.shape)
    return x.mT if tall else x
