"""Neighbour lists: all pairs of atoms, periodic images included, that are closer than a cutoff."""

import numpy as np
import torch
from torch import Tensor
from vesin import NeighborList


def neighbor_list(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float) -> tuple[Tensor, Tensor]:
    """Return `(edge_index, edge_shifts)`; edges sorted by receiver. Interim version."""
    calculator = NeighborList(cutoff=cutoff, full_list=True)
    i, j, shifts = calculator.compute(points=positions, box=cell, periodic=pbc, quantities="ijS")
    order = np.lexsort((j, i))
    edge_index = torch.from_numpy(np.stack([j[order], i[order]]).astype(np.int64))
    return edge_index, torch.from_numpy(shifts[order].astype(np.float64))
