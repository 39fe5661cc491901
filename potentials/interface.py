"""What every potential is: a module from a graph to energies, forces and stress."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sciml.graphs import AtomicGraph, check_species

OF_SYSTEMS = ("energy", "stress", "energy_spread")
"""Fields of an output with one value per system, (systems, ...); the others have one per atom."""


class PotentialOutput(NamedTuple):
    """Prediction of a potential.

    Attributes:
        energy: (systems,), eV, float64.
        energies: (atoms,), eV, float64; they sum to `energy` and include the reference energies of the elements.
        forces: (atoms, 3), eV/Å, float64.
        stress: (systems, 3, 3), eV/Å³, float64, dE/dε/V; NaN for systems that are not periodic along all three axes.
    """

    energy: Tensor
    energies: Tensor
    forces: Tensor
    stress: Tensor


class Stage(NamedTuple):
    """A part of a potential's evaluation that needs no more than the surroundings of each atom.

    Attributes:
        hops: what it gives atom i depends on the edges into atoms that are at most hops - 1 edges away from i, hence on
            atoms at most `hops` edges away, and on nothing else.
        run: of a graph, the edge vectors (edges, 3), and the values of the stage before, each (atoms, ...), none for
            the first stage. Returns values, each (atoms, ...), the last stage the atomic energies alone.
    """

    hops: int
    run: Callable[[AtomicGraph, Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]


class Potential(nn.Module):
    """A conservative potential: subclasses give atomic energies as a function of the edge vectors, this class the rest.

    Forces and stress are the exact derivatives of the energy, taken with respect to the edge vectors (`sciml.graphs`
    has the formulas). In training mode they can be differentiated once more.

    For `sciml.training.losses.LearnedEquivariance`, a potential without symmetry has a method `embedding(graph)`, its
    last features (atoms, `embedding_channels`) that should turn with the structure, and passes them, there and in
    `forward`, through a module `embedding_probe` (an identity).

    Attributes:
        cutoff: Å; no two atoms further apart than this interact directly.
        species: the atomic numbers it knows, ascending.
        conservative: whether forces are the derivative of the energy.
        repulsion: if there is one, a module whose atomic energies, (atoms,), of graph and edge vectors are added.
        heads: keyword arguments in which a model may differ from the checkpoint that its training starts from.
        symmetry: the group under which the energy is invariant by construction: "O(3)", "SO(3)" or "none".
        needs_reverse_edges: whether a graph must have each edge both ways.
        pads_neighbours: whether the memory of an evaluation grows with atoms times the largest number of neighbours,
            not with the number of edges.
        local: whether the energy of an atom depends only on atoms within some reach, so that energies of parts that
            are far apart add up.
        periodic: whether it takes structures with periodic axes.
        gradient_checkpointing: whether training evaluates `stages` anew in the backward pass instead of keeping what
            they need. What the derivative of the forces needs is kept all the same, so that it saves less than in other
            networks: 24 % of the memory of a step of Facet and 15 % of EScAIP, for 30 to 40 % more time (32 atoms, on
            a CPU).
    """

    cutoff: float
    species: tuple[int, ...]
    conservative: bool = True
    heads: tuple[str, ...] = ()
    symmetry: str = "O(3)"
    needs_reverse_edges: bool = False
    pads_neighbours: bool = False
    local: bool = True
    periodic: bool = True
    gradient_checkpointing: bool = False

    @abstractmethod
    def atomic_energies(self, graph: AtomicGraph, edge_vectors: Tensor) -> Tensor:
        """Energy of each atom, (atoms,), eV, float64, from the `edge_vectors` (edges, 3), Å, float64."""

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Keyword arguments, JSON values all, that build this potential anew (without its weights)."""

    @property
    def num_hops(self) -> int:
        """How far an atom's energy sees: `Stage.hops` of the whole evaluation.

        Raises:
            ValueError: if the class does not say.
        """
        raise ValueError(
            f"{type(self).__name__} does not declare `num_hops`, how many edges away an atom's energy sees; without it "
            "no part of a structure can be evaluated alone"
        )

    def stages(self) -> list[Stage]:
        """The evaluation as successive parts, of which each sees less far than the whole.

        A potential that is made of layers overrides this; the default is one stage, which is exact for any potential.
        """
        return [Stage(self.num_hops, lambda graph, vectors, _: (self.all_atomic_energies(graph, vectors),))]

    def all_atomic_energies(self, graph: AtomicGraph, edge_vectors: Tensor) -> Tensor:
        """`atomic_energies`, and those of the repulsion if there is one."""
        return self.with_repulsion(self.atomic_energies(graph, edge_vectors), graph, edge_vectors)

    def with_repulsion(self, energies: Tensor, graph: AtomicGraph, edge_vectors: Tensor) -> Tensor:
        """Atomic energies (atoms,), and those of the repulsion if there is one."""
        repulsion = getattr(self, "repulsion", None)
        return energies if repulsion is None else energies + repulsion(graph, edge_vectors)

    def forward(self, graph: AtomicGraph) -> PotentialOutput:
        """Energies, forces and stress of a graph (see `PotentialOutput`).

        Raises:
            ValueError: if an atom is of an element that is not among `species`, or the potential is not `periodic` and
                a structure is.
        """
        if graph.get("max_degree") is None:  # else it has passed, where nothing waited for it (`sciml.packed`)
            self.check(graph)
        return self.evaluate(graph)

    def check(self, graph: AtomicGraph) -> None:
        """Raise a ValueError if the potential cannot be evaluated on this graph."""
        check_species(graph.atomic_numbers, self.species)
        check_boundaries(self, graph.pbc)

    def evaluate(self, graph: AtomicGraph) -> PotentialOutput:
        """`forward` without its checks. It never waits for the device if the graph tells its `max_degree`."""
        with torch.enable_grad():
            vectors = graph.edge_vectors().detach().requires_grad_()  # (edges, 3)
            if self.training and self.gradient_checkpointing:
                energies = self._energies_with_checkpoints(graph, vectors)
            else:
                energies = self.all_atomic_energies(graph, vectors)  # (atoms,)
            energy = energies.new_zeros(graph.num_systems).index_add(0, graph.system_index, energies)  # (systems,)
            gradient = edge_gradient(energy, vectors, create_graph=self.training)  # (edges, 3)
        forces, stress = forces_and_stress(graph, vectors.detach(), gradient)
        if not self.training:
            energy, energies = energy.detach(), energies.detach()
        return PotentialOutput(energy, energies, forces, stress)

    def _energies_with_checkpoints(self, graph: AtomicGraph, edge_vectors: Tensor) -> Tensor:
        values: tuple[Tensor, ...] = ()
        for stage in self.stages():
            values = checkpoint(stage.run, graph, edge_vectors, values, use_reentrant=False, preserve_rng_state=False)
        return values[0]


