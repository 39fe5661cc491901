"""Neighbourhoods of about K atoms that change smoothly as atoms move, ranked inside a list of all within the cutoff."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sciml.nn.radial import envelope

# Numbers whose envelope is below every dtype's precision: exp(−x²/(1 − x²)) < 1e-300.
_FARTHEST = 0.9985


class Slots(NamedTuple):
    """Neighbours of each atom in a fixed number of slots, the atom itself in slot 0.

    Attributes:
        edges: (atoms, slots), int64, the edge in each slot; the number of edges where there is none, and in slot 0.
        log_envelope: u, (atoms, slots), of the dtype of the distances: 0 in slot 0, −∞ where there is no edge.
        envelope: exp(u) of each edge, (edges,); zero for those without a slot.
    """

    edges: Tensor
    log_envelope: Tensor
    envelope: Tensor

    def fill(self, values: Tensor) -> Tensor:
        """Put values of edges, (edges, ...), into the slots, (atoms, slots, ...); zeros where there is no edge."""
        return _fill(self.edges, values)

    def edges_of(self, values: Tensor) -> Tensor:
        """Put values of slots, (atoms, slots, ...), back to the edges, (edges, ...); zeros for those without a slot."""
        flat = values.flatten(0, 1)
        zeros = flat.new_zeros(len(self.envelope) + 1, *flat.shape[1:])
        return zeros.index_copy(0, self.edges.flatten(), flat)[:-1]

    def atoms(self, senders: Tensor) -> Tensor:
        """The atom in each slot, (atoms, slots); atom i where its slot is empty."""
        own = torch.arange(len(self.edges), device=senders.device)[:, None].expand_as(self.edges)
        empty = self.edges == len(senders)
        return torch.where(empty, own, self.fill(senders))


def soft_neighbours(
    distances: Tensor,
    edge_index: Tensor,
    reverse: Tensor | None,
    num_nodes: int,
    *,
    cutoff: float,
    num_neighbours: int | None,
    rank_width: float = 0.2,
    maximum_width: float = 0.1,
    max_degree: int | None = None,
) -> Slots:
    """Give each atom the neighbours whose envelope coordinate x is below 1, both ways: i has j if and only if j has i.

        x_ij = t log[ exp(ρ_i(j) / (K t)) + exp(ρ_j(i) / (K t)) + exp(d_ij / (r_c t)) ] ,        u_ij = −x² / (1 − x²)

    a smooth maximum of the normalised distance and of the two normalised ranks; ρ_i(j) is the soft rank of j among the
    neighbours of i,

        ρ_i(j) = Σ_k c(d_ik) σ( (d_ij − d_ik) / s ) ,        c(d) = exp(−y² / (1 − y²)), y = d / r_c .

    The published rank counts every atom in full, or, to save memory, the first ones in order; here an atom counts by
    an envelope that vanishes at the cutoff with all derivatives, so that x and every function of the slots that is
    weighted by exp(u) is smooth whatever enters or leaves. Nothing is ever cut off: the number of slots is that of the
    largest neighbourhood.

    Args:
        distances: d, (edges,), Å, below the cutoff.
        edge_index: (2, edges), sorted by receiver.
        reverse: (edges,), the edge that goes the other way, of `reverse_edges`; not needed without `num_neighbours`.
        num_nodes: number of atoms.
        cutoff: r_c, Å.
        num_neighbours: K; None for all within the cutoff (x = d / r_c).
        rank_width: s, Å.
        maximum_width: t.
        max_degree: most edges of a receiver, if it is known: then nothing waits for the device. Edges beyond it, which
            only padding has, get no slot.

    Returns:
        Slots in the order of the edges, as many as the largest neighbourhood needs, or, with `max_degree`, one for
        every edge, kept or not; rounded up to a multiple of 8.

    Source: EScAIP, arXiv:2410.24169, whose graph is that of arXiv:2410.24169's code ("biknn").
    """
    receivers = edge_index[1]
    x = distances / cutoff
    if num_neighbours is not None and reverse is not None and len(distances):
        rank = _soft_ranks(distances, receivers, num_nodes, cutoff=cutoff, width=rank_width, max_degree=max_degree)
        terms = torch.stack([rank / num_neighbours, rank[reverse] / num_neighbours, x])
        x = maximum_width * torch.logsumexp(terms / maximum_width, dim=0)
    kept = x.detach() < _FARTHEST
    # All have a place where the number of slots is known: which place does not depend on how x is rounded then, so that
    # features of slots can be kept between the stages of an evaluation.
    place = _places(receivers, num_nodes, kept if max_degree is None else None)
    most = _most(place + kept, max_degree)
    num_slots = 8 * -(-(most + 1) // 8)
    edges = torch.full((num_nodes * num_slots + 1,), len(distances), device=distances.device)
    has_slot = kept & (place + 1 < num_slots)
    where = torch.where(has_slot, receivers * num_slots + place + 1, len(edges) - 1)
    edges = edges.index_copy(0, where, torch.arange(len(distances), device=distances.device))
    edges = edges[:-1].view(num_nodes, num_slots)
    squared = x.clamp_max(_FARTHEST).square()
    of_edges = -squared / (1 - squared)
    empty = edges == len(distances)
    empty[:, 0] = False
    log_envelope = _fill(edges, of_edges).masked_fill(empty, -math.inf)
    return Slots(edges, log_envelope, torch.where(kept, of_edges.exp(), 0))


def _places(receivers: Tensor, num_nodes: int, counted: Tensor | None = None) -> Tensor:
    """How many edges come before each one with the same receiver, (edges,), of receivers in ascending order.

    Only those that are `counted`, (edges,), bool, if given.
    """
    if counted is None:
        before = torch.arange(len(receivers) + 1, device=receivers.device)
    else:
        before = torch.cat([counted.new_zeros(1, dtype=torch.int64), counted.cumsum(0)])
    starts = torch.searchsorted(receivers, torch.arange(num_nodes, device=receivers.device))
    return before[:-1] - before[starts][receivers]


def _most(numbers: Tensor, known: int | None) -> int:
    if known is not None:
        return known
    return int(numbers.max()) if len(numbers) else 0


def _fill(edges: Tensor, values: Tensor) -> Tensor:
    padded = torch.cat([values, values.new_zeros(1, *values.shape[1:])])
    return padded.index_select(0, edges.flatten()).unflatten(0, edges.shape)


def _soft_ranks(
    distances: Tensor, receivers: Tensor, num_nodes: int, *, cutoff: float, width: float, max_degree: int | None
) -> Tensor:
    """ρ of each edge among those of its receiver, (edges,); atoms × (largest number of neighbours)² numbers."""
    place = _places(receivers, num_nodes)
    most = _most(place + 1, max_degree)
    # One number more, for the edges that have no place.
    where = torch.where(place < most, receivers * most + place, num_nodes * most)
    empty = distances.new_zeros(num_nodes * most + 1)
    rows, weights = (
        empty.index_copy(0, where, values)[:-1].view(num_nodes, most)
        for values in (distances, envelope(distances / cutoff))
    )  # (atoms, neighbours)
    closer = torch.sigmoid((rows[:, :, None] - rows[:, None, :]) / width)  # of each k before each j
    ranks = (closer @ weights[:, :, None]).flatten()
    return torch.cat([ranks, ranks.new_zeros(1)])[where]


def reverse_edges(edge_index: Tensor, edge_shifts: Tensor, num_nodes: int, *, check: bool = True) -> Tensor:
    """For each edge (j → i, image n) the edge (i → j, image −n), (edges,).

    Args:
        edge_index: (2, edges).
        edge_shifts: (edges, 3), whole numbers.
        num_nodes: number of atoms.
        check: whether to look that each has one; if not, those that have none get any.

    Raises:
        ValueError: if there are edges without a reverse, and they are looked for.
    """
    senders, receivers = edge_index
    if not len(senders):
        return senders.clone()
    images = edge_shifts.to(torch.int64)
    reach = images.abs().max()
    base = 2 * reach + 1

    def number(a: Tensor, b: Tensor, n: Tensor) -> Tensor:
        code = a * num_nodes + b
        for axis in range(3):
            code = code * base + n[:, axis] + reach
        return code

    ahead, back = number(senders, receivers, images), number(receivers, senders, -images)
    sorted_ahead, order = ahead.sort()
    found = torch.searchsorted(sorted_ahead, back).clamp_max(len(order) - 1)
    if check and not bool((sorted_ahead[found] == back).all()):
        raise ValueError("got edges of which some have no reverse; a neighbour list has each pair both ways")
    return order[found]
