"""What a potential sees of a structure: atoms, cell and the directed edges between neighbours.

An edge (j → i) carries the displacement r_ij = r_j + n·h - r_i from the receiving atom i to the image n of the sending
atom j, where the rows of h are the cell vectors. Every energy below is a function of these displacements, hence

    F_i = Σ_{edges into i} ∂E/∂r_ij - Σ_{edges out of i} ∂E/∂r_ij        stress = (1/V) Σ_edges r_ij ⊗ ∂E/∂r_ij .
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols
from torch import Tensor
from torch_geometric.data import Batch, Data

from sciml.neighbors import VerletList, are_dependent, neighbor_list

# Below this distance (Å) direction and distance of a pair stop changing, which keeps their derivatives finite.
SHORTEST = 1e-6


class AtomicGraph(Data):
    """One structure, or a batch of them, as a graph.

    `graph.to(device)` moves it and never converts: the geometry stays float64, a model casts the edge vectors, whose
    rounding is relative to the distance, not positions, whose rounding grows with the size of the structure.

    Attributes:
        positions: (atoms, 3), Å, float64 whatever the model's dtype.
        atomic_numbers: (atoms,), int64.
        cell: (systems, 3, 3), Å, float64, rows are the cell vectors; only those of periodic axes mean anything.
        pbc: (systems, 3), bool.
        edge_index: (2, edges), int64; row 0 sender, row 1 receiver, sorted by receiver.
        edge_shifts: (edges, 3), float64; whole numbers n of the periodic image of the sender.
        batch: (atoms,), int64, the system of each atom; absent for a single structure.
        energy: (systems,), eV; forces: (atoms, 3), eV/Å; stress: (systems, 3, 3), eV/Å³. Labels, NaN where missing;
            absent if the structure was not labelled.
        max_degree: bound on the edges into an atom, padding apart; present where nothing may wait for the device to
            count them (`sciml.packed`), and then `max_atoms` is, on the atoms of a system.
    """

    def __cat_dim__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        return 1 if key == "edge_index" else 0

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        return self.num_nodes if key == "edge_index" else 0

    @property
    def num_systems(self) -> int:
        """Number of structures."""
        return self.cell.shape[0]

    @property
    def system_index(self) -> Tensor:
        """System of each atom, (atoms,)."""
        batch = self.get("batch")
        return self.atomic_numbers.new_zeros(self.num_nodes) if batch is None else batch

    def edge_vectors(self) -> Tensor:
        """Displacements r_ij = r_j + n·h - r_i, (edges, 3), Å."""
        senders, receivers = self.edge_index
        vectors = self.positions[senders] - self.positions[receivers]
        if self.num_systems == 1:
            return vectors + self.edge_shifts @ self.cell[0]
        cells = self.cell[self.system_index[receivers]]  # (edges, 3, 3)
        return vectors + torch.einsum("ea,eab->eb", self.edge_shifts, cells)

    def volumes(self) -> Tensor:
        """Cell volumes, (systems,), Å³, positive for either handedness; NaN unless all three axes are periodic."""
        a, b, c = self.cell.unbind(dim=1)  # (systems, 3)
        # The triple product: linalg.det takes ten times as long on a few 3 x 3 matrices.
        volumes = (a * torch.linalg.cross(b, c)).sum(dim=1).abs()
        return torch.where(self.pbc.all(dim=1), volumes, torch.nan)


def polar(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Lengths (edges,) and directions (edges, 3) of vectors (edges, 3)."""
    lengths = vectors.square().sum(dim=1).clamp_min(SHORTEST**2).sqrt()
    return lengths, vectors / lengths[:, None]


def graph_from_atoms(atoms: Atoms, cutoff: float, *, neighbors: VerletList | None = None) -> AtomicGraph:
    """Build the graph of `atoms` with every pair of images closer than `cutoff`; labels are not read.

    The graph shares no memory with `atoms`.

    Args:
        atoms: positions in Å anywhere, inside the cell or not.
        cutoff: Å, strict.
        neighbors: a list to reuse along a trajectory instead of building a new one; the graph is the same.

    Raises:
        ValueError: if `check_structure` does, two atoms are at the same point (where r/|r|, and with it any force, is
            undefined), the cutoff is not positive, or `neighbors` has another cutoff.
    """
    check_structure(atoms)
    positions = np.array(atoms.positions, dtype=np.float64)
    cell = np.array(atoms.cell.array, dtype=np.float64)
    pbc = np.array(atoms.pbc, dtype=bool)
    if neighbors is None:
        edge_index, edge_shifts = neighbor_list(positions, cell, pbc, cutoff)
    elif neighbors.cutoff != cutoff:
        raise ValueError(f"got a neighbour list with the cutoff {neighbors.cutoff} Å for a graph with {cutoff} Å")
    else:
        edge_index, edge_shifts = neighbors.update(positions, cell, pbc)
    device = edge_index.device
    graph = AtomicGraph(
        positions=torch.from_numpy(positions).to(device),
        atomic_numbers=torch.from_numpy(atoms.numbers.astype(np.int64)).to(device),
        cell=torch.from_numpy(cell)[None].to(device),
        pbc=torch.from_numpy(pbc)[None].to(device),
        edge_index=edge_index,
        edge_shifts=edge_shifts,
        num_nodes=len(atoms),
    )
    check_edges(graph)
    return graph


