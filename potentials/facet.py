"""Facet: Clebsch-Gordan convolutions with spline radial weights, and a mixer on the sphere for the many-body terms.

Miklaucic et al., arXiv:2509.08418. What differs from the published model, and why:

- the mixer multiplies two functions on the sphere instead of applying a SiLU to one, because the product is exactly
  equivariant on a finite grid (`activation="silu"` brings the original back, at the price of its error);
- all of O(3): features change sign under inversion as their parity says, so mirror images have the same energy;
- radial functions that a network learns instead of splines, and no norms, both of which fit few structures better than
  they predict others (`radial`, `norms`); norms, if asked for, have denominators that cannot vanish, so that the energy
  stays smooth where a neighbour crosses the cutoff;
- all neighbours within the cutoff, never only the nearest k, for the same reason;
- atomic energies are summed, not averaged: the energy is extensive.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from sciml.graphs import AtomicGraph, polar
from sciml.messages import check_positive
from sciml.nn.linear import EquivariantLinear, PathLinear, rows_of_blocks
from sciml.nn.norms import BoundedNorm, IrrepScale
from sciml.nn.radial import radial_basis
from sciml.nn.sphere_mixer import SphereMixer
from sciml.nn.spherical_harmonics import SphericalHarmonics
from sciml.potentials.interface import Potential, Stage
from sciml.potentials.species import SpeciesTable
from sciml.tensor_products import (
    ConvolutionGraph,
    RadialWeights,
    TensorProduct,
    TensorProductProblem,
    reachable,
    tensor_product,
)
from sciml.tensor_products.backends import read_product
from sciml.tensor_products.rotations import equivariance_error


class Facet(SpeciesTable, Potential):
    """E = Σ_i [ E_ref(Z_i) + s(Z_i) + σ · readout(0e features of atom i after every layer) ].

    Features are (atoms, components, channels). They start as an embedding of the element; every layer convolves them
    with the neighbours' harmonics and mixes the result on the sphere (`FacetLayer`).

    Args:
        species: atomic numbers.
        reference_energies: E_ref, eV, in the order of `species`; kept in float64. None for zeros.
        cutoff: Å.
        channels: channels of each irrep.
        lmax: largest degree of features and harmonics.
        num_layers: number of layers; atoms see each other over num_layers · cutoff.
        num_basis: radial functions, in which the weights of the convolution are linear.
        radial: "network" (functions that a network learns, common to all weights) or "splines" (fixed ones, as in the
            publication, which generalise worse from few structures).
        pseudo: whether features of parity -(-1)^l are kept as well. They are gated, the mixer does not see them.
        tensor_product: that of the convolution: a key of `sciml.tensor_products.BACKENDS`, or a mapping with the key
            "backend" and, for "cp", "rank". "vector_signal" needs `pseudo`, and at least three layers to bring what
            it finds back to the scalars; scalars by themselves, which it cannot couple, convolve by "gaunt_grid".
        norms: whether features are normalised before a layer and after it. With a few layers they only cost accuracy.
        activation: of the mixer: "product" (exact) or "silu" (approximate, see `equivariance_error`).
        average_num_neighbors: n̄, by whose root messages are divided.
        energy_scale: σ, eV.
        shifts: initial s, eV, in the order of `species`; trained. None for zeros.
        repulsion: whether nuclei repel each other at short range, see `sciml.potentials.repulsion`.

    Raises:
        ValueError: for species that are unknown or repeated, lists of another length, or sizes that are not positive.
    """

    def __init__(
        self,
        *,
        species: Sequence[int],
        reference_energies: Sequence[float] | None = None,
        cutoff: float = 5.0,
        channels: int = 32,
        lmax: int = 2,
        num_layers: int = 2,
        num_basis: int = 12,
        radial: str = "network",
        norms: bool = False,
        pseudo: bool = False,
        tensor_product: str | Mapping[str, Any] = "clebsch_gordan",
        activation: str = "product",
        average_num_neighbors: float = 16.0,
        energy_scale: float = 1.0,
        shifts: Sequence[float] | None = None,
        repulsion: bool = False,
    ) -> None:
        super().__init__()
        table = self.register_species(
            species, reference_energies=reference_energies, shifts=shifts, repulsion=repulsion
        )
        check_positive(
            {
                "cutoff": cutoff,
                "channels": channels,
                "num_layers": num_layers,
                "average_num_neighbors": average_num_neighbors,
                "energy_scale": energy_scale,
            }
        )
        if lmax < 0:
            raise ValueError(f"got lmax={lmax}; it must not be negative")
        product = read_product(tensor_product)
        if product["backend"] == "vector_signal" and not pseudo:
            raise ValueError(
                "got tensor_product=vector_signal without pseudo irreps, to which all its couplings of natural ones "
                "lead; set pseudo: true, or choose another product"
            )
        self.cutoff = float(cutoff)
        self._config: dict[str, Any] = {
            **table,
            "cutoff": self.cutoff,
            "channels": channels,
            "lmax": lmax,
            "num_layers": num_layers,
            "num_basis": num_basis,
            "radial": radial,
            "norms": norms,
            "pseudo": pseudo,
            "tensor_product": product,
            "activation": activation,
            "average_num_neighbors": average_num_neighbors,
            "energy_scale": energy_scale,
        }
        self.energy_scale = float(energy_scale)
        self.embedding = nn.Parameter(torch.randn(len(self.species), channels))
        self.basis = radial_basis(radial, cutoff, num_basis)
        self.harmonics = SphericalHarmonics(lmax)
        self.layers = nn.ModuleList()
        irreps = Irreps("0e")
        for _ in range(num_layers):
            layer = FacetLayer(
                irreps,
                layer_irreps(lmax, pseudo=pseudo),
                irreps_edges=layer_irreps(lmax, pseudo=False),
                channels=channels,
                num_basis=num_basis,
                norms=norms,
                product=product,
                activation=activation,
                average_num_neighbors=average_num_neighbors,
            )
            self.layers.append(layer)
            irreps = layer.irreps_out
        self.readout = nn.Sequential(
            nn.Linear((num_layers + 1) * channels, channels), nn.SiLU(), nn.Linear(channels, 1)
        )

    @property
    def config(self) -> dict[str, Any]:
        """Keyword arguments that build this potential anew (without its weights)."""
        return dict(self._config)

    @property
    def num_hops(self) -> int:
        """One for each layer."""
        return len(self.layers)

    def atomic_energies(self, graph: AtomicGraph, edge_vectors: Tensor) -> Tensor:
        """Energy of each atom, (atoms,), eV, float64, from the `edge_vectors` (edges, 3), Å, float64."""
        surroundings = self._surroundings(graph, edge_vectors)
        x = self._embed(graph)
        scalars = [x[:, 0]]
        for layer in self.layers:
            x = layer(x, *surroundings)
            scalars.append(x[:, 0])
        return self._read_out(torch.cat(scalars, dim=1), graph)

    def stages(self) -> list[Stage]:
        """One layer each; between them the features, and the scalars of all layers so far."""
        return [Stage(1, functools.partial(self._run_layer, number)) for number in range(len(self.layers))]

    def _run_layer(
        self, number: int, graph: AtomicGraph, edge_vectors: Tensor, values: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        embedded = self._embed(graph)
        x, scalars = values if number else (embedded, embedded[:, 0])
        x = self.layers[number](x, *self._surroundings(graph, edge_vectors))
        scalars = torch.cat([scalars, x[:, 0]], dim=1)
        if number + 1 < len(self.layers):
            return x, scalars
        return (self.with_repulsion(self._read_out(scalars, graph), graph, edge_vectors),)

    def _surroundings(self, graph: AtomicGraph, edge_vectors: Tensor) -> tuple[Tensor, Tensor, ConvolutionGraph]:
        """What every layer knows of the edges: harmonics (edges, (lmax+1)²), radial basis, and the graph itself."""
        distances, directions = polar(edge_vectors.to(self.embedding.dtype))
        # All layers have the same backend, so that what the first one prepares serves all.
        first = cast(FacetLayer, self.layers[0])
        edges = first.product.prepare(graph.edge_index[0], graph.edge_index[1], graph.num_nodes, check=False)
        return self.harmonics(directions), self.basis(distances), edges

    def _embed(self, graph: AtomicGraph) -> Tensor:
        return self.embedding.index_select(0, self.species_lookup[graph.atomic_numbers])[:, None, :]

    def _read_out(self, scalars: Tensor, graph: AtomicGraph) -> Tensor:
        return self.with_references(self.readout(scalars)[:, 0] * self.energy_scale, graph.atomic_numbers)

    def equivariance_error(self) -> float:
        """Largest relative equivariance error of the mixers' sphere grids and of the tensor products."""
        mixers = [module.equivariance_error() for module in self.modules() if isinstance(module, SphereMixer)]
        products = [equivariance_error(module) for module in self.modules() if isinstance(module, TensorProduct)]
        return max(mixers + products)