def check_boundaries(potential: Potential, pbc: Tensor | np.ndarray) -> None:
    """Raise a ValueError with the reason if `pbc`, (..., 3), bool, has an axis that `potential` cannot treat."""
    if potential.periodic or not torch.as_tensor(pbc).any():
        return
    pbc = torch.as_tensor(pbc)
    axes = "".join("abc"[axis] for axis in torch.nonzero(pbc.reshape(-1, 3).any(dim=0))[:, 0].tolist())
    raise ValueError(
        f"{type(potential).__name__} takes no periodic structures and got one that is periodic along '{axes}': it has "
        "coordinates about the centre of all atoms, and each atom attends to all others, which has no meaning among "
        "infinitely many images; use EScAIP, Facet or TDN, or set atoms.pbc = False for a molecule in a box"
    )


def edge_gradient(energy: Tensor, edge_vectors: Tensor, *, create_graph: bool) -> Tensor:
    """∂E/∂r_ij, (edges, 3); zero where the energy does not depend on the edges (isolated atoms)."""
    if not energy.requires_grad or edge_vectors.shape[0] == 0:
        return torch.zeros_like(edge_vectors)
    (gradient,) = torch.autograd.grad(energy.sum(), edge_vectors, create_graph=create_graph, allow_unused=True)
    return torch.zeros_like(edge_vectors) if gradient is None else gradient


def forces_and_stress(graph: AtomicGraph, edge_vectors: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Forces (atoms, 3) and stress (systems, 3, 3) from ∂E/∂r_ij (edges, 3)."""
    senders, receivers = graph.edge_index
    forces = torch.zeros_like(graph.positions)
    forces = forces.index_add(0, receivers, gradient).index_add(0, senders, -gradient)
    # To ask a GPU whether there is a stress takes longer than to compute it; packed graphs ask nothing anywhere.
    if graph.pbc.device.type == "cpu" and graph.get("max_degree") is None and not graph.pbc.all(dim=1).any():
        return forces, torch.full_like(graph.cell, torch.nan)
    if graph.num_systems == 1:  # without nine numbers for each edge, which a large structure has many of
        virial = (edge_vectors.T @ gradient)[None]
    else:
        systems = graph.system_index[receivers]
        of_edges = edge_vectors[:, :, None] * gradient[:, None, :]
        virial = gradient.new_zeros(graph.num_systems, 3, 3).index_add(0, systems, of_edges)
    virial = 0.5 * (virial + virial.mT)  # (systems, 3, 3)
    volumes = graph.volumes()[:, None, None]
    # Dividing by a NaN volume would also make its gradient NaN, and through the shared weights that of all systems.
    return forces, torch.where(volumes.isnan(), torch.nan, virial / volumes.nan_to_num(1.0))
