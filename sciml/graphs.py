"""What a potential sees of a structure: atoms, cell and the directed edges between neighbours.

An edge (j → i) carries the displacement r_ij = r_j + n·h - r_i from the receiving atom i to the image n of the sending
atom j, where the rows of h are the cell vectors. Every energy below is a function of these displacements, hence

    F_i = Σ_{edges into i} ∂E/∂r_ij - Σ_{edges out of i} ∂E/∂r_ij        stress = (1/V) Σ_edges r_ij ⊗ ∂E/∂r_ij .
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor
from torch_geometric.data import Batch, Data

from sciml.neighbors import neighbor_list


class AtomicGraph(Data):
    """One structure, or a batch of them, as a graph.

    Attributes:
        positions: (atoms, 3), Å, float64 whatever the model's dtype.
        atomic_numbers: (atoms,), int64.
        cell: (systems, 3, 3), Å, rows are the cell vectors; zero where there is none.
        pbc: (systems, 3), bool.
        edge_index: (2, edges), int64; row 0 sender, row 1 receiver, sorted by receiver.
        edge_shifts: (edges, 3), float64; whole numbers n of the periodic image of the sender.
        batch: (atoms,), int64, the system of each atom; absent for a single structure.
        energy: (systems,), eV; forces: (atoms, 3), eV/Å; stress: (systems, 3, 3), eV/Å³. Labels, NaN where missing;
            absent if the structure was not labelled.
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
        """Cell volumes, (systems,), Å³; NaN unless all three axes are periodic."""
        volumes = torch.linalg.det(self.cell).abs()
        return torch.where(self.pbc.all(dim=1), volumes, torch.nan)


def graph_from_atoms(atoms: Atoms, cutoff: float) -> AtomicGraph:
    """Build the graph of `atoms` with every pair of images closer than `cutoff` (Å); labels are not read.

    Raises:
        ValueError: if the structure is empty, a position is not finite, or a periodic axis has no cell vector.
    """
    positions = np.asarray(atoms.positions, dtype=np.float64)
    cell = np.asarray(atoms.cell.array, dtype=np.float64)
    pbc = np.asarray(atoms.pbc, dtype=bool)
    check_structure(atoms)
    edge_index, edge_shifts = neighbor_list(positions, cell, pbc, cutoff)
    return AtomicGraph(
        positions=torch.from_numpy(positions.copy()),
        atomic_numbers=torch.from_numpy(atoms.numbers.astype(np.int64)),
        cell=torch.from_numpy(cell.copy())[None],
        pbc=torch.from_numpy(pbc.copy())[None],
        edge_index=edge_index,
        edge_shifts=edge_shifts,
        num_nodes=len(atoms),
    )


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
    lengths = np.linalg.norm(atoms.cell.array, axis=1)
    for axis in range(3):
        if atoms.pbc[axis] and lengths[axis] == 0:
            raise ValueError(
                f"axis {axis} ('{'abc'[axis]}') is periodic but its cell vector is zero; "
                "set atoms.cell, or atoms.pbc to False on this axis"
            )


def collate(graphs: Sequence[AtomicGraph]) -> AtomicGraph:
    """Join graphs into one disconnected graph; atoms and edges keep their order, so edges stay sorted by receiver."""
    return Batch.from_data_list(list(graphs))
