"""Evaluation within a bound of memory: of the whole structure if it fits, else in chunks, else not at all."""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from sciml.graphs import AtomicGraph
from sciml.potentials.checkpoint import potential_dtype
from sciml.potentials.chunked import check_divisible, evaluate_in_chunks
from sciml.potentials.interface import Potential, PotentialOutput
from sciml.potentials.memory import InsufficientMemoryError, as_bytes, as_text, free_memory
from sciml.potentials.memory_model import PotentialMemory, memory_of
from sciml.potentials.surroundings import Part, Surroundings, halves, wrapped_positions

logger = logging.getLogger(__name__)

# Without a given bound, structures with fewer edges are evaluated without measuring anything first: for them the
# measurement would take as long as the evaluation.
UNCHECKED_EDGES = 30_000

# Edge vectors, their gradient, and what forces and the virial make of them, in float64.
BYTES_PER_EDGE = 120

# Share of the free memory that an evaluation may plan with.
USABLE = 0.9


class MemoryBound:
    """Evaluates a potential within `max_memory`, and raises before it starts where that is impossible.

    The memory is estimated by a model that is measured once (`sciml.potentials.memory_model`).

    Args:
        potential: in evaluation mode.
        max_memory: bytes, or a text such as "4GB". None for what is free at that time; then structures with fewer than
            30,000 edges are evaluated without an estimate. Only with a given bound are chunks, and with them the
            rounding of sums, the same at any time.

    Attributes:
        chunks: number of chunks of the last evaluation; 1 if the structure was evaluated as a whole.

    Raises:
        ValueError: if `max_memory` is no amount of memory, or the potential cannot be evaluated in chunks.
    """

    def __init__(self, potential: Potential, max_memory: str | float | None = None) -> None:
        self.max_memory = None if max_memory is None else as_bytes(max_memory)
        if self.max_memory is not None:
            check_divisible(potential)
        self.potential = potential
        self.chunks = 1

    def __call__(
        self, graph: AtomicGraph, evaluate: Callable[[AtomicGraph], PotentialOutput] | None = None
    ) -> PotentialOutput:
        """Energies, forces and stress of one structure; `evaluate` replaces the potential for a structure as a whole.

        Raises:
            InsufficientMemoryError: if there is not enough memory even for the smallest chunks. It is a ValueError.
            ValueError: if the potential does.
        """
        evaluate = self.potential if evaluate is None else evaluate
        self.chunks = 1
        if self.max_memory is None and graph.edge_index.shape[1] < UNCHECKED_EDGES:
            return self._guarded(lambda: evaluate(graph), graph)
        budget = self._budget(graph)
        whole = self.needed(graph)
        if budget is None or whole <= budget:
            return self._guarded(lambda: evaluate(graph), graph)
        plan = self.plan(graph, budget)
        self.chunks = len(plan)
        log = logger.info if self.max_memory is not None else logger.warning
        log(
            "%d atoms with %d edges need about %s at once, more than %s: evaluated in %d chunks",
            *(graph.num_nodes, graph.edge_index.shape[1], as_text(whole), as_text(budget), len(plan)),
        )
        return self._guarded(lambda: evaluate_in_chunks(self.potential, graph, plan), graph)

    def needed(self, graph: AtomicGraph) -> float:
        """Estimated bytes of an evaluation of the whole structure."""
        memory = self._memory(graph)
        num_edges = graph.edge_index.shape[1]
        if memory.padded:
            num_edges = graph.num_nodes * _most_neighbours(graph)
        return memory.whole.bytes(graph.num_nodes, num_edges)

    def plan(self, graph: AtomicGraph, budget: float) -> list[Tensor]:
        """Chunks, each of which is estimated to need no more than `budget` bytes: the structure halved again and again.

        Raises:
            InsufficientMemoryError: if the surroundings of a single atom need more.
            ValueError: if the potential cannot be evaluated in chunks.
        """
        try:
            check_divisible(self.potential)
        except ValueError as error:
            raise InsufficientMemoryError(
                f"{graph.num_nodes} atoms with {graph.edge_index.shape[1]} edges need about "
                f"{as_text(self.needed(graph))}, {as_text(budget)} are usable, and: {error}"
            ) from error
        memory = self._memory(graph)
        surroundings = Surroundings(graph)
        positions = wrapped_positions(graph)
        fixed = BYTES_PER_EDGE * graph.edge_index.shape[1] + memory.kept_per_atom * graph.num_nodes
        waiting, done = [torch.arange(graph.num_nodes, device=graph.positions.device)], []
        while waiting:
            chunk = waiting.pop()
            needed = fixed + _bytes_of(chunk, surroundings, memory)
            if needed <= budget:
                done.append(chunk)
            elif len(chunk) > 1:
                waiting += halves(chunk, positions)
            else:
                raise InsufficientMemoryError(self._complaint(graph, budget, fixed, needed))
        return done

    def _memory(self, graph: AtomicGraph) -> PotentialMemory:
        degree = graph.edge_index.shape[1] / graph.num_nodes
        if self.potential.pads_neighbours:
            degree = _most_neighbours(graph)
        return memory_of(self.potential, degree, graph.positions.device)

    def _budget(self, graph: AtomicGraph) -> float | None:
        """Bytes to plan with, None if nobody knows."""
        free = free_memory(graph.positions.device)
        if self.max_memory is None:
            return None if free is None else USABLE * free
        if free is not None and self.max_memory > free and self.needed(graph) > free:
            raise InsufficientMemoryError(
                f"max_memory is {as_text(self.max_memory)}, but only {as_text(free)} are free on "
                f"{graph.positions.device}, and {graph.num_nodes} atoms need about {as_text(self.needed(graph))}; "
                "give a max_memory below that, or free some"
            )
        return self.max_memory

    def _complaint(self, graph: AtomicGraph, budget: float, fixed: float, needed: float) -> str:
        free = free_memory(graph.positions.device)
        bound = "free memory to be used" if self.max_memory is None else "max_memory"
        advice = ["dtype='float32'"] if potential_dtype(self.potential) == torch.float64 else []
        advice += ["a model with a smaller cutoff or fewer layers", "a device with more memory"]
        if self.max_memory is not None:
            advice.insert(0, "a larger max_memory")
        return (
            f"{graph.num_nodes} atoms with {graph.edge_index.shape[1]} edges need about "
            f"{as_text(self.needed(graph))} at once and {as_text(needed)} in the smallest chunks ({as_text(fixed)} for "
            f"the structure itself, the rest for the surroundings of one atom, up to {self.potential.num_hops} times "
            f"{self.potential.cutoff:g} Å away); the {bound} is {as_text(budget)}, free on {graph.positions.device} "
            f"are {_described(free)}. Try {', '.join(advice)}"
        )

    def _guarded(self, run: Callable[[], PotentialOutput], graph: AtomicGraph) -> PotentialOutput:
        """Run, and say more than torch does if the memory runs out all the same."""
        try:
            return run()
        except torch.OutOfMemoryError as error:
            reason = str(error).splitlines()[0]
        except RuntimeError as error:
            if "can't allocate memory" not in str(error):
                raise
            reason = str(error).splitlines()[0]
        # Only here are the tensors of the failed evaluation gone, which its traceback holds.
        if graph.positions.device.type == "cuda":
            torch.cuda.empty_cache()
        raise InsufficientMemoryError(
            f"{graph.num_nodes} atoms with {graph.edge_index.shape[1]} edges ran out of memory ({reason}); the "
            f"estimate is {as_text(self.needed(graph))}, free are {_described(free_memory(graph.positions.device))}. "
            "Give max_memory, smaller than now if it was given, so that the structure is evaluated in (more) chunks"
        )


def _described(free: int | None) -> str:
    return "an unknown amount" if free is None else as_text(free)


def _most_neighbours(graph: AtomicGraph) -> int:
    return int(torch.bincount(graph.edge_index[1], minlength=1).max())


def _bytes_of(chunk: Tensor, surroundings: Surroundings, memory: PotentialMemory) -> float:
    """Bytes that the stage takes that takes most."""
    parts: dict[tuple[int, bool], Part] = {}
    largest = 0.0
    for stage in memory.stages:
        kind = (stage.hops, stage.both_ways)
        if kind not in parts:
            parts[kind] = surroundings.part(chunk, stage.hops, both_ways=stage.both_ways)
        part = parts[kind]
        num_edges = len(part.edges)
        if stage.padded:
            num_edges = len(part.atoms) * surroundings.most_neighbours
        largest = max(largest, stage.model.bytes(len(part.atoms), num_edges))
    return largest
