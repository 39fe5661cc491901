"""Neighbour lists: every ordered pair of atoms, periodic images included, that are closer than a cutoff.

An edge (j → i, n) joins the receiver i to the image n of the sender j, at the displacement

    r = r_j - r_i + n·h ,    kept if and only if |r| < cutoff (strictly), |r| rounded in float64,

where the rows of h are the cell vectors and n is zero along axes that are not periodic. An atom is joined to its own
images, not to itself (n = 0). Two atoms at one point are neighbours, with r = 0: they are not dropped, so that whoever
reads the graph can see them; the direction r/|r| does not exist there.

vesin (CPU) or nvalchemi-toolkit-ops (CUDA) propose candidates; the distance above decides, always by the same
operations in the same order. Hence a list and its reversed edges agree to the last bit, and so do a fresh list and a
filtered one. The positions n refers to are the given ones, wherever they are; nothing is wrapped for the caller.
"""

import functools
import importlib.util
import logging
import math

import numpy as np
import torch
from torch import Tensor
from vesin import NeighborList

logger = logging.getLogger(__name__)

_MAX_CELLS = 5e4  # vesin coarsens its grid beyond 1e5 cells, and crashes if that leaves an axis without one


def neighbor_list(
    positions: np.ndarray | Tensor, cell: np.ndarray | Tensor, pbc: np.ndarray | Tensor, cutoff: float
) -> tuple[Tensor, Tensor]:
    """All edges shorter than `cutoff`, sorted by receiver, then sender, then shift.

    CUDA positions use nvalchemi-toolkit-ops where it is installed, all others vesin.

    Args:
        positions: (atoms, 3), Å, anywhere; need not be inside the cell.
        cell: (3, 3), Å, rows are the cell vectors; those of axes that are not periodic are ignored.
        pbc: (3,), bool.
        cutoff: Å; may exceed the cell.

    Returns:
        edge_index: (2, edges), int64; row 0 sender, row 1 receiver; on the device of `positions`.
        edge_shifts: (edges, 3), float64; whole numbers n.

    Raises:
        ValueError: if the cutoff is not positive and finite, a shape is wrong, a number is not finite, or the cell
            vectors of the periodic axes are linearly dependent.

    >>> chain = np.diag([2.0, 0.0, 0.0])
    >>> edge_index, edge_shifts = neighbor_list(np.zeros((1, 3)), chain, np.array([True, False, False]), 3.0)
    >>> edge_index.tolist(), edge_shifts[:, 0].tolist()
    ([[0, 0], [0, 0]], [-1.0, 1.0])
    """
    points, rows, periodic = _checked(positions, cell, pbc, cutoff)
    edge_index, edge_shifts = _candidates(points, rows, periodic, cutoff)
    lengths = _squared_lengths(points, rows, edge_index, edge_shifts)
    keep = torch.nonzero(lengths < cutoff**2).flatten()
    return edge_index.index_select(1, keep), edge_shifts.index_select(0, keep)


