"""The loss of a batch and its gradient as one compiled function, without derivatives left to take.

A training step differentiates twice: energies for forces, and the loss of the forces for the update. torch.compile
cannot follow the backward pass of a backward pass. Therefore all of it is first written down by `make_fx` as the
operations that it comes to, which Inductor then fuses as any others: of a step's thousands of small kernels, most are
sums and products of the same few arrays.
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

from sciml.packed import PackedGraphs, Plan
from sciml.training.losses import Objective, Sums, global_loss

logger = logging.getLogger(__name__)


class CompiledGradient:
    """Sums of an objective over a batch, and the gradient of the loss, which is added to that of the parameters.

    It is written down and compiled for the shapes of a batch, and anew when they are others. Whatever
    the objective depends on besides weights, plan and loss weights (buffers, the packed arrays) must stay where it is.

    Args:
        model: in training mode; every trainable parameter has a gradient to add to.
        objective: what it minimises. Its random numbers are those of an uncompiled step.
        graphs: of which batches are made.
        backend: of torch.compile.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, graphs: PackedGraphs, *, backend: str = "inductor"
    ) -> None:
        self.backend = backend
        self.step = _Step(model, objective, graphs)
        self.parameters = {name: p for name, p in self.step.named_parameters() if p.requires_grad}
        self.compiled: Callable[..., Any] | None = None
        self.shapes: list[torch.Size] = []

    def __call__(self, row: Plan, weights: Tensor) -> Sums:
        """Sums over the batch of one row of a plan; `weights` (targets,) of the terms of the loss."""
        values = {name: p.detach().requires_grad_() for name, p in self.parameters.items()}
        arguments = (values, tuple(row), weights)
        shapes = [part.shape for part in row]
        if self.compiled is None or shapes != self.shapes:
            self.compiled, self.shapes = self._compile(*arguments), shapes
        with torch.no_grad():
            sums, gradients = self.compiled(*arguments)
        torch._foreach_add_([cast(Tensor, p.grad) for p in self.parameters.values()], list(gradients))
        return Sums(*sums)

    def _compile(self, *arguments: Any) -> Callable[..., Any]:
        started = time.monotonic()

        def derivatives(values: Mapping[str, Tensor], row: tuple[Tensor, ...], weights: Tensor) -> Any:
            return self._derivatives(values, row, weights)  # make_fx takes functions, and no methods

        traced = make_fx(derivatives, tracing_mode="real")(*arguments)
        number = sum(node.op == "call_function" for node in traced.graph.nodes)
        logger.info("compiling a step of %d operations, written down in %.0f s", number, time.monotonic() - started)
        # Random numbers of torch's own generators, as in an uncompiled step.
        options: dict[str, Any] | None = {"fallback_random": True} if self.backend == "inductor" else None
        return torch.compile(traced, fullgraph=True, dynamic=False, backend=self.backend, options=options)

    def _derivatives(
        self, values: Mapping[str, Tensor], row: tuple[Tensor, ...], weights: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        with torch.enable_grad():
            sums: Sums = functional_call(self.step, dict(values), (Plan(*row),))
            loss = global_loss(weights, sums)
            gradients = torch.autograd.grad(loss, list(values.values()), allow_unused=True, materialize_grads=True)
        return tuple(part.detach() for part in sums), gradients


class _Step(nn.Module):
    """The objective of a batch, as a module whose parameters can be replaced."""

    def __init__(self, model: nn.Module, objective: Objective, graphs: PackedGraphs) -> None:
        super().__init__()
        self.model, self.objective, self.graphs = model, objective, graphs

    def forward(self, row: Plan) -> Sums:
        return self.objective(self.model, self.graphs.batch(row))
