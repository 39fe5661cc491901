"""Many structures at once: a potential as a model of torch-sim, which batches simulations and relaxations.

    import torch_sim
    from sciml.potentials.torch_sim import TorchSimModel

    model = TorchSimModel.from_checkpoint("runs/ethanol/best", device="cuda")
    final = torch_sim.integrate([atoms, others], model, integrator=..., n_steps=1000, temperature=300, timestep=0.001)

Source: Cohen et al., TorchSim, arXiv:2508.06628; the interface is that of torch_sim.models.interface, versions 0.3 to
0.6. torch-sim writes cell vectors as columns, this package as rows.
"""

import copy
import sys
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from sciml.graphs import AtomicGraph, check_edges
from sciml.potentials.batched_neighbours import BatchedVerletList
from sciml.potentials.checkpoint import as_device, as_dtype, load_potential
from sciml.potentials.interface import Potential


class TorchSimModel(nn.Module):
    """A potential behind torch-sim's ModelInterface: called with a state, it returns energies, forces and stresses.

    The model works on a frozen copy of the potential. torch-sim itself is not needed to use it; where it is loaded,
    this class counts as one of its models.

    Args:
        potential: the model.
        device: where states are, and the potential runs.
        dtype: "float32" or "float64", that of the states, of the potential and of what is returned. The geometry is
            float64 inside whatever it is; energies beyond some 10 keV lose their meV when returned in float32.
        compute_forces: whether forces are returned.
        compute_stress: whether stresses are returned.
        skin: Å, of the neighbour lists.

    Raises:
        ValueError: if the potential is none, or the device or dtype cannot be used.
    """

    # Neighbours within a radius: torch-sim's batches are sized by atoms times density.
    memory_scales_with = "n_atoms_x_density"

    def __init__(
        self,
        potential: Potential,
        *,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype = "float64",
        compute_forces: bool = True,
        compute_stress: bool = True,
        skin: float = 0.5,
    ) -> None:
        super().__init__()
        if not isinstance(potential, Potential):
            raise ValueError(f"got a {type(potential).__name__}, expected a Potential; see from_checkpoint for folders")
        self._device, self._dtype = as_device(device), as_dtype(dtype)
        frozen = copy.deepcopy(potential).requires_grad_(False).eval()
        self.potential = frozen.to(device=self._device, dtype=self._dtype)
        self.compute_forces, self.compute_stress = compute_forces, compute_stress
        self._neighbors = BatchedVerletList(potential.cutoff, skin=skin)
        interface = sys.modules.get("torch_sim.models.interface")
        if interface is not None:
            interface.ModelInterface.register(type(self))

    @classmethod
    def from_checkpoint(cls, folder_or_name: str | Path, **arguments: Any) -> Self:
        """Load a checkpoint folder, or shipped weights by name; `arguments` are those of the class.

        Raises:
            ValueError: if there is no such checkpoint.
        """
        return cls(load_potential(folder_or_name), **arguments)

    @property
    def device(self) -> torch.device:
        """Where states are."""
        return self._device

    @property
    def dtype(self) -> torch.dtype:
        """That of states and results."""
        return self._dtype

    def forward(self, state: Any, **_: Any) -> dict[str, Tensor]:
        """Energies and, as `compute_forces` and `compute_stress` say, forces and stresses of all structures of a state.

        Args:
            state: a `torch_sim.SimState`, or any object with its positions (atoms, 3), Å, cell (systems, 3, 3), Å, in
                columns, pbc (a bool, three, or three for each system), atomic_numbers (atoms,) and system_idx (atoms,),
                ascending, or None for one system.

        Returns:
            "energy" (systems,), eV; "forces" (atoms, 3), eV/Å; "stress" (systems, 3, 3), eV/Å³, NaN for structures that
            are not periodic along all three axes.

        Raises:
            ValueError: if shapes or devices do not fit, two atoms are at the same point, a position is not finite, an
                element is unknown to the potential, or cell vectors of periodic axes are dependent.
        """
        graph = self._graph(state)
        output = self.potential(graph)
        result = {"energy": output.energy.to(self._dtype)}
        if self.compute_forces:
            result["forces"] = output.forces.to(self._dtype)
        if self.compute_stress:
            result["stress"] = output.stress.to(self._dtype)
        return result

    def _graph(self, state: Any) -> AtomicGraph:
        positions = state.positions.detach().double()
        numbers = state.atomic_numbers.long()
        cells = state.cell.detach().double().reshape(-1, 3, 3).mT.contiguous()  # rows
        systems = numbers.new_zeros(len(numbers)) if state.system_idx is None else state.system_idx.long()
        pbc = torch.as_tensor(state.pbc, dtype=torch.bool, device=positions.device)
        pbc = pbc.reshape(1, -1) if pbc.ndim < 2 else pbc
        if positions.device.type != self._device.type:
            raise ValueError(f"got a state on {positions.device}, the model is on {self._device}; move one of them")
        ordered = len(systems) < 2 or bool((systems.diff() >= 0).all())
        every = torch.equal(systems.unique(), torch.arange(len(cells), device=systems.device))
        shapes_fit = positions.shape == (len(numbers), 3) and len(systems) == len(numbers)
        found = f"{systems.unique().tolist()[:10]}{'' if ordered else ', not in order'}"
        if not (shapes_fit and ordered and every and pbc.shape in ((1, 1), (1, 3), (len(cells), 3))):
            raise ValueError(
                f"got positions {tuple(positions.shape)}, {len(numbers)} atomic numbers, {len(cells)} cells, pbc "
                f"{tuple(pbc.shape)} and the systems {found}; expected atoms of a system side by side, and systems "
                "numbered 0, 1, ... as their cells"
            )
        pbc = pbc.expand(len(cells), 3).contiguous()
        edge_index, shifts = self._neighbors.update(positions, cells, pbc, systems)
        graph = AtomicGraph(
            positions=positions,
            atomic_numbers=numbers,
            cell=cells,
            pbc=pbc,
            edge_index=edge_index,
            edge_shifts=shifts,
            batch=systems,
            num_nodes=len(numbers),
        )
        check_edges(graph)
        return graph