class VerletList:
    """A neighbour list that is built with a margin, the skin, and reused while it provably contains all edges.

    `update` returns exactly what `neighbor_list` returns: same edges, same order. The list is built with radius
    cutoff + skin at positions r⁰ and cell h⁰, and reused at r, h as long as no pair can have entered. With the
    deformation F (h = h⁰F on the periodic axes) each atom moves by r_i = r_i⁰F + u_i, so that an edge shorter than the
    cutoff now had a length |r⁰| < (cutoff + |u_i| + |u_j|)/σ_min(F) then. The list is therefore complete if

        cutoff + (the two largest |u_i - ū|) ≤ σ_min(F) · (cutoff + skin) .

    Displacements are those of the positions as given, not folded back: an atom that the caller wraps into the cell has
    jumped, its shifts change, and the list is rebuilt. Atoms are told apart by their place only, never by species.

    Args:
        cutoff: Å.
        skin: Å; wider means fewer builds and more candidates to filter at each update. With 0 every update builds.
        device: where the edges are returned and filtered.

    Attributes:
        num_builds: how many times the list was built.

    Raises:
        ValueError: if the cutoff is not positive or the skin negative; `update` raises what `neighbor_list` raises.
    """

    def __init__(self, cutoff: float, *, skin: float = 0.5, device: str | torch.device = "cpu") -> None:
        _check_cutoff(cutoff)
        if not 0 <= skin < math.inf:
            raise ValueError(f"got skin={skin}; expected a length in Å that is not negative (0 rebuilds always)")
        self.cutoff = float(cutoff)
        self.skin = float(skin)
        self.device = torch.device(device)
        self.num_builds = 0
        self._reference: tuple[Tensor, np.ndarray, np.ndarray] | None = None  # positions, cell, pbc of the last build
        self._edge_index = torch.empty(2, 0, dtype=torch.int64)
        self._edge_shifts = torch.empty(0, 3, dtype=torch.float64)

    def update(
        self, positions: np.ndarray | Tensor, cell: np.ndarray | Tensor, pbc: np.ndarray | Tensor
    ) -> tuple[Tensor, Tensor]:
        """Edges (2, edges) and shifts (edges, 3) at these positions: see `neighbor_list`. New tensors at each call."""
        points, rows, periodic = _checked(positions, cell, pbc, self.cutoff)
        points = points.to(self.device)
        edge_index, edge_shifts = self.candidates(points, rows, periodic)
        lengths = _squared_lengths(points, rows, edge_index, edge_shifts)
        keep = torch.nonzero(lengths < self.cutoff**2).flatten()
        return edge_index.index_select(1, keep), edge_shifts.index_select(0, keep)

    def candidates(
        self, positions: np.ndarray | Tensor, cell: np.ndarray | Tensor, pbc: np.ndarray | Tensor
    ) -> tuple[Tensor, Tensor]:
        """All edges of `update`, and those in the skin: the same tensors until `num_builds` changes."""
        points, rows, periodic = _checked(positions, cell, pbc, self.cutoff)
        points = points.to(self.device)
        if not self._complete(points, rows, periodic):
            self._edge_index, self._edge_shifts = neighbor_list(points, rows, periodic, self.cutoff + self.skin)
            self._reference = (points.clone(), rows.copy(), periodic.copy())
            self.num_builds += 1
        return self._edge_index, self._edge_shifts

    def _complete(self, points: Tensor, rows: np.ndarray, periodic: np.ndarray) -> bool:
        """Whether the candidates contain every pair that is now closer than the cutoff."""
        if self._reference is None:
            return False
        points_then, rows_then, periodic_then = self._reference
        if points.shape != points_then.shape or not np.array_equal(periodic, periodic_then):
            return False
        shrinkage = 1.0
        if not np.array_equal(rows[periodic], rows_then[periodic]):
            then, now = rows_then[periodic], rows[periodic]
            deformation = np.eye(3) + np.linalg.pinv(then) @ (now - then)  # then @ F = now for any number of rows
            shrinkage = float(np.linalg.svd(deformation, compute_uv=False)[-1])
            points_then = points_then @ torch.from_numpy(deformation).to(points_then)
        moved = points - points_then
        moved = moved - moved.mean(dim=0)  # a common translation changes no pair
        farthest = float(torch.linalg.vector_norm(moved, dim=1).topk(min(2, len(moved))).values.sum())
        # A strict comparison with room for rounding, which also fails for a skin of zero.
        return self.cutoff + farthest < shrinkage * (self.cutoff + self.skin) - 1e-9


