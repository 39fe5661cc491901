"""A softmax over neighbours that does not notice when one enters or leaves."""

import torch
from torch import Tensor


def smooth_softmax(logits: Tensor, weights: Tensor, receivers: Tensor, num_nodes: int) -> Tensor:
    """α_e = w_e exp(a_e) / ( 1 + Σ_{e' of the same receiver} w_{e'} exp(a_{e'}) ), (edges, heads).

    Args:
        logits: a, (edges, heads).
        weights: w, (edges,), of an envelope: an edge whose weight vanishes changes nothing.
        receivers: (edges,).
        num_nodes: number of atoms.
    """
    index = receivers[:, None].expand_as(logits)
    # Any number may be subtracted from logits and from the logarithm of 1; the largest keeps powers finite.
    largest = logits.detach().new_zeros(num_nodes, logits.shape[1]).scatter_reduce(0, index, logits.detach(), "amax")
    powers = weights[:, None] * torch.exp(logits - largest[receivers])
    total = torch.exp(-largest).index_add(0, receivers, powers)
    return powers / total[receivers]
