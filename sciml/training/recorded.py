"""Training steps that a GPU repeats by itself.

A step of a small potential is some thousand operations of a few microseconds each, which a processor cannot issue as
fast as a GPU runs them. Recorded once as a CUDA graph, batch and learning rate chosen by a counter on the device, a
step is one launch, and nothing waits until the losses are read after many of them.
"""

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sciml.graphs import AtomicGraph
from sciml.packed import Capacity, PackedGraphs, Plan
from sciml.training.ema import MovingAverage
from sciml.training.losses import Objective, Sums
from sciml.training.optimizers import FlatGradients, Optimizers

logger = logging.getLogger(__name__)

# Steps before the recording: kernels compile, libraries take their memory, optimizers their state.
_WARM_UP = 3


class Recording:
    """A function without arguments and results, run on a stream of its own: first as it is, then as a CUDA graph.

    Args:
        function: operations on arrays that stay where they are, none of which waits for the device.
        device: where; on a CPU the function is only ever called.
        required: whether it is an error if the function cannot be recorded; else there is a warning.
    """

    def __init__(self, function: Callable[[], None], device: torch.device, *, required: bool = False) -> None:
        self.function, self.device, self.required, self.possible = function, device, required, True
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.graph: torch.cuda.CUDAGraph | None = None
        self.calls = 0

    def forget(self) -> None:
        """Record anew, because arrays have moved or changed shape."""
        self.graph, self.calls = None, 0

    def run(self, times: int) -> None:
        """Call it so often."""
        if self.stream is None:
            for _ in range(times):
                self.function()
            return
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            for _ in range(times):
                if self.graph is None and self.calls == _WARM_UP and self.possible:
                    self.graph = self._recorded()
                if self.graph is None:
                    self.function()
                    self.calls += 1
                else:
                    self.graph.replay()
        torch.cuda.current_stream(self.device).wait_stream(self.stream)

    def _recorded(self) -> torch.cuda.CUDAGraph | None:
        torch.cuda.synchronize(self.device)
        graph = torch.cuda.CUDAGraph()
        try:
            # What other threads do on the device meanwhile is none of its business.
            with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
                self.function()
        except RuntimeError as error:  # of which torch has no narrower class
            self.possible = False
            reason = str(error).splitlines()[0]
            if self.required:
                raise ValueError(f"these steps cannot be recorded as a CUDA graph ({reason}); try without") from error
            logger.warning("steps cannot be recorded as a CUDA graph and are issued one by one, slowly: %s", reason)
            return None
        return graph


class RecordedBatches:
    """Runs a function over batches of packed graphs, which the device counts; base of what follows.

    Attributes:
        number: (1,), int64, of the present batch.
    """

    def __init__(self, graphs: PackedGraphs, num_targets: int, *, required: bool) -> None:
        self.graphs = graphs
        self.number = torch.zeros(1, dtype=torch.int64, device=graphs.device)
        self.sums = torch.zeros(len(Sums._fields), num_targets, dtype=torch.float64, device=graphs.device)
        self.capacity = Capacity(0, 0, 0)
        self.plan: Plan | None = None
        self.recording = Recording(self._step, graphs.device, required=required)

    def _load(self, batches: Sequence[Sequence[int]], **arrays: Tensor) -> None:
        """Put the plan of the batches, and arrays of one row per batch, where the recording looks for them."""
        capacity = self.capacity.joined(self.graphs.capacity(batches))
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
    ) -> None:
        super().__init__(graphs, len(objective.targets), required=required)
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
        sums = self.objective(self.model, self._batch())
        loss = (self.weights * sums.loss / sums.loss_count.clamp(min=1)).sum()
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
