"""Lens: attention decides how much each neighbour counts, a tensor product says what it contributes.

The scalars of atoms and the slots of their neighbours go through the attention of EScAIP (arXiv:2410.24169), which sees
the angles between neighbours; what it makes of a slot weighs the radial functions of the edge in the convolution of
Facet (arXiv:2509.08418), by any tensor product, whose result the sphere mixer takes to higher orders. With no attention
this is Facet; with scalars only, EScAIP.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from sciml.graphs import AtomicGraph, polar
from sciml.messages import check_positive
from sciml.nn.edge_weights import EdgeWeights, weighted_basis
from sciml.nn.neighbourhoods import Neighbourhoods
from sciml.nn.radial import radial_basis
from sciml.nn.slot_attention import AttentionBlock, AttributeSizes, EdgeAttributes, Neighbourhood
from sciml.nn.soft_neighbours import Slots
from sciml.nn.spherical_harmonics import SphericalHarmonics
from sciml.potentials.facet import FacetLayer, layer_irreps
from sciml.potentials.interface import Potential, Stage
from sciml.potentials.species import SpeciesTable
from sciml.tensor_products import ConvolutionGraph, TensorProduct
from sciml.tensor_products.backends import read_product
from sciml.tensor_products.rotations import equivariance_error

ATTENTIONS = ("angular", "radial", "pair")


class Lens(SpeciesTable, Potential):
    """E = Σ_i [ E_ref(Z_i) + s(Z_i) + σ · readout(scalars of atom i after every layer) ].

    Features x are (atoms, components, channels), of slots e (atoms, slots, channels). A layer is

        (x⁰, e) ← AttentionBlock(x⁰, e),    α = EdgeWeights(e),    x ← FacetLayer(x) with the radial functions α b(r)

    Args:
        species: atomic numbers.
        reference_energies: E_ref, eV, in the order of `species`; kept in float64. None for zeros.
        cutoff: Å.
        channels: channels of each irrep, and of the slots.
        lmax: largest degree of features and harmonics.
        num_layers: number of layers; each sees over two cutoffs, or one without attention among neighbours.
        num_basis: radial functions, in which the weights of the convolution are linear.
        radial: "network" or "splines", see `Facet`.
        norms: of the convolution, see `Facet`.
        num_heads: of the attention.
        num_weights: α of each edge.
        attention: "angular"; "radial", whose logits do not depend on the angles between neighbours; or "pair", without
            attention among neighbours: α comes of the attributes of the edge alone.
        num_neighbours: soft limit of the neighbours of an atom; None for all within the cutoff.
        distance_basis: "bessel", or "gaussians" as published, which overfit where data are few.
        num_radial: functions of the distance, for the attention.
        bond_order_degree: largest degree of the bond-orientational order; 9 as published.
        pseudo: whether features of parity -(-1)^l are kept as well, see `Facet`.
        tensor_product: that of the convolution, see `Facet`.
        average_num_neighbors: n̄.
        energy_scale: σ, eV.
        shifts: initial s, eV, in the order of `species`; trained. None for zeros.
        repulsion: whether nuclei repel each other at short range, see `sciml.potentials.repulsion`.

    Raises:
        ValueError: for species that are unknown or repeated, lists of another length, unknown options, or sizes that
            are not positive or do not fit.
    """

    def __init__(
        self,
        *,
        species: Sequence[int],
        reference_energies: Sequence[float] | None = None,
        cutoff: float = 5.0,
        channels: int = 64,
        lmax: int = 2,
        num_layers: int = 2,
        num_basis: int = 12,
        radial: str = "network",
        norms: bool = False,
        num_heads: int = 4,
        num_weights: int = 4,
        attention: str = "angular",
        num_neighbours: int | None = None,
        distance_basis: str = "bessel",
        num_radial: int = 8,
        bond_order_degree: int = 9,
        pseudo: bool = False,
        tensor_product: str | Mapping[str, Any] = "clebsch_gordan",
        average_num_neighbors: float = 16.0,
        energy_scale: float = 1.0,
        shifts: Sequence[float] | None = None,
        repulsion: bool = False,
    ) -> None:
        super().__init__()
        sizes = {
            "cutoff": float(cutoff),
            "channels": channels,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "num_weights": num_weights,
            "num_radial": num_radial,
            "average_num_neighbors": average_num_neighbors,
            "energy_scale": energy_scale,
        }
        check_positive(sizes)
        if bond_order_degree < 0:
            raise ValueError(f"got bond_order_degree={bond_order_degree}; it must not be negative")
        if lmax < 0:
            raise ValueError(f"got lmax={lmax}; it must not be negative")
        if num_neighbours is not None and num_neighbours < 1:
            raise ValueError(f"got num_neighbours={num_neighbours}; it must be positive, or None for all")
        if channels % num_heads or channels // num_heads < 8:
            raise ValueError(f"got {channels} channels for {num_heads} heads; expected at least 8 for each, as many")
        if attention not in ATTENTIONS:
            raise ValueError(f"got attention={attention!r}; available: {', '.join(ATTENTIONS)}")
        product = read_product(tensor_product)
        table = self.register_species(
            species, reference_energies=reference_energies, shifts=shifts, repulsion=repulsion
        )
        options = {
            "lmax": lmax,
            "num_basis": num_basis,
            "radial": radial,
            "norms": norms,
            "attention": attention,
            "distance_basis": distance_basis,
            "bond_order_degree": bond_order_degree,
            "num_neighbours": num_neighbours,
            "pseudo": pseudo,
            "tensor_product": product,
        }
        self._config: dict[str, Any] = {**table, **sizes, **options}
        self.cutoff, self.energy_scale = float(cutoff), float(energy_scale)
        self.needs_reverse_edges, self.pads_neighbours = num_neighbours is not None, True
        self.embedding = nn.Parameter(torch.randn(len(self.species), channels))
        self.basis = radial_basis(radial, cutoff, num_basis)
        self.harmonics = SphericalHarmonics(lmax)
        self.neighbourhoods = Neighbourhoods(
            cutoff,
            basis=distance_basis,
            num_radial=num_radial,
            bond_order_degree=bond_order_degree,
            num_neighbours=num_neighbours,
        )
        attributes = AttributeSizes(
            num_species=len(self.species),
            num_radial=num_radial,
            num_bond_orders=self.neighbourhoods.num_bond_orders,
            radial_channels=channels,
            species_channels=channels,
            bond_order_channels=channels // 2,
        )
        self.attributes = EdgeAttributes(attributes, channels)
        self.layers = nn.ModuleList()
        irreps = Irreps("0e")
        for _ in range(num_layers):
            layer = LensLayer(
                irreps,
                layer_irreps(lmax, pseudo=pseudo),
                attributes=attributes,
                channels=channels,
                num_heads=num_heads,
                num_weights=num_weights,
                attention=attention,
                num_basis=num_basis,
                norms=norms,
                product=product,
                average_num_neighbors=average_num_neighbors,
            )
            self.layers.append(layer)
            irreps = layer.convolution.irreps_out
        self.readout = nn.Sequential(
            nn.Linear((num_layers + 1) * channels, channels), nn.SiLU(), nn.Linear(channels, 1)
        )

    @property
    def num_hops(self) -> int:
        """Two for each layer, of its attention and its convolution, then as for EScAIP."""
        of_layer = 1 if self._config["attention"] == "pair" else 2
        return of_layer * len(self.layers) + (2 if self.needs_reverse_edges else 1)

    @property
    def config(self) -> dict[str, Any]:
        """Keyword arguments that build this potential anew (without its weights)."""
        return dict(self._config)

    def atomic_energies(self, graph: AtomicGraph, edge_vectors: Tensor) -> Tensor:
        """Energy of each atom, (atoms,), eV, float64, from the `edge_vectors` (edges, 3), Å, float64."""
        surroundings = self._surroundings(graph, edge_vectors)
        x = self._embed(graph)
        of_slots = self.attributes(surroundings.neighbourhood)
        scalars = [x[:, 0]]
        for layer in cast(Sequence[LensLayer], self.layers):
            x, of_slots = layer.attend(x, of_slots, surroundings)
            x = layer.convolve(x, of_slots, surroundings)
            scalars.append(x[:, 0])
        return self._read_out(torch.cat(scalars, dim=1), graph)

    def stages(self) -> list[Stage]:
        """The bond order, then attention and convolution of each layer.

        Between them are bond orders, features of atoms and of slots, and the scalars of all layers so far.
        """
        hops = 2 if self.needs_reverse_edges else 1
        stages = [Stage(hops, self._run_bond_order)]
        for number in range(len(self.layers)):
            stages.append(Stage(hops, functools.partial(self._run_attention, number)))
            stages.append(Stage(hops, functools.partial(self._run_convolution, number)))
        return stages

    def _run_bond_order(self, graph: AtomicGraph, edge_vectors: Tensor, _: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (self._surroundings(graph, edge_vectors).neighbourhood.bond_order,)

    def _run_attention(
        self, number: int, graph: AtomicGraph, edge_vectors: Tensor, values: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        surroundings = self._surroundings(graph, edge_vectors, values[0])
        if number:
            bond_order, x, of_slots, scalars = values
        else:
            bond_order, x = values[0], self._embed(graph)
            of_slots, scalars = self.attributes(surroundings.neighbourhood), x[:, 0]
        x, of_slots = cast(LensLayer, self.layers[number]).attend(x, of_slots, surroundings)
        return bond_order, x, of_slots, scalars

    def _run_convolution(
        self, number: int, graph: AtomicGraph, edge_vectors: Tensor, values: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        bond_order, x, of_slots, scalars = values
        surroundings = self._surroundings(graph, edge_vectors, bond_order)
        x = cast(LensLayer, self.layers[number]).convolve(x, of_slots, surroundings)
        scalars = torch.cat([scalars, x[:, 0]], dim=1)
        if number + 1 < len(self.layers):
            return bond_order, x, of_slots, scalars
        return (self.with_repulsion(self._read_out(scalars, graph), graph, edge_vectors),)

    def _surroundings(
        self, graph: AtomicGraph, edge_vectors: Tensor, bond_order: Tensor | None = None
    ) -> "LensSurroundings":
        species = self.species_lookup[graph.atomic_numbers]
        neighbourhood, slots = self.neighbourhoods(graph, edge_vectors, species, bond_order)
        distances, directions = polar(edge_vectors.to(self.embedding.dtype))
        senders, receivers = graph.edge_index
        first = cast(LensLayer, self.layers[0])
        edges = first.convolution.product.prepare(senders, receivers, graph.num_nodes, check=False)
        return LensSurroundings(neighbourhood, slots, self.harmonics(directions), self.basis(distances), edges)

    def _embed(self, graph: AtomicGraph) -> Tensor:
        return self.embedding.index_select(0, self.species_lookup[graph.atomic_numbers])[:, None, :]

    def _read_out(self, scalars: Tensor, graph: AtomicGraph) -> Tensor:
        return self.with_references(self.readout(scalars)[:, 0] * self.energy_scale, graph.atomic_numbers)

    def equivariance_error(self) -> float:
        """Largest relative equivariance error of the tensor products; the sphere mixers are exact."""
        return max(equivariance_error(module) for module in self.modules() if isinstance(module, TensorProduct))


class LensSurroundings(NamedTuple):
    """What every layer knows of the edges.

    Attributes:
        neighbourhood: of each atom, for the attention.
        slots: which edge is in which.
        harmonics: (edges, (lmax + 1)²).
        basis: radial functions, (edges, num_basis).
        edges: the graph, as tensor products take it.
    """

    neighbourhood: Neighbourhood
    slots: Slots
    harmonics: Tensor
    basis: Tensor
    edges: ConvolutionGraph


class LensLayer(nn.Module):
    """Attention of scalars and slots, weights of the edges, and Facet's convolution and mixer with these weights.

    Args:
        irreps_in: irreps of the atoms, one channel each; 0e first.
        irreps_out: irreps wanted; those that no path reaches are left out.
        attributes: sizes of the attributes of slots.
        channels: channels of each irrep.
        num_heads: of the attention.
        num_weights: of each edge.
        attention: one of `ATTENTIONS`.
        num_basis: radial functions.
        norms: whether the convolution has norms.
        product: backend and options of the tensor product.
        average_num_neighbors: n̄.
    """

    def __init__(
        self,
        irreps_in: Irreps,
        irreps_out: Irreps,
        *,
        attributes: AttributeSizes,
        channels: int,
        num_heads: int,
        num_weights: int,
        attention: str,
        num_basis: int,
        norms: bool,
        product: Mapping[str, Any],
        average_num_neighbors: float,
    ) -> None:
        super().__init__()
        self.attention = None
        if attention != "pair":
            angular = attention == "angular"
            self.attention = AttentionBlock(
                attributes, channels, num_heads=num_heads, order="plain", slots_go_on=True, angular=angular
            )
        self.weights = EdgeWeights(channels, num_weights, average_num_neighbors=average_num_neighbors)
        self.convolution = FacetLayer(
            irreps_in,
            irreps_out,
            irreps_edges=layer_irreps(irreps_out.lmax, pseudo=False),
            channels=channels,
            num_basis=num_weights * num_basis,
            norms=norms,
            product=product,
            activation="product",
            average_num_neighbors=average_num_neighbors * num_weights,
        )

    def attend(self, x: Tensor, of_slots: Tensor, surroundings: LensSurroundings) -> tuple[Tensor, Tensor]:
        """Update the scalars of atoms (atoms, components, channels), and features of slots (atoms, slots, channels)."""
        if self.attention is None:
            return x, of_slots
        scalars, of_slots = self.attention(x[:, 0], of_slots, surroundings.neighbourhood)
        return torch.cat([scalars[:, None], x[:, 1:]], dim=1), of_slots

    def convolve(self, x: Tensor, of_slots: Tensor, surroundings: LensSurroundings) -> Tensor:
        """Update features of atoms, (atoms, components, channels)."""
        weights = self.weights(of_slots, surroundings.slots, surroundings.neighbourhood.log_envelope)
        basis = weighted_basis(surroundings.basis, weights)
        return self.convolution(x, surroundings.harmonics, basis, surroundings.edges)