def are_dependent(vectors: np.ndarray) -> bool:
    """Whether these up to three cell vectors (vectors, 3) span less than as many dimensions, to one part in 10⁶."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not lengths.all():
        return True
    return len(vectors) > 0 and bool(np.linalg.svd(vectors / lengths, compute_uv=False)[-1] < 1e-6)


def _checked(
    positions: np.ndarray | Tensor, cell: np.ndarray | Tensor, pbc: np.ndarray | Tensor, cutoff: float
) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Positions as a float64 tensor, cell and pbc as numpy arrays; raises if no list can be built of them."""
    _check_cutoff(cutoff)
    points = torch.as_tensor(positions).detach().to(torch.float64)
    rows = np.asarray(cell.detach().cpu() if isinstance(cell, Tensor) else cell, dtype=np.float64)
    periodic = np.asarray(pbc.cpu() if isinstance(pbc, Tensor) else pbc, dtype=bool)
    if points.ndim != 2 or points.shape[1] != 3 or rows.shape != (3, 3) or periodic.shape != (3,):
        raise ValueError(
            f"got positions {tuple(points.shape)}, cell {rows.shape}, pbc {periodic.shape}; "
            "expected (atoms, 3), (3, 3) and (3,)"
        )
    if not (math.isfinite(float(points.sum())) and np.isfinite(rows).all()):
        raise ValueError("got positions or a cell that are not finite; a neighbour list needs finite numbers")
    return points, rows, periodic


def _check_cutoff(cutoff: float) -> None:
    if not 0 < cutoff < math.inf:
        raise ValueError(f"got cutoff={cutoff}; expected a positive, finite length in Å")


def _squared_lengths(points: Tensor, rows: np.ndarray, edge_index: Tensor, edge_shifts: Tensor) -> Tensor:
    """|r_j - r_i + n·h|², (edges,), Å², by operations whose rounding does not depend on the place in the list."""
    senders, receivers = edge_index
    total = points.new_zeros(len(senders))
    for axis in range(3):
        along = points[:, axis].contiguous()
        component = along.index_select(0, senders).sub_(along.index_select(0, receivers))
        shift = edge_shifts[:, 0] * rows[0, axis]
        shift.add_(edge_shifts[:, 1] * rows[1, axis]).add_(edge_shifts[:, 2] * rows[2, axis])
        component.add_(shift)
        total.add_(component.mul_(component))
    return total


def _candidates(points: Tensor, rows: np.ndarray, periodic: np.ndarray, cutoff: float) -> tuple[Tensor, Tensor]:
    """A sorted list with all edges shorter than `cutoff`, and perhaps a few more."""
    if len(points) == 0:
        return points.new_empty((2, 0), dtype=torch.int64), points.new_empty((0, 3))
    inside, box, wraps = _enclosed(points, rows, periodic, cutoff)
    # Wrapping moved the points by rounding errors: a few units in the last place of the largest number involved.
    search = cutoff + 64 * np.finfo(np.float64).eps * (float(points.abs().max()) + np.abs(box).max() + cutoff)
    if points.is_cuda and _nvalchemi_installed():
        receivers, senders, shifts = _search_nvalchemi(inside, box, periodic, search)
    else:
        receivers, senders, shifts = _search_vesin(inside, box, periodic, search)
    # `shifts` refer to wrapped atoms. Per pair, wrapped and final ones differ by a constant: they sort alike.
    if len(shifts) == 0:
        return points.new_empty((2, 0), dtype=torch.int64), points.new_empty((0, 3))
    low = shifts.amin(dim=0)
    span = (shifts.amax(dim=0) - low + 1).tolist()
    if len(points) ** 2 * math.prod(span) >= 2**63:
        raise ValueError(f"got {len(points)} atoms with up to {span} images; expected fewer: is the cell collapsed?")
    key = receivers * len(points) + senders
    for axis in range(3):
        key = key * span[axis] + (shifts[:, axis] - low[axis])
    order = torch.argsort(key)
    receivers, senders = receivers[order], senders[order]
    edge_shifts = shifts[order].to(torch.float64) - wraps[senders] + wraps[receivers]
    return torch.stack([senders, receivers]), edge_shifts


