"""One structure that moves, evaluated by a CUDA graph: one launch for each set of positions."""

import math
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from sciml.graphs import AtomicGraph, check_edges, check_structure, graph_from_atoms
from sciml.neighbors import VerletList
from sciml.packed import Capacity, PackedGraphs
from sciml.potentials.interface import OF_SYSTEMS, Potential
from sciml.recording import Recording

# Share of edges that a size class has more than the structure that made it.
_ROOM = 0.1


class RecordedPotential:
    """A potential on a CUDA device whose evaluation is recorded once for each size class, and then replayed.

    The edges are those of a neighbour list with a skin, which stay the same for many steps: what lies in the skin is
    beyond the cutoff, where a potential is zero. Numbers of atoms and edges are filled up to those of a size class (see
    `sciml.packed`), edges by a tenth: the recording serves until a structure has more of them. Between the arrival of
    positions and that of forces nothing waits for the device.

    Args:
        potential: in evaluation mode, on a CUDA device (on a CPU everything works but the recording).
        skin: Å.

    Attributes:
        neighbors: the list.
        num_recordings: how many times a size class was recorded.
    """

    def __init__(self, potential: Potential, *, skin: float) -> None:
        self.potential = potential
        self.device = next((t.device for t in [*potential.parameters(), *potential.buffers()]), torch.device("cpu"))
        self.neighbors = VerletList(potential.cutoff, skin=skin)
        self.recording = Recording(self._evaluate, self.device, required=True)
        self.num_recordings = 0
        self._listed: tuple[int, Tensor] | None = None
        self._graph: AtomicGraph | None = None
        self._fields: dict[str, tuple[int, ...]] = {}
        self._output = self._output_on_host = torch.empty(0, dtype=torch.float64)

    def __call__(self, atoms: Atoms) -> dict[str, Tensor]:
        """The fields of the potential's output for one structure, as tensors on the CPU: energy (), forces, …

        Raises:
            ValueError: if `check_structure` does, an element is unknown, or two atoms are at the same point.
        """
        check_structure(atoms)
        edge_index, edge_shifts = self.neighbors.candidates(atoms.positions, atoms.cell.array, atoms.pbc)
        numbers = torch.from_numpy(atoms.numbers.astype(np.int64))
        listed = self.neighbors.num_builds
        if self._listed is None or self._listed[0] != listed or not torch.equal(self._listed[1], numbers):
            self._list(atoms, numbers, edge_index, edge_shifts)
            self._listed = (listed, numbers)
        graph, n = self._graph, len(atoms)
        assert graph is not None
        graph.positions[:n].copy_(torch.from_numpy(np.array(atoms.positions, dtype=np.float64)))
        graph.cell[0].copy_(torch.from_numpy(np.array(atoms.cell.array, dtype=np.float64)))
        self.recording.run(1)
        self._output_on_host.copy_(self._output)
        parts = self._output_on_host.split([math.prod(shape) for shape in self._fields.values()])
        found = {
            name: part.view(shape).clone() for (name, shape), part in zip(self._fields.items(), parts, strict=True)
        }
        if float(found.pop("shortest")) == 0:
            check_edges(graph_from_atoms(atoms, self.potential.cutoff))
        return {name: value[0] if name in OF_SYSTEMS else value[:n] for name, value in found.items()}

    def __getstate__(self) -> dict[str, Any]:
        return {"potential": self.potential, "skin": self.neighbors.skin}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["potential"], skin=state["skin"])  # type: ignore[misc]

    def _list(self, atoms: Atoms, numbers: Tensor, edge_index: Tensor, edge_shifts: Tensor) -> None:
        """Put a structure with its edges where the recording looks for it."""
        single = AtomicGraph(
            positions=torch.from_numpy(np.array(atoms.positions, dtype=np.float64)),
            atomic_numbers=numbers,
            cell=torch.from_numpy(np.array(atoms.cell.array, dtype=np.float64))[None],
            pbc=torch.from_numpy(np.array(atoms.pbc, dtype=bool))[None],
            edge_index=edge_index,
            edge_shifts=edge_shifts,
            num_nodes=len(atoms),
        )
        self.potential.check(single)
        packed = PackedGraphs([single], torch.device("cpu"))
        known, needed = self._graph, packed.capacity([[0]], room=_ROOM)
        fits = (
            known is not None
            and known.num_nodes > len(atoms)
            and len(edge_shifts) <= known.num_edges <= 2 * needed.edges
            and packed.max_degree <= known.max_degree
            and len(atoms) <= known.max_atoms
        )
        capacity = Capacity(2, known.num_nodes, known.num_edges) if fits and known is not None else needed
        batch = packed.batch(packed.plan([[0]], capacity).row(torch.zeros(1, dtype=torch.int64)))
        if fits and known is not None:
            for name, value in batch.to_dict().items():
                if isinstance(value, Tensor):
                    known[name].copy_(value)
            return
        batch.max_degree = 8 * math.ceil(packed.max_degree * (1 + 2 * _ROOM) / 8)
        self._graph = batch.to(self.device)
        self._fields = {}
        self.recording.forget()
        self.num_recordings += 1

    def _evaluate(self) -> None:
        assert self._graph is not None
        output = self.potential.evaluate(self._graph)
        lengths = self._graph.edge_vectors().detach().square().sum(dim=1)
        shortest = torch.cat([lengths, lengths.new_ones(1)]).amin()[None]
        fields = {**output._asdict(), "shortest": shortest}
        flat = torch.cat([value.detach().double().flatten() for value in fields.values()])
        if not self._fields:
            self._fields = {name: tuple(value.shape) for name, value in fields.items()}
            self._output = torch.empty_like(flat)
            self._output_on_host = torch.empty(len(flat), dtype=torch.float64, pin_memory=self.device.type == "cuda")
        self._output.copy_(flat)
