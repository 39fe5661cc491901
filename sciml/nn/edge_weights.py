"""How much each neighbour counts, decided by attention, for products that say what it contributes."""

from torch import Tensor, nn

from sciml.nn.activations import GELU, RMSNorm
from sciml.nn.soft_neighbours import Slots


class EdgeWeights(nn.Module):
    """α_ij^h = n̄ exp(a_ij^h + u_ij) / Σ_k exp(a_ik^h + u_ik),    a = W GELU(W RMSNorm(e) + b)

    for each edge (j → i) and head h, over the slots k of atom i, itself included: a softmax whose weights are one on
    average over the neighbours, and vanish smoothly with the envelope exp(u).

    Args:
        channels: of the features e of slots.
        num_heads: h.
        average_num_neighbors: n̄.
    """

    def __init__(self, channels: int, num_heads: int, *, average_num_neighbors: float) -> None:
        super().__init__()
        self.scale = average_num_neighbors
        self.logits = nn.Sequential(
            RMSNorm(channels), nn.Linear(channels, channels), GELU(), nn.Linear(channels, num_heads)
        )

    def forward(self, of_slots: Tensor, slots: Slots, log_envelope: Tensor) -> Tensor:
        """Weights (edges, heads); zero for edges without a slot.

        Args:
            of_slots: e, (atoms, slots, channels).
            slots: which edge is in which.
            log_envelope: u, (atoms, slots), of the dtype of e.
        """
        logits = self.logits(of_slots) + log_envelope[:, :, None]
        return slots.edges_of(self.scale * logits.softmax(dim=1))


def weighted_basis(basis: Tensor, weights: Tensor) -> Tensor:
    """α_ij^h b_k(r_ij) for all h and k, (edges, heads · functions).

    Weights of a tensor product that are linear in these are sums of splines, one for each head, which attention turns
    up and down: a convolution that forms its weights from radial functions takes them as they are.
    """
    return (weights[:, :, None] * basis[:, None, :]).flatten(1)
