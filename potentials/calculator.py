"""The ASE calculator: a potential on `atoms.calc`."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from sciml.graphs import graph_from_atoms
from sciml.neighbors import VerletList
from sciml.potentials.checkpoint import as_device, as_dtype, load_potential
from sciml.potentials.interface import OF_SYSTEMS, Potential
from sciml.potentials.memory_bound import MemoryBound
from sciml.potentials.recorded import RecordedPotential


class PotentialCalculator(Calculator):
    """ASE calculator of a potential: energy, free_energy, energies (eV), forces (eV/Å), stress (eV/Å³, Voigt).

    The calculator works on a frozen copy of the potential in evaluation mode, so that a model in training can be tried
    without being touched; a calculator made before further training keeps the old weights. One calculator serves any
    number of structures in turn: results are kept until positions, numbers, cell or periodicity change, and the
    neighbour list of the last structure until an atom has moved by `skin` / 2. It can be copied and pickled.

    Stress is defined for structures that are periodic along all three axes; for others asking for it raises
    PropertyNotImplementedError.

    A `Committee` adds "energy_spread", eV, and "forces_spread", eV/Å of each atom, to `results`.

    Args:
        potential: the model.
        device: where it runs, such as "cpu" or "cuda:0".
        dtype: "float32" or "float64"; None keeps the potential's own. Energies are summed in float64 in any case.
        skin: Å; neighbours are listed up to cutoff + skin, and listed anew when an atom has moved by skin / 2.
        compile: record an evaluation as a CUDA graph and replay it, see `sciml.potentials.recorded`; on a GPU this
            makes small structures several times as fast.
        max_memory: bytes, or a text such as "4GB": a structure that needs more is evaluated in chunks of atoms, with
            the same results up to rounding. None for what is free; see `sciml.potentials.memory_bound`.

    Raises:
        ValueError: if the device or dtype cannot be used, or `compile` or `max_memory` not with this potential, and on
            calculation if the structure is empty, has an element that the potential does not know, two atoms at the
            same point, a position that is not finite or a periodic axis without a cell vector, or needs more memory
            than there is.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012  ASE declares it
    # A potential sees neither charges nor magnetic moments, so changing them must not cost a calculation.
    ignored_changes = {"initial_charges", "initial_magmoms"}  # noqa: RUF012

    def __init__(
        self,
        potential: Potential,
        *,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype | None = None,
        skin: float = 0.5,
        compile: bool = False,
        max_memory: str | float | None = None,
    ) -> None:
        if not isinstance(potential, Potential):
            raise ValueError(
                f"got a {type(potential).__name__}, expected a Potential; "
                "a checkpoint is loaded with PotentialCalculator.from_checkpoint(folder)"
            )
        super().__init__()
        potential = copy.deepcopy(potential).requires_grad_(False).eval()
        self.potential = potential.to(device=as_device(device), dtype=None if dtype is None else as_dtype(dtype))
        self.device = torch.device(device)
        if compile and self.device.type != "cuda":
            raise ValueError(
                f"got compile=True on {self.device}; a CUDA graph needs a CUDA device, elsewhere leave it out"
            )
        if compile and max_memory is not None:
            raise ValueError("got compile=True and max_memory; chunks are not recorded, so leave one of them out")
        self._recorded = RecordedPotential(self.potential, skin=skin) if compile else None
        self._bound = MemoryBound(self.potential, max_memory)
        self._neighbors = VerletList(potential.cutoff, skin=skin, device=self.device)

    @property
    def num_neighbor_builds(self) -> int:
        """How many times the neighbour list was built."""
        return (self._neighbors if self._recorded is None else self._recorded.neighbors).num_builds

    @classmethod
    def from_checkpoint(
        cls,
        folder_or_name: str | Path,
        *,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype | None = None,
        skin: float = 0.5,
        compile: bool = False,
        max_memory: str | float | None = None,
    ) -> Self:
        """Load a checkpoint folder, or shipped weights by name; arguments as of the class.

        Raises:
            ValueError: if there is no such checkpoint.
        """
        options = {"device": device, "dtype": dtype, "skin": skin, "compile": compile, "max_memory": max_memory}
        return cls(load_potential(folder_or_name), **options)  # type: ignore[arg-type]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),  # noqa: ARG002  ASE passes it
    ) -> None:
        """Calculate all properties of `atoms` into `self.results`; ASE calls this when a result is missing.

        Raises:
            ValueError: if the potential cannot be evaluated on this structure.
            PropertyNotImplementedError: if the stress is asked for and some axis is not periodic.
        """
        atoms = self.atoms if atoms is None else atoms
        if atoms is None:
            raise ValueError("there is no structure to calculate; pass atoms")
        if "stress" in properties and not atoms.pbc.all():
            raise PropertyNotImplementedError(
                f"stress is the derivative by the strain per volume, and a structure with pbc={atoms.pbc.tolist()} has "
                "no volume; it is available if all three axes are periodic"
            )
        if self._recorded is not None:
            found = self._recorded(atoms)
        else:
            output = self._bound(graph_from_atoms(atoms, self.potential.cutoff, neighbors=self._neighbors))
            found = {name: value[0] if name in OF_SYSTEMS else value for name, value in output._asdict().items()}
        self.results = {
            name: value.item() if value.ndim == 0 else value.cpu().numpy()
            for name, value in found.items()
            if name != "stress"
        }
        self.results["free_energy"] = self.results["energy"]
        if atoms.pbc.all():
            self.results["stress"] = full_3x3_to_voigt_6_stress(found["stress"].cpu().numpy())
        self.atoms = atoms.copy()
