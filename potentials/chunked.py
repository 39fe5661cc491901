"""Energies, forces and stress of a structure in chunks of atoms: the same numbers in less memory.

The energy of an atom depends on its surroundings only. Each stage of a potential (`Potential.stages`) is a function of
the values v of the stage before and of the edge vectors r within a few hops of each atom, and is evaluated for one
chunk of atoms after the other, each with its surroundings. What a chunk computes on the way is forgotten; only the
values between stages are kept. The gradient goes back the same way, the adjoints of stage s being

    v̄ = Σ_chunks ( ∂v_{s+1}[chunk] / ∂v_s )ᵀ v̄_{s+1}[chunk]
    r̄ = Σ_stages Σ_chunks ( ∂v_{s+1}[chunk] / ∂r )ᵀ v̄_{s+1}[chunk]

with v̄ = 1 for the atomic energies. Forces and stress follow from r̄ = ∂E/∂r as in an evaluation of the whole, exactly:
chunks change the order of sums, nothing else.

A potential of layers evaluates every stage but the last twice, and its chunks overlap by one cutoff, or by two where
neighbours are ranked. One that is a single stage evaluates nothing twice, but its chunks overlap by all its hops: where
these reach across the structure, chunks save nothing.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sciml.graphs import AtomicGraph, check_species
from sciml.potentials.committee import Committee
from sciml.potentials.interface import Potential, PotentialOutput, Stage, forces_and_stress
from sciml.potentials.memory import give_back
from sciml.potentials.surroundings import Surroundings

Values = tuple[Tensor, ...]


def check_divisible(potential: Potential) -> None:
    """Raise a ValueError if the potential cannot be evaluated in chunks."""
    if not potential.conservative:
        raise ValueError(
            f"{type(potential).__name__} predicts forces that are no gradient of its energy and corrects them over the "
            "whole structure, so it cannot be evaluated in chunks of atoms; use one with forces='gradient', or leave "
            "out max_memory"
        )
    potential.stages()  # raises if it does not say how far it sees


def evaluate_in_chunks(potential: Potential, graph: AtomicGraph, chunks: Sequence[Tensor]) -> PotentialOutput:
    """What `potential(graph)` returns, up to the rounding of sums.

    Args:
        potential: in evaluation mode; a `Committee` is evaluated member by member.
        graph: of one structure.
        chunks: atoms of each chunk, ascending, (chunk atoms,); every atom is in one of them. The smaller and the more
            compact, the less memory; the more of them, the more is evaluated twice.

    Raises:
        ValueError: if `potential` does, it is in training mode or cannot be evaluated in chunks, the graph is a batch,
            or the chunks are not a partition of its atoms.
    """
    check_divisible(potential)
    check_species(graph.atomic_numbers, potential.species)
    if potential.training or graph.num_systems != 1:
        what = "a potential in training mode" if potential.training else f"a batch of {graph.num_systems} structures"
        raise ValueError(f"got {what}; chunks are for predicting one structure: call eval(), or use smaller batches")
    count = torch.zeros_like(graph.atomic_numbers)
    for chunk in chunks:
        count[chunk] += 1
    if not bool((count == 1).all()):
        raise ValueError("got chunks that leave out atoms or have them twice; each atom must be in one of them")
    if isinstance(potential, Committee):
        return potential.combine([evaluate_in_chunks(one, graph, chunks) for one in potential.potentials()])  # type: ignore[return-value]
    pieces = Pieces(potential, graph, chunks)
    stages = potential.stages()
    kept: list[Values] = [()]
    for stage in stages[:-1]:
        kept.append(pieces.forward(stage, kept[-1]))
    energies = graph.positions.new_empty(graph.num_nodes)
    adjoints: Values | None = None
    for stage in reversed(stages):
        adjoints = pieces.backward(stage, kept.pop(), adjoints, energies)
    forces, stress = forces_and_stress(graph, pieces.vectors, pieces.gradient)
    return PotentialOutput(energies.sum()[None], energies, forces, stress)


class Pieces:
    """One structure and its chunks: runs a stage on each of them, forward and back.

    Attributes:
        vectors: r, (edges, 3), Å, float64.
        gradient: ∂E/∂r, (edges, 3), eV/Å, of the stages that have been taken back so far.
    """

    def __init__(self, potential: Potential, graph: AtomicGraph, chunks: Sequence[Tensor]) -> None:
        self.surroundings = Surroundings(graph)
        self.chunks = chunks
        self.both_ways = potential.needs_reverse_edges
        self.vectors = graph.edge_vectors()
        self.gradient = torch.zeros_like(self.vectors)

    def forward(self, stage: Stage, values: Values) -> Values:
        """Values after a stage of all atoms."""
        after: Values = ()
        for chunk in self.chunks:
            part = self.surroundings.part(chunk, stage.hops, both_ways=self.both_ways)
            with torch.no_grad():
                found = stage.run(
                    self.surroundings.subgraph(part), self.vectors[part.edges], tuple(v[part.atoms] for v in values)
                )
            if not after:
                after = tuple(v.new_empty(self.surroundings.graph.num_nodes, *v.shape[1:]) for v in found)
            for whole, of_part in zip(after, found, strict=True):
                whole[chunk] = of_part[part.chunk]
            del found
            give_back(chunk.device)
        return after

    def backward(self, stage: Stage, values: Values, adjoints: Values | None, energies: Tensor) -> Values:
        """Adjoints of the `values` before a stage, of the `adjoints` after it; the gradient is added to `gradient`.

        Without adjoints it is the last stage, whose atomic energies go into `energies`.
        """
        before = tuple(torch.zeros_like(v) for v in values)
        for chunk in self.chunks:
            part = self.surroundings.part(chunk, stage.hops, both_ways=self.both_ways)
            vectors = self.vectors[part.edges].requires_grad_()
            inputs = tuple(v[part.atoms].requires_grad_() for v in values)
            with torch.enable_grad():
                found = [v[part.chunk] for v in stage.run(self.surroundings.subgraph(part), vectors, inputs)]
            if adjoints is None:
                energies[chunk] = found[0].detach()
                weights = [torch.ones_like(found[0])]
            else:
                weights = [adjoint[chunk] for adjoint in adjoints]
            # Isolated atoms depend on nothing.
            used = [(v, w) for v, w in zip(found, weights, strict=True) if v.requires_grad]
            if not used:
                continue
            of_vectors, *of_inputs = torch.autograd.grad(
                [v for v, _ in used], [vectors, *inputs], [w for _, w in used], allow_unused=True
            )
            if of_vectors is not None:
                self.gradient.index_add_(0, part.edges, of_vectors)
            for whole, of_part in zip(before, of_inputs, strict=True):
                if of_part is not None:
                    whole.index_add_(0, part.atoms, of_part)
            del found, used, of_vectors, of_inputs, inputs, vectors
            give_back(chunk.device)
        return before
