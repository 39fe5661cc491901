"""TDN: an attention network like Equiformer whose tensor product is decomposed into few products of numbers.

Lin et al., arXiv:2507.01131. What differs from the published network, and why:

- the tensor product is exact unless a lower rank is asked for, so that the energy does not depend on the orientation;
- all of O(3): irreps of parity (-1)^l, so that mirror images have the same energy;
- weights of the radial network and of the attention end with an envelope, and the softmax has a 1 in its denominator:
  energies and forces are smooth where a neighbour crosses the cutoff;
- atoms without neighbours stay; statistics come from the data; atomic energies are summed.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn
from torch.nn.functional import pad, sigmoid, silu

from sciml.graphs import AtomicGraph, polar
from sciml.messages import check_positive
from sciml.nn.linear import EquivariantLinear, PathLinear, rows_of_blocks
from sciml.nn.norms import BoundedNorm
from sciml.nn.radial import GaussianBasis, envelope
from sciml.nn.smooth_softmax import smooth_softmax
from sciml.nn.spherical_harmonics import SphericalHarmonics
from sciml.potentials.interface import Potential, Stage
from sciml.potentials.species import SpeciesTable
from sciml.tensor_products import TensorProduct, TensorProductProblem, tensor_product
from sciml.tensor_products.backends import read_product
from sciml.tensor_products.rotations import equivariance_error


class TDN(SpeciesTable, Potential):
    """E = Σ_i [ E_ref(Z_i) + s(Z_i) + σ · readout(0e features of atom i) ].

    Features are (atoms, components, channels). They start as an embedding of the element and, for l > 0, of the
    directions of the neighbours; every block attends to the neighbours (`TensorAttention`), and then mixes channels
    (`GatedFeedForward`); both are residual, behind a norm.

    Args:
        species: atomic numbers.
        reference_energies: E_ref, eV, in the order of `species`; kept in float64. None for zeros.
        cutoff: Å.
        channels: channels of each irrep.
        lmax: largest degree of features and harmonics.
        num_blocks: number of blocks; atoms see each other over (num_blocks + 1) · cutoff.
        num_heads: of the attention; they share the channels.
        num_radial: Gaussians of the distance.
        radial_channels: of the radial networks.
        tensor_product: a key of `sciml.tensor_products.BACKENDS`, or a mapping with the key "backend" and, for "cp",
            "rank": "exact", or a number such as the published 7 lmax².
        average_num_neighbors: n̄, by whose root the embedding of directions is divided.
        energy_scale: σ, eV.
        shifts: initial s, eV, in the order of `species`; trained. None for zeros.
        repulsion: whether nuclei repel each other at short range, see `sciml.potentials.repulsion`.

    Raises:
        ValueError: for species that are unknown or repeated, lists of another length, or sizes that do not fit.
    """

    def __init__(
        self,
        *,
        species: Sequence[int],
        reference_energies: Sequence[float] | None = None,
        cutoff: float = 5.0,
        channels: int = 64,
        lmax: int = 2,
        num_blocks: int = 2,
        num_heads: int = 4,
        num_radial: int = 32,
        radial_channels: int = 64,
        tensor_product: str | Mapping[str, Any] = "cp",
        average_num_neighbors: float = 16.0,
        energy_scale: float = 1.0,
        shifts: Sequence[float] | None = None,
        repulsion: bool = False,
    ) -> None:
        super().__init__()
        sizes = {
            "cutoff": float(cutoff),
            "channels": channels,
            "num_blocks": num_blocks,
            "num_heads": num_heads,
            "num_radial": num_radial,
            "radial_channels": radial_channels,
            "average_num_neighbors": average_num_neighbors,
            "energy_scale": energy_scale,
        }
        check_positive(sizes)
        if lmax < 0:
            raise ValueError(f"got lmax={lmax}; it must not be negative")
        if channels % num_heads:
            raise ValueError(f"got {channels} channels for {num_heads} heads; expected as many for each")
        product = read_product(tensor_product)
        if product == {"backend": "cp"}:
            product["rank"] = "exact"
        table = self.register_species(
            species, reference_energies=reference_energies, shifts=shifts, repulsion=repulsion
        )
        self._config: dict[str, Any] = {**table, **sizes, "lmax": lmax, "tensor_product": product}
        self.cutoff, self.energy_scale = float(cutoff), float(energy_scale)
        self.scale = average_num_neighbors**-0.5
        irreps = Irreps([(1, (l, (-1) ** l)) for l in range(lmax + 1)])
        self.embedding = nn.Parameter(torch.randn(len(self.species), channels))
        self.basis = GaussianBasis(cutoff, num_radial)
        self.harmonics = SphericalHarmonics(lmax)
        self.directions = RadialNetwork(num_radial, radial_channels, channels)
        self.blocks = nn.ModuleList(
            TensorBlock(irreps, channels, num_heads, (num_radial, radial_channels), product) for _ in range(num_blocks)
        )
        self.norm = BoundedNorm(irreps, channels)
        self.readout = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, 1))

    @property
    def config(self) -> dict[str, Any]:
        """Keyword arguments that build this potential anew (without its weights)."""
        return dict(self._config)

    @property
    def num_hops(self) -> int:
        """One for the embedding of directions, and one for each block."""
        return len(self.blocks) + 1

    def atomic_energies(self, graph: AtomicGraph, edge_vectors: Tensor) -> Tensor:
        """Energy of each atom, (atoms,), eV, float64, from the `edge_vectors` (edges, 3), Å, float64."""
        surroundings = self._surroundings(edge_vectors)
        x = self._embed(graph, *surroundings)
        for block in self.blocks:
            x = block(x, *surroundings, graph.edge_index)
        return self._read_out(x, graph)

    def stages(self) -> list[Stage]:
        """The embedding, and one block each; between them the features."""
        return [Stage(1, functools.partial(self._run_block, number)) for number in range(len(self.blocks) + 1)]

    def _run_block(
        self, number: int, graph: AtomicGraph, edge_vectors: Tensor, values: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        surroundings = self._surroundings(edge_vectors)
        if number == 0:
            return (self._embed(graph, *surroundings),)
        x = self.blocks[number - 1](*values, *surroundings, graph.edge_index)
        if number < len(self.blocks):
            return (x,)
        return (self.with_repulsion(self._read_out(x, graph), graph, edge_vectors),)

    def _surroundings(self, edge_vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What every block knows of the edges: harmonics (edges, (lmax+1)²), radial basis, envelope (edges,)."""
        distances, directions = polar(edge_vectors.to(self.embedding.dtype))
        return self.harmonics(directions), self.basis(distances), envelope(distances / self.cutoff)

    def _embed(self, graph: AtomicGraph, harmonics: Tensor, basis: Tensor, fade: Tensor) -> Tensor:
        x = self.embedding.index_select(0, self.species_lookup[graph.atomic_numbers])[:, None, :]
        x = pad(x, (0, 0, 0, harmonics.shape[1] - 1))  # (atoms, components, channels)
        weights = self.directions(basis) * fade[:, None] * self.scale
        return x.index_add(0, graph.edge_index[1], harmonics[:, :, None] * weights[:, None, :])

    def _read_out(self, x: Tensor, graph: AtomicGraph) -> Tensor:
        readout = self.readout(self.norm(x)[:, 0])[:, 0] * self.energy_scale
        return self.with_references(readout, graph.atomic_numbers)

    def equivariance_error(self) -> float:
        """Largest relative equivariance error of the tensor products."""
        return max(equivariance_error(module) for module in self.modules() if isinstance(module, TensorProduct))


