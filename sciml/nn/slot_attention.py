"""A block of attention among the slots of each atom's neighbourhood, and the attributes of the slots that feed it."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sciml.nn.activations import GELU, RMSNorm, gelu
from sciml.nn.feed_forward import FeedForward, without_biases
from sciml.nn.neighbourhood_attention import default_scale, neighbourhood_attention

ORDERS = ("plain", "strang")

# Share of the channels of a head for l = 0 … 4: 20, 10, 4, 10 and 20 of 64, arXiv:2410.24169.
_ANGULAR_SHARES = (20 / 64, 10 / 64, 4 / 64, 10 / 64)


class Neighbourhood(NamedTuple):
    """What is known of atoms and slots before any learning.

    Attributes:
        species: (atoms,), index of the element.
        bond_order: (atoms, degrees).
        radial: (atoms, slots, radial functions).
        sender: (atoms, slots), the atom in each slot.
        directions: (atoms, slots, 3), unit vectors; zero for the atom itself and where a slot is empty.
        log_envelope: (atoms, slots), −∞ where a slot is empty.
    """

    species: Tensor
    bond_order: Tensor
    radial: Tensor
    sender: Tensor
    directions: Tensor
    log_envelope: Tensor


class AttributeSizes(NamedTuple):
    """Sizes of the attributes: numbers of what comes in, and channels of what is made of it."""

    num_species: int
    num_radial: int
    num_bond_orders: int
    radial_channels: int
    species_channels: int
    bond_order_channels: int


class AtomAttributes(nn.Module):
    """[ embedding of the element | GELU(W q) of the bond-orientational order ], (atoms, channels)."""

    def __init__(self, sizes: AttributeSizes) -> None:
        super().__init__()
        self.embedding = nn.Embedding(sizes.num_species, sizes.species_channels)
        nn.init.uniform_(self.embedding.weight, -0.001, 0.001)
        self.bond_order = without_biases(nn.Linear(sizes.num_bond_orders, sizes.bond_order_channels))

    def forward(self, neighbourhood: Neighbourhood) -> Tensor:
        """Attributes of all atoms."""
        return torch.cat(
            [self.embedding(neighbourhood.species), gelu(self.bond_order(neighbourhood.bond_order))], dim=1
        )


class EdgeAttributes(nn.Module):
    """RMSNorm( GELU( W [ radial | of the sender | of the receiver ] ) ), (atoms, slots, channels).

    W is applied to the parts: of the atoms before they are copied into slots.

    Args:
        sizes: of the parts.
        channels: of the result.
    """

    def __init__(self, sizes: AttributeSizes, channels: int) -> None:
        super().__init__()
        of_atom = sizes.species_channels + sizes.bond_order_channels
        self.radial = without_biases(
            nn.Sequential(
                nn.Linear(sizes.num_radial, sizes.radial_channels),
                GELU(),
                nn.Linear(sizes.radial_channels, channels),
            )
        )
        self.sender = nn.Sequential(AtomAttributes(sizes), nn.Linear(of_atom, channels, bias=False))
        self.receiver = nn.Sequential(AtomAttributes(sizes), nn.Linear(of_atom, channels, bias=False))
        self.norm = RMSNorm(channels)

    def forward(self, neighbourhood: Neighbourhood) -> Tensor:
        """Attributes of all slots."""
        total = self.radial(neighbourhood.radial)
        total = total + self.sender(neighbourhood)[neighbourhood.sender]
        return self.norm(gelu(total + self.receiver(neighbourhood)[:, None]))


class AttentionBlock(nn.Module):
    """Attention among the slots of each atom, then a feed-forward network of atoms and of slots; residual, pre-norm.

        m = RMSNorm(GELU( W [ a , GELU(W e) , GELU(W [h_j, h_i]) ] )),    q, k, v = W m
        e ← e + W attention(q, k, v),    h ← h + the same in the slot of the atom itself

    with the attributes a of the slots, and features h of atoms and e of slots through RMSNorm. The order "strang" puts
    half a step of a feed-forward network before the attention and half a step after it, which is how a splitting of
    second order composes two flows (Strang, SIAM J. Numer. Anal. 5, 506 (1968); for transformers: Lu et al.,
    arXiv:1906.02762).

    Args:
        sizes: of the attributes.
        channels: of h and e.
        num_heads: of the attention.
        order: "plain" or "strang".
        slots_go_on: whether anything follows that needs the features of slots; if not, they are returned as they came,
            and only the atom itself attends to its neighbours.
        angular: whether logits depend on the angles between neighbours.
    """

    def __init__(
        self,
        sizes: AttributeSizes,
        channels: int,
        *,
        num_heads: int,
        order: str,
        slots_go_on: bool,
        angular: bool = True,
    ) -> None:
        super().__init__()
        self.num_heads, self.slots_go_on, self.step = num_heads, slots_go_on, 1.0 if order == "plain" else 0.5
        self.groups = angular_groups(channels // num_heads) if angular else [channels // num_heads]
        self.norm_atoms, self.norm_slots = RMSNorm(channels), RMSNorm(channels)
        self.attributes = EdgeAttributes(sizes, channels)
        self.sender = nn.Linear(channels, channels)
        self.receiver = nn.Linear(channels, channels, bias=False)
        self.slot = nn.Linear(channels, channels)
        self.message = nn.Sequential(nn.Linear(3 * channels, channels), GELU(), RMSNorm(channels))
        self.query = nn.Linear(channels, channels)
        self.key_and_value = nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(channels, channels)
        hidden = 2 * channels if order == "plain" else channels
        streams = 2 if slots_go_on else 1
        self.after = nn.ModuleList(_normed(channels, hidden) for _ in range(streams))
        self.before = nn.ModuleList(_normed(channels, hidden) for _ in range(2 if order == "strang" else 0))
        without_biases(self)

    def forward(self, atoms: Tensor, slots: Tensor, neighbourhood: Neighbourhood) -> tuple[Tensor, Tensor]:
        """Update features of atoms (atoms, channels) and of slots (atoms, slots, channels)."""
        if self.before:
            atoms, slots = (x + self.step * part(x) for x, part in zip((atoms, slots), self.before, strict=True))
        h = self.norm_atoms(atoms)
        pair = gelu(self.sender(h)[neighbourhood.sender] + self.receiver(h)[:, None])
        parts = [self.attributes(neighbourhood), gelu(self.slot(self.norm_slots(slots))), pair]
        message = self.message(torch.cat(parts, dim=2))
        if not self.slots_go_on:
            atoms = atoms + self.out(self._attend_from_itself(message, neighbourhood.log_envelope))
            return atoms + self.step * self.after[0](atoms), slots
        update = self.out(self._attend(message, neighbourhood))
        atoms, slots = atoms + update[:, 0], slots + update
        return atoms + self.step * self.after[0](atoms), slots + self.step * self.after[1](slots)

    def _attend(self, message: Tensor, neighbourhood: Neighbourhood) -> Tensor:
        heads = (self.num_heads, -1)
        k, v = self.key_and_value(message).chunk(2, dim=2)
        out = neighbourhood_attention(
            self.query(message).unflatten(2, heads),
            k.unflatten(2, heads),
            v.unflatten(2, heads),
            neighbourhood.log_envelope,
            neighbourhood.directions if len(self.groups) > 1 else None,
            groups=self.groups,
        )
        return out.flatten(2)

    def _attend_from_itself(self, message: Tensor, log_envelope: Tensor) -> Tensor:
        """`_attend` in slot 0, (atoms, channels): it has no direction, and with it only the groups of l = 0."""
        heads = (self.num_heads, -1)
        k, v = (x.unflatten(2, heads) for x in self.key_and_value(message).chunk(2, dim=2))
        q = self.query(message[:, 0]).unflatten(1, heads)
        first = self.groups[0]
        logits = (
            default_scale(self.groups) * torch.einsum("nhc,nshc->nhs", q[..., :first], k[..., :first])
            + log_envelope[:, None]
        )
        return torch.einsum("nhs,nshc->nhc", logits.softmax(dim=2), v).flatten(1)


def angular_groups(channels: int) -> list[int]:
    """Channels of a head for l = 0 … 4, which sum to `channels`.

    >>> angular_groups(64)
    [20, 10, 4, 10, 20]
    """
    groups = [max(1, round(share * channels)) for share in _ANGULAR_SHARES]
    return [*groups, channels - sum(groups)]


def _normed(channels: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(RMSNorm(channels), FeedForward(channels, hidden))