def check_structure(atoms: Atoms) -> None:
    """Raise a ValueError that names the atom or the axis if no graph can be built of `atoms`."""
    if len(atoms) == 0:
        raise ValueError("got a structure without atoms; a potential needs at least one atom")
    finite = np.isfinite(atoms.positions).all(axis=1)
    if not finite.all():
        atom = int(np.flatnonzero(~finite)[0])
        raise ValueError(
            f"atom {atom} ({atoms.symbols[atom]}) has the position {atoms.positions[atom]}; positions must be finite "
            "(a simulation that blew up? try a shorter time step)"
        )
    if not np.isfinite(atoms.cell.array).all():
        raise ValueError(f"the cell {atoms.cell.array.tolist()} is not finite")
    for axis in np.flatnonzero(atoms.pbc):
        if not atoms.cell.array[axis].any():
            raise ValueError(
                f"axis {axis} ('{'abc'[axis]}') is periodic but its cell vector is zero; "
                "set atoms.cell, or atoms.pbc to False on this axis"
            )
    if are_dependent(atoms.cell.array[atoms.pbc]):
        axes = "".join("abc"[axis] for axis in np.flatnonzero(atoms.pbc))
        raise ValueError(
            f"the cell vectors of the periodic axes '{axes}' are linearly dependent, "
            f"the cell {atoms.cell.array.tolist()} has no volume; set atoms.cell, or atoms.pbc to False on one of them"
        )


def check_edges(graph: AtomicGraph) -> None:
    """Raise a ValueError that names the atoms if two atoms, or an atom and an image, are at the same point."""
    coincident = torch.nonzero((graph.edge_vectors() == 0).all(dim=1))
    if len(coincident):
        edge = coincident[0, 0]
        sender, receiver = graph.edge_index[:, edge].tolist()
        image = graph.edge_shifts[edge].to(torch.int64).tolist()
        raise ValueError(
            f"atom {receiver} and atom {sender} (image {image}) are at the same point, where no force is defined; "
            "remove one of them or move them apart"
        )


def check_species(atomic_numbers: Iterable[int] | Tensor, species: Sequence[int]) -> None:
    """Raise a ValueError that names the first atom whose element is not among `species` (atomic numbers)."""
    numbers = torch.as_tensor(atomic_numbers)
    known = torch.isin(numbers, torch.as_tensor(species, dtype=numbers.dtype, device=numbers.device))
    if not known.all():
        atom = int(torch.nonzero(~known)[0])
        raise ValueError(
            f"atom {atom} is {_symbol(int(numbers[atom]))}, which this potential does not know; "
            f"it knows {', '.join(map(_symbol, species))}"
        )


def _symbol(number: int) -> str:
    return chemical_symbols[number] if 0 < number < len(chemical_symbols) else f"of atomic number {number}"


def collate(graphs: Sequence[AtomicGraph]) -> AtomicGraph:
    """Join graphs into one disconnected graph; atoms and edges keep their order, so edges stay sorted by receiver.

    Args:
        graphs: single structures, all with the same attributes. A missing label is NaN, not an absent attribute.

    Raises:
        ValueError: if there is no graph, one is a batch already, or their attributes differ.
    """
    graphs = list(graphs)
    if not graphs:
        raise ValueError("got no graphs to join; a batch needs at least one")
    contents = [graph.to_dict() for graph in graphs]
    names = contents[0].keys()
    for index, content in enumerate(contents):
        if "batch" in content or len(content["cell"]) != 1:
            raise ValueError(
                f"graph {index} is a batch of {graphs[index].num_systems} structures; expected single structures"
            )
        if content.keys() != names:
            different = ", ".join(sorted(names ^ content.keys()))
            raise ValueError(
                f"graphs 0 and {index} differ in having {different}; give all graphs of a batch the same labels, "
                "NaN where one is missing"
            )
    parts = {name: [content[name] for content in contents] for name in names if name != "num_nodes"}
    if not all(isinstance(value, Tensor) and value.ndim for values in parts.values() for value in values):
        return Batch.from_data_list(graphs)  # a user's own attributes, which torch-geometric knows how to join

    # What Batch.from_data_list does, in a third of its time, which counts at every step of a training.
    num_nodes = [len(numbers) for numbers in parts["atomic_numbers"]]
    device = parts["atomic_numbers"][0].device
    offsets = _offsets(num_nodes)
    batch = Batch(_base_cls=AtomicGraph)
    slices: dict[str, Tensor] = {}
    for name, values in parts.items():
        axis = 1 if name == "edge_index" else 0
        batch[name] = torch.cat(values, dim=axis)
        slices[name] = _offsets([value.shape[axis] for value in values])
    moved = offsets[:-1].repeat_interleave(slices["edge_index"].diff(), output_size=batch.edge_index.shape[1])
    batch.edge_index += moved.to(device)  # new memory, made by cat
    batch.batch = torch.arange(len(graphs)).repeat_interleave(offsets.diff(), output_size=sum(num_nodes)).to(device)
    batch.ptr = offsets.to(device)
    batch.num_nodes = sum(num_nodes)
    # From these torch-geometric takes a batch apart again.
    zeros = torch.zeros(len(graphs), dtype=torch.int64)
    batch._num_graphs = len(graphs)
    batch._slice_dict = slices
    batch._inc_dict = {name: offsets[:-1] if name == "edge_index" else zeros for name in parts}
    batch._store._num_nodes = num_nodes
    return batch


def _offsets(sizes: Sequence[int]) -> Tensor:
    """Sums of the sizes before each, and of all, (sizes + 1,), int64."""
    return torch.tensor([0, *itertools.accumulate(sizes)])
