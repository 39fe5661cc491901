"""How much memory a potential needs for a structure: a linear model of atoms and edges, measured on small crystals.

    bytes = a + b · atoms + c · edges

is fitted to the peaks of a few evaluations of crystals with tens of atoms that have about as many neighbours as those
of the structure in question. Once measured it is kept for all potentials of the same configuration, dtype and device.
"""

import functools
import json
import math
from typing import NamedTuple

import numpy as np
import torch
from ase import Atoms
from scipy.optimize import nnls

from sciml.graphs import AtomicGraph, graph_from_atoms
from sciml.potentials.checkpoint import potential_dtype
from sciml.potentials.chunked import Pieces, Values
from sciml.potentials.committee import Committee
from sciml.potentials.interface import Potential
from sciml.potentials.memory import peak_memory

# Peak of what the process takes from the system over the peak of its tensors, at most: see `peak_memory`. On CUDA it is
# what the caching allocator cannot use.
MARGIN = {"cpu": 1.7, "cuda": 1.2}


class MemoryModel(NamedTuple):
    """bytes = constant + per_atom · atoms + per_edge · edges, the margin included."""

    constant: float
    per_atom: float
    per_edge: float

    def bytes(self, num_atoms: int, num_edges: int) -> float:
        """Of a structure of this size."""
        return self.constant + self.per_atom * num_atoms + self.per_edge * num_edges


class StageMemory(NamedTuple):
    """Memory of one stage for a chunk of atoms, and what it needs of their surroundings; see `Stage`."""

    hops: int
    both_ways: bool
    padded: bool
    model: MemoryModel


class PotentialMemory(NamedTuple):
    """Memory of a potential.

    Attributes:
        whole: of an evaluation of the whole structure.
        padded: whether `whole` counts as many edges for each atom as the largest neighbourhood has.
        stages: of each stage for one chunk.
        kept_per_atom: bytes that chunks leave behind between stages: values and their adjoints.
    """

    whole: MemoryModel
    padded: bool
    stages: tuple[StageMemory, ...]
    kept_per_atom: float


_measured: dict[str, PotentialMemory] = {}


def memory_of(potential: Potential, degree: float, device: torch.device) -> PotentialMemory:
    """Measure the memory of a potential in evaluation mode, or remember what was measured.

    Args:
        potential: the model on `device`.
        degree: about how many neighbours atoms have; rounded to a power of √2.
        device: where it runs.
    """
    rounded = 2 ** (round(2 * math.log2(max(degree, 4.0))) / 2)
    if isinstance(potential, Committee):  # members are evaluated one after the other
        members = [memory_of(member, degree, device) for member in potential.potentials()]
        largest = max(members, key=lambda one: one.whole.bytes(1000, round(1000 * rounded)))
        stages = tuple(stage for one in members for stage in one.stages)
        return largest._replace(stages=stages, kept_per_atom=max(one.kept_per_atom for one in members))
    needs_gradient = any(parameter.requires_grad for parameter in potential.parameters())
    description = [type(potential).__qualname__, potential.config, str(potential_dtype(potential)), str(device)]
    key = json.dumps([*description, rounded, needs_gradient], sort_keys=True, default=str)
    if key not in _measured:
        _measured[key] = _measure(potential, rounded, device)
    return _measured[key]


def _measure(potential: Potential, degree: float, device: torch.device) -> PotentialMemory:
    probes = [_crystal(potential, layers, d).to(device) for layers in (3, 6) for d in (degree, degree / 2)]
    if device.type == "cuda":  # kernels are compiled, and libraries take their workspaces, at first use
        potential(probes[0])
    margin = MARGIN.get(device.type, 1.2)
    whole = _fit(probes, [peak_memory(functools.partial(potential, probe), device) for probe in probes], margin)
    padded = potential.pads_neighbours
    if not potential.conservative:  # has no stages
        return PotentialMemory(whole, padded, (), 0.0)
    stages = potential.stages()
    peaks: list[list[int]] = [[] for _ in stages]
    kept = 0.0
    for probe in probes:
        everything = torch.arange(probe.num_nodes, device=device)
        pieces = Pieces(potential, probe, [everything])
        values: list[Values] = [()]
        for stage in stages[:-1]:
            values.append(pieces.forward(stage, values[-1]))
        kept = sum(2 * v.nbytes for after in values for v in after) / probe.num_nodes
        energies = probe.positions.new_empty(probe.num_nodes)
        for number, stage in enumerate(stages):
            adjoints = None if number + 1 == len(stages) else tuple(torch.zeros_like(v) for v in values[number + 1])
            run = functools.partial(pieces.backward, stage, values[number], adjoints, energies)
            peaks[number].append(peak_memory(run, device))
    memories = [
        StageMemory(stage.hops, potential.needs_reverse_edges, padded, _fit(probes, of_stage, margin))
        for stage, of_stage in zip(stages, peaks, strict=True)
    ]
    return PotentialMemory(whole, padded, tuple(memories), kept)


def _fit(probes: list[AtomicGraph], peaks: list[int], margin: float) -> MemoryModel:
    """Least squares with no negative term, relative to each peak."""
    sizes = np.array([[1, probe.num_nodes, probe.edge_index.shape[1]] for probe in probes], dtype=float)
    measured = np.maximum(np.array(peaks, dtype=float), 1.0)
    terms, _ = nnls(sizes / measured[:, None], np.ones(len(measured)))
    return MemoryModel(*(margin * terms).tolist())


def _crystal(potential: Potential, layers: int, degree: float) -> AtomicGraph:
    """A jittered cubic lattice of 3 × 3 × `layers` atoms with about `degree` neighbours each."""
    spacing = potential.cutoff * (4 / 3 * math.pi / degree) ** (1 / 3)
    shape = (3, 3, layers)
    sites = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1).reshape(-1, 3)
    jitter = np.random.default_rng(0).uniform(-0.1, 0.1, sites.shape)
    numbers = np.resize(potential.species, len(sites))
    atoms = Atoms(numbers, positions=spacing * (sites + jitter), cell=spacing * np.array(shape), pbc=True)
    return graph_from_atoms(atoms, potential.cutoff)