class TensorBlock(nn.Module):
    """x ← x + TensorAttention(Norm(x)), then x ← x + GatedFeedForward(Norm(x)); arguments as of `TensorAttention`."""

    def __init__(
        self, irreps: Irreps, channels: int, num_heads: int, radial: tuple[int, int], product: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.norm_attention, self.norm_feed_forward = (BoundedNorm(irreps, channels) for _ in range(2))
        self.attention = TensorAttention(irreps, channels, num_heads, radial, product)
        self.feed_forward = GatedFeedForward(irreps, channels)

    def forward(self, x: Tensor, harmonics: Tensor, basis: Tensor, fade: Tensor, edge_index: Tensor) -> Tensor:
        """Update features (atoms, components, channels)."""
        x = x + self.attention(self.norm_attention(x), harmonics, basis, fade, edge_index)
        return x + self.feed_forward(self.norm_feed_forward(x))


class TensorAttention(nn.Module):
    """x_i ← W Σ_j α_ij [ Gate(W m_ij) ⊗ Y_ij w(r_ij) ],   m_ij = (W x_j + W′ x_i) ⊗ Y_ij w(r_ij)

    with α of `smooth_softmax` over the logits a_h · LeakyReLU(W m_ij^{l=0}) of each head h, and the same weights w for
    both products. Gate is SiLU for scalars and a sigmoid of scalars for the rest.

    Args:
        irreps: of the features, one channel each; 0e first.
        channels: of each irrep.
        num_heads: they share the channels.
        radial: numbers of radial functions and of channels of the radial network.
        product: backend and options of the tensor product.
    """

    def __init__(
        self, irreps: Irreps, channels: int, num_heads: int, radial: tuple[int, int], product: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.channels, self.num_heads = channels, num_heads
        with_channels = Irreps([(channels, ir) for _, ir in irreps])
        problem = TensorProductProblem(with_channels, irreps, irreps, mode="uvu")
        self.product = tensor_product(problem, layout="ir_mul", **product)
        self.radial = RadialNetwork(*radial, self.product.weight_numel)
        self.sender, self.receiver = (EquivariantLinear(irreps, channels, channels) for _ in range(2))
        self.message, self.value = (PathLinear(self.product.irreps_out, irreps, channels) for _ in range(2))
        self.scalars = nn.Linear(channels, channels)
        self.logits = nn.Parameter(torch.randn(num_heads, channels // num_heads) / (channels // num_heads) ** 0.5)
        self.gate = Gate(irreps, channels)

    def forward(self, x: Tensor, harmonics: Tensor, basis: Tensor, fade: Tensor, edge_index: Tensor) -> Tensor:
        """Update of the features x (atoms, components, channels), from what is known of the edges (edges, ...)."""
        senders, receivers = edge_index
        weights = self.radial(basis) * fade[:, None]
        message = self.message(self._times(self.sender(x)[senders] + self.receiver(x)[receivers], harmonics, weights))
        scalars = smooth_leaky_relu(self.scalars(message[:, 0])).unflatten(1, (self.num_heads, -1))
        alpha = smooth_softmax((scalars * self.logits).sum(dim=2), fade, receivers, len(x))  # (edges, heads)
        value = self.value(self._times(self.gate(message), harmonics, weights))
        weighted = value.unflatten(2, (self.num_heads, -1)) * alpha[:, None, :, None]
        return torch.zeros_like(x).index_add(0, receivers, weighted.flatten(2))

    def _times(self, x: Tensor, harmonics: Tensor, weights: Tensor) -> Tensor:
        return self.product(x.flatten(1), harmonics, weights).unflatten(1, (-1, self.channels))


class Gate(nn.Module):
    """SiLU of the scalars; the other irreps times sigmoids of linear functions of the scalars."""

    gate_of_row: Tensor

    def __init__(self, irreps: Irreps, channels: int) -> None:
        super().__init__()
        self.gates = nn.Linear(channels, channels * (len(irreps) - 1)) if len(irreps) > 1 else None
        self.register_buffer("gate_of_row", rows_of_blocks(irreps)[1:] - 1, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Of features (batch, components, channels)."""
        scalars = silu(x[:, :1])
        if self.gates is None:
            return scalars
        gates = sigmoid(self.gates(x[:, 0])).unflatten(1, (-1, x.shape[2])).index_select(1, self.gate_of_row)
        return torch.cat([scalars, x[:, 1:] * gates], dim=1)


class GatedFeedForward(nn.Sequential):
    """W Gate(W x), with twice the channels in between."""

    def __init__(self, irreps: Irreps, channels: int) -> None:
        super().__init__(
            EquivariantLinear(irreps, channels, 2 * channels),
            Gate(irreps, 2 * channels),
            EquivariantLinear(irreps, 2 * channels, channels),
        )


class RadialNetwork(nn.Sequential):
    """W SiLU(LayerNorm(W b)) of radial functions b (edges, functions)."""

    def __init__(self, num_radial: int, hidden: int, channels: int) -> None:
        super().__init__(nn.Linear(num_radial, hidden), nn.LayerNorm(hidden), nn.SiLU(), nn.Linear(hidden, channels))


def smooth_leaky_relu(x: Tensor, slope: float = 0.2) -> Tensor:
    """½ (1 + slope) x + ½ (1 − slope) x (2 σ(x) − 1), as in Equiformer (arXiv:2206.11990)."""
    return 0.5 * (1 + slope) * x + 0.5 * (1 - slope) * x * (2 * sigmoid(x) - 1)
