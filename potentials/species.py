"""The elements that a potential knows, with the energy that each has before anything is learned of its surroundings."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sciml.nn.constants import ConstantsModule
from sciml.potentials.repulsion import ScreenedRepulsion


class SpeciesTable(ConstantsModule):
    """Mixin of potentials: E_i = E_ref(Z_i) + s(Z_i) + what the network says.

    Attributes:
        species: atomic numbers, ascending.
        species_lookup: (119,), index of each atomic number among the species, -1 if it is not there.
        reference_energies: E_ref, (species,), eV, float64.
        shifts: s, (species,), eV; trained.
    """

    species: tuple[int, ...]
    species_lookup: Tensor
    reference_energies: Tensor

    def register_species(
        self,
        species: Sequence[int],
        *,
        reference_energies: Sequence[float] | None,
        shifts: Sequence[float] | None,
        repulsion: bool,
    ) -> dict[str, Any]:
        """Set the attributes; energies in the order of `species`, None for zeros. Returns what a config needs.

        With `repulsion`, the potential gets that of `sciml.potentials.repulsion.ScreenedRepulsion`.

        Raises:
            ValueError: for species that are unknown or repeated, or lists of another length.
        """
        order = sorted(range(len(species)), key=lambda k: species[k])
        self.species = tuple(int(species[k]) for k in order)
        if not self.species or len(set(self.species)) < len(species) or not all(0 < z < 119 for z in self.species):
            raise ValueError(f"got the species {list(species)}; expected distinct atomic numbers from 1 to 118")
        described = {
            "species": list(self.species),
            "reference_energies": _per_species("reference_energies", reference_energies, order),
            "shifts": _per_species("shifts", shifts, order),
            "repulsion": bool(repulsion),
        }
        if repulsion:
            self.repulsion = ScreenedRepulsion()
        lookup = torch.full((119,), -1)
        lookup[list(self.species)] = torch.arange(len(self.species))
        self.register_buffer("species_lookup", lookup, persistent=False)
        reference = torch.tensor(described["reference_energies"], dtype=torch.float64)
        self.register_constant("reference_energies", reference, keep_float64=True)
        self.shifts = nn.Parameter(torch.tensor(described["shifts"], dtype=torch.get_default_dtype()))
        return described

    def with_references(self, energies: Tensor, atomic_numbers: Tensor) -> Tensor:
        """E_i, (atoms,), eV, float64, of what the network says, (atoms,), eV."""
        species = self.species_lookup[atomic_numbers]
        return (energies + self.shifts[species]).double() + self.reference_energies[species]


def _per_species(name: str, values: Sequence[float] | None, order: Sequence[int]) -> list[float]:
    if values is None:
        return [0.0] * len(order)
    if len(values) != len(order):
        raise ValueError(f"got {len(values)} {name} for {len(order)} species; give one for each, in their order")
    return [float(values[k]) for k in order]
