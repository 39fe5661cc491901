"""Training and validation as steps that a GPU repeats by itself.

Batch and learning rate are chosen by a counter on the device, and nothing waits until the losses are read after many
steps.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciml.graphs import AtomicGraph
from sciml.packed import Capacity, PackedGraphs, Plan
from sciml.recording import Recording
from sciml.training.compiled_steps import CompiledGradient
from sciml.training.ema import MovingAverage
from sciml.training.losses import Objective, Sums, global_loss
from sciml.training.optimizers import FlatGradients, Optimizers

# Room of compiled steps, which take a minute to compile anew.
_ROOM = 0.03


class RecordedBatches:
    """Runs a function over batches of packed graphs, which the device counts; base of what follows.

    Attributes:
        number: (1,), int64, of the present batch.
        room: share of edges that batches have more than they need, so that later ones fit as well.
    """

    def __init__(self, graphs: PackedGraphs, num_targets: int, *, required: bool, room: float = 0.0) -> None:
        self.graphs, self.room = graphs, room
        self.number = torch.zeros(1, dtype=torch.int64, device=graphs.device)
        self.sums = torch.zeros(len(Sums._fields), num_targets, dtype=torch.float64, device=graphs.device)
        self.capacity = Capacity(0, 0, 0)
        self.plan: Plan | None = None
        self.recording = Recording(self._step, graphs.device, required=required)

    def _load(self, batches: Sequence[Sequence[int]], **arrays: Tensor) -> None:
        """Put the plan of the batches, and arrays of one row per batch, where the recording looks for them."""
        capacity = self.capacity.joined(self.graphs.capacity(batches))
        if capacity != self.capacity:
            capacity = capacity.joined(self.graphs.capacity(batches, room=self.room))
        plan = self.graphs.plan(batches, capacity)
        fits = self.plan is not None and capacity == self.capacity and len(batches) <= len(self.plan.systems)
        if not fits:
            self.capacity, self.plan = capacity, plan
            for name, array in arrays.items():
                setattr(self, name, array)
            self.recording.forget()
        elif self.plan is not None:
            for kept, new in zip(self.plan, plan, strict=True):
                kept[: len(new)].copy_(new)
            for name, array in arrays.items():
                getattr(self, name)[: len(array)].copy_(array)
        self.number.zero_()
        self.sums.zero_()

    def _batch(self) -> AtomicGraph:
        assert self.plan is not None
        return self.graphs.batch(self.plan.row(self.number))

    def _add(self, sums: Sums) -> None:
        self.sums += torch.stack([part.detach() for part in sums])
        self.number += 1

    def _step(self) -> None:
        raise NotImplementedError


class RecordedTraining(RecordedBatches):
    """Updates of a model's weights, one per batch.

    A gradient that is not finite is replaced by zero, and its batch remembered: by the time that anybody looks, the
    device is further on.

    Args:
        model: takes a graph of `PackedGraphs`.
        objective: what it minimises.
        graphs: of the training structures.
        optimizer: all of whose learning rates are tensors on the device.
        gradients: of the model.
        average: of its weights.
        clip_norm: largest norm of the gradient, or None.
        required: see `Recording`.
        compiled: whether loss and gradient are compiled, see `CompiledGradient`.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        graphs: PackedGraphs,
        optimizer: Optimizers,
        gradients: FlatGradients,
        average: MovingAverage,
        clip_norm: float | None,
        *,
        required: bool = False,
        compiled: bool = False,
    ) -> None:
        super().__init__(graphs, len(objective.targets), required=required, room=_ROOM if compiled else 0.0)
        self.gradient = CompiledGradient(model, objective, graphs) if compiled else None
        self.model, self.objective, self.average = model, objective, average
        self.optimizer, self.gradients, self.clip_norm = optimizer, gradients, clip_norm
        device = graphs.device
        self.weights = torch.zeros(len(objective.targets), dtype=torch.float64, device=device)
        self.first_bad = torch.full((1,), -1, dtype=torch.int64, device=device)
        self.rates = self.decays = torch.zeros(0, device=device)

    def epoch(
        self,
        batches: Sequence[Sequence[int]],
        *,
        rates: Sequence[float],
        decays: Sequence[float],
        weights: Tensor,
    ) -> tuple[Sums, int | None]:
        """Make one update per batch.

        Args:
            batches: indices of graphs.
            rates: learning rate of each update.
            decays: of the average, after each update.
            weights: (targets,), of the terms of the loss.

        Returns:
            Sums over all batches, and the number of the first batch whose loss or gradient is not finite, or None.
        """
        device = self.graphs.device
        self._load(batches, rates=torch.tensor(rates, device=device), decays=torch.tensor(decays, device=device))
        self.weights.copy_(weights)
        self.first_bad.fill_(-1)
        self.model.train()
        self.recording.run(len(batches))
        bad = int(self.first_bad)
        return Sums(*self.sums.clone()), None if bad < 0 else bad

    def _step(self) -> None:
        self.gradients.zero()
        if self.gradient is None:
            sums = self.objective(self.model, self._batch())
        else:
            assert self.plan is not None
            sums = self.gradient(self.plan.row(self.number), self.weights)
        loss = global_loss(self.weights, sums)
        if loss.requires_grad:
            loss.backward()
        norm = self.gradients.norm()
        good = loss.detach().isfinite() & norm.isfinite()
        scale = torch.ones_like(norm) if self.clip_norm is None else (self.clip_norm / norm).clamp(max=1)
        for buffer in self.gradients.buffers:
            buffer.copy_(torch.where(good, buffer * scale.to(buffer.dtype), 0))
        self.first_bad.copy_(torch.where(good | (self.first_bad >= 0), self.first_bad, self.number))
        rate = self.rates.index_select(0, self.number)[0]
        for group in self.optimizer.param_groups:
            group["lr"].copy_(rate)
        self.optimizer.step()
        self.average.update(1 - self.decays.index_select(0, self.number)[0])
        self._add(sums)


class RecordedValidation(RecordedBatches):
    """Sums of the objective of a model that is not trained, over all batches.

    Args:
        model: takes a graph of `PackedGraphs`; in evaluation mode.
        objective: what is summed.
        graphs: of the validation structures.
        required: see `Recording`.
    """

    def __init__(self, model: nn.Module, objective: Objective, graphs: PackedGraphs, *, required: bool = False) -> None:
        super().__init__(graphs, len(objective.targets), required=required)
        self.model, self.objective = model, objective

    def epoch(self, batches: Sequence[Sequence[int]]) -> Sums:
        """Sums over all batches."""
        if not batches:
            return Sums(*torch.zeros_like(self.sums))
        self.model.eval()
        self._load(batches)
        self.recording.run(len(batches))
        return Sums(*self.sums.clone())

    def _step(self) -> None:
        with torch.no_grad():
            self._add(self.objective(self.model, self._batch()))