def _enclosed(
    points: Tensor, rows: np.ndarray, periodic: np.ndarray, cutoff: float
) -> tuple[Tensor, np.ndarray, Tensor]:
    """Points inside a right box with the same close pairs, the box, and the whole cells each point was moved by.

    Along periodic axes the points are wrapped. The other cell vectors are replaced by a normal that spans all points,
    with the empty gaps between them closed to a little more than the cutoff: grids stay small if atoms have flown away.
    """
    lattice = rows[periodic]
    if are_dependent(lattice):
        raise ValueError(
            f"got the cell {rows.tolist()}, periodic along {periodic.tolist()}; the cell vectors of the periodic axes "
            "must be linearly independent and not zero: set the cell, or pbc to False"
        )
    box = rows.copy()
    box[~periodic] = np.linalg.svd(lattice, full_matrices=True)[2][len(lattice) :]
    fractions = points @ torch.from_numpy(np.linalg.inv(box)).to(points)  # (atoms, 3); Å along the normals
    wraps = torch.floor(fractions) * torch.from_numpy(periodic).to(points)
    fractions = fractions - wraps
    for axis in np.flatnonzero(~periodic):
        along, order = fractions[:, axis].sort()
        along = torch.cat([along.new_zeros(1), along.diff().clamp(max=1.01 * cutoff).cumsum(0)]) + cutoff
        length = float(along[-1]) + cutoff
        box[axis] *= length
        fractions[order, axis] = along / length
    return fractions @ torch.from_numpy(box).to(points), box, wraps


def _search_vesin(points: Tensor, box: np.ndarray, periodic: np.ndarray, search: float) -> tuple[Tensor, ...]:
    """Receivers, senders and shifts, int64, of all pairs within `search`."""
    heights = 1 / np.linalg.norm(np.linalg.inv(box), axis=0)
    radius = search
    while True:  # widen the search until coarsening the grid leaves every axis a cell
        counts = np.maximum(np.floor(heights / radius), 1)
        if counts.min() * min(1.0, (_MAX_CELLS / counts.prod()) ** (1 / 3)) >= 1 or radius > 10 * search:
            break
        radius *= 1.1
    if radius > 10 * search:
        raise ValueError(f"the structure measures {heights} Å along its axes: too elongated for a search in cells")
    finder = NeighborList(cutoff=radius, full_list=True, sorted=True, n_threads=1)
    pairs, shifts = finder.compute(points=points.cpu().numpy(), box=box, periodic=periodic, quantities="PS")
    found = torch.from_numpy(pairs.astype(np.int64)).to(points.device)
    return found[:, 0], found[:, 1], torch.from_numpy(shifts.astype(np.int64)).to(points.device)


@functools.cache
def _nvalchemi_installed() -> bool:
    installed = importlib.util.find_spec("nvalchemiops") is not None
    if not installed:  # cached, hence said once
        logger.warning("nvalchemi-toolkit-ops is not installed: neighbour lists are built on the CPU by vesin")
    return installed


def _search_nvalchemi(points: Tensor, box: np.ndarray, periodic: np.ndarray, search: float) -> tuple[Tensor, ...]:
    """Receivers, senders and shifts, int64, of all pairs within `search`, by Warp kernels on the points' device."""
    from nvalchemiops.torch.neighbors import cell_list

    # It reads the cell also along axes that are not periodic: `_enclosed` gives it one that contains all points there.
    cell = torch.from_numpy(box).to(points)[None]
    pbc = torch.from_numpy(periodic).to(points.device)
    capacity = 64
    while True:
        matrix, counts, shifts = cell_list(points, search, cell, pbc, max_neighbors=capacity)
        needed = int(counts.max())
        if needed <= capacity:
            break
        capacity = needed
    used = torch.arange(capacity, device=points.device) < counts[:, None]  # (atoms, capacity)
    receivers = torch.nonzero(used)[:, 0]
    return receivers, matrix[used].to(torch.int64), shifts[used].to(torch.int64)
