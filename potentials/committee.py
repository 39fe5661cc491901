"""Several potentials as one: their mean, and how far they are apart, which tells where none of them has learned."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sciml.graphs import AtomicGraph
from sciml.potentials.interface import Potential, PotentialOutput


class CommitteeOutput(NamedTuple):
    """Prediction of a committee: the means of `PotentialOutput`, and the spreads.

    Attributes:
        energy: (systems,), eV, float64.
        energies: (atoms,), eV, float64.
        forces: (atoms, 3), eV/Å, float64.
        stress: (systems, 3, 3), eV/Å³, float64.
        energy_spread: (systems,), eV: standard deviation over the members.
        forces_spread: (atoms,), eV/Å: root of the mean squared distance of the members' force vectors from their mean.
    """

    energy: Tensor
    energies: Tensor
    forces: Tensor
    stress: Tensor
    energy_spread: Tensor
    forces_spread: Tensor


class Committee(Potential):
    """The mean of its members; conservative if all of them are, because the mean of gradients is that of the mean.

    On `atoms.calc` it adds "energy_spread" and "forces_spread" to the results of `PotentialCalculator`:

        atoms.calc = PotentialCalculator(Committee.from_checkpoints(["runs/a/best", "runs/b/best", "runs/c/best"]))

    Args:
        members: potentials, or mappings with the keys "model" and "config" of which they are built; at least two, with
            the same cutoff and species.

    Raises:
        ValueError: for fewer than two members, or members that differ in cutoff or species.
    """

    def __init__(self, members: Sequence[Potential | Mapping[str, Any]]) -> None:
        super().__init__()
        from sciml.potentials.checkpoint import build_potential

        built = [m if isinstance(m, Potential) else build_potential(m["model"], m["config"]) for m in members]
        if len(built) < 2:
            raise ValueError(f"got {len(built)} members; a committee has at least two")
        for name in ("cutoff", "species"):
            if len({getattr(member, name) for member in built}) > 1:
                values = ", ".join(str(getattr(member, name)) for member in built)
                raise ValueError(f"got members that differ in {name}: {values}")
        self.members = nn.ModuleList(built)
        self.cutoff, self.species = built[0].cutoff, built[0].species
        self.conservative = all(member.conservative for member in built)
        self.needs_reverse_edges = any(member.needs_reverse_edges for member in built)
        self.pads_neighbours = any(member.pads_neighbours for member in built)
        self.local = all(member.local for member in built)
        self.periodic = all(member.periodic for member in built)
        symmetries = {member.symmetry for member in built}
        self.symmetry = next(group for group in ("none", "SO(3)", "O(3)") if group in symmetries)

    @classmethod
    def from_checkpoints(cls, folders_or_names: Sequence[str | Path]) -> "Committee":
        """Load the members from checkpoint folders, or shipped weights by name.

        Raises:
            ValueError: if one is not there, or they do not fit together.
        """
        from sciml.potentials.checkpoint import load_potential

        return cls([load_potential(one) for one in folders_or_names])

    @property
    def config(self) -> dict[str, Any]:
        """Keyword arguments that build this committee anew (without its weights)."""
        from sciml.potentials.checkpoint import model_name

        return {"members": [{"model": model_name(m), "config": m.config} for m in self.potentials()]}

    @property
    def num_hops(self) -> int:
        """That of the member that sees furthest."""
        return max(member.num_hops for member in self.potentials())

    def atomic_energies(self, graph: AtomicGraph, edge_vectors: Tensor) -> Tensor:
        """Mean energy of each atom, (atoms,), eV, float64."""
        return torch.stack([m.all_atomic_energies(graph, edge_vectors) for m in self.potentials()]).mean(dim=0)

    def evaluate(self, graph: AtomicGraph) -> CommitteeOutput:  # type: ignore[override]
        """Means and spreads (see `CommitteeOutput`)."""
        return self.combine([member.evaluate(graph) for member in self.potentials()])

    @staticmethod
    def combine(outputs: Sequence[PotentialOutput]) -> CommitteeOutput:
        """Means and spreads of what the members predict."""
        fields = [torch.stack(values) for values in zip(*outputs, strict=True)]
        energy, energies, forces, stress = (values.mean(dim=0) for values in fields)
        energy_spread = (fields[0] - energy).square().mean(dim=0).sqrt()
        forces_spread = (fields[2] - forces).square().sum(dim=2).mean(dim=0).sqrt()
        return CommitteeOutput(energy, energies, forces, stress, energy_spread, forces_spread)

    def potentials(self) -> list[Potential]:
        """The members."""
        return [member for member in self.members if isinstance(member, Potential)]