def layer_irreps(lmax: int, *, pseudo: bool) -> Irreps:
    """One channel of every irrep of parity (-1)^l, and with `pseudo` of the other parity too."""
    natural = Irreps([(1, (l, (-1) ** l)) for l in range(lmax + 1)])
    # 0o comes last because it is reached last: the irreps of a layer then begin with those of the one before.
    opposite = Irreps([(1, (l, -((-1) ** l))) for l in (*range(1, lmax + 1), 0)])
    return natural + opposite if pseudo else natural


class FacetLayer(nn.Module):
    """x ← x + s ⊙ Norm( Mix( m ) ),  m_i = B x_i + n̄^(-1/2) A Σ_{j→i} (C Norm(x)_j) ⊗ Y(r_ij) w(r_ij).

    Mix is the sphere mixer for the irreps of parity (-1)^l, whose result is gated by sigmoids of the scalars; the
    scalars themselves go through a two-layer network; the other irreps are only gated. The scale s starts at zero, so
    that a new layer is the identity, or, without norms, at 0.1.

    Args:
        irreps_in: irreps of the atoms, one channel each; 0e first.
        irreps_out: irreps wanted; those that no path reaches are left out.
        irreps_edges: irreps of the harmonics.
        channels: channels of each irrep.
        num_basis: radial functions.
        norms: whether there are any.
        product: backend and options of the tensor product; irreps that it does not reach keep to themselves.
        activation: of the sphere mixer.
        average_num_neighbors: n̄.

    Attributes:
        irreps_out: irreps of the result, one channel each; begins with `irreps_in`.
    """

    gate_of_row: Tensor
    received_rows: Tensor | None

    def __init__(
        self,
        irreps_in: Irreps,
        irreps_out: Irreps,
        *,
        irreps_edges: Irreps,
        channels: int,
        num_basis: int,
        norms: bool,
        product: Mapping[str, Any],
        activation: str,
        average_num_neighbors: float,
    ) -> None:
        super().__init__()
        with_channels = Irreps([(channels, ir) for _, ir in irreps_in])
        if product["backend"] == "vector_signal" and irreps_in.lmax == 0:
            product = {"backend": "gaunt_grid"}
        problem = TensorProductProblem(with_channels, irreps_edges, mode="uvu")
        reached = {ir for _, ir in reachable(problem, product["backend"])}
        received = Irreps([(1, ir) for _, ir in irreps_out if ir in reached])
        kept = reached | {ir for _, ir in irreps_in}
        self.irreps_out = Irreps([(1, ir) for _, ir in irreps_out if ir in kept])
        self.num_rows = self.irreps_out.dim
        self.channels = channels
        self.message_scale = average_num_neighbors**-0.5
        self.norm_in = BoundedNorm(irreps_in, channels) if norms else nn.Identity()
        self.linear_senders = EquivariantLinear(irreps_in, channels, channels)
        problem = TensorProductProblem(with_channels, irreps_edges, received, mode="uvu")
        self.product = tensor_product(problem, layout="ir_mul", **product)
        # Six splines overlap, with squares that sum to 1.3: weights of about unit variance.
        self.radial_weights = nn.Parameter(torch.randn(num_basis, self.product.weight_numel))
        self.linear_paths = PathLinear(self.product.irreps_out, received, channels)
        is_received = [ir in reached for _, ir in self.irreps_out for _ in range(ir.dim)]
        # Rows of a message; None if the product reaches all, so that its result is the message.
        rows = None if all(is_received) else torch.tensor(is_received).nonzero()[:, 0]
        self.register_buffer("received_rows", rows, persistent=False)
        self.linear_self = EquivariantLinear(irreps_in, channels, channels)
        natural = Irreps([(1, ir) for _, ir in self.irreps_out if ir.p == (-1) ** ir.l])
        self.num_mixed = natural.dim
        self.mixer = SphereMixer(natural, channels, activation=activation)
        self.scalars = nn.Sequential(
            nn.Linear(2 * channels, channels), nn.SiLU(), nn.Linear(channels, channels * len(self.irreps_out))
        )
        self.register_buffer("gate_of_row", rows_of_blocks(self.irreps_out)[1:] - 1, persistent=False)
        self.norm_out: nn.Module
        if norms:
            self.norm_out = BoundedNorm(self.irreps_out, channels, initial_scale=0.0)
        else:
            self.norm_out = IrrepScale(self.irreps_out, channels, initial_scale=0.1)

    def forward(self, x: Tensor, harmonics: Tensor, basis: Tensor, edges: ConvolutionGraph) -> Tensor:
        """Update (atoms, components of irreps_in, channels) to (atoms, components of irreps_out, channels)."""
        senders = self.linear_senders(self.norm_in(x)).flatten(1)
        received = self.product.convolve(senders, harmonics, RadialWeights(basis, self.radial_weights), edges)
        message = self.linear_paths(received.unflatten(1, (-1, self.channels))) * self.message_scale
        if self.received_rows is not None:
            whole = message.new_zeros(message.shape[0], self.num_rows, self.channels)
            message = whole.index_copy(1, self.received_rows, message)
        message = message + self._fill_up(self.linear_self(x))  # (atoms, components, channels)
        mixed = self.mixer(message[:, : self.num_mixed])
        update = self.scalars(torch.cat([message[:, 0], mixed[:, 0]], dim=1)).unflatten(1, (-1, self.channels))
        gates = torch.sigmoid(update[:, 1:]).index_select(1, self.gate_of_row)
        gated = torch.cat([mixed[:, 1:], message[:, self.num_mixed :]], dim=1) * gates
        return self._fill_up(x) + self.norm_out(torch.cat([update[:, :1], gated], dim=1))

    def _fill_up(self, x: Tensor) -> Tensor:
        """Append zeros for the irreps that the layer adds."""
        return nn.functional.pad(x, (0, 0, 0, self.irreps_out.dim - x.shape[1]))
