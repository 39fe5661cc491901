"""Forces that neither push a structure as a whole nor turn it, which only those of a gradient do by themselves."""

import torch
from torch import Tensor

from sciml.graphs import AtomicGraph

# Of the largest moment of inertia: below it the atoms lie on a line, about which no force can turn them.
_STRAIGHT = 1e-8


def without_net_force(forces: Tensor, weights: Tensor, graph: AtomicGraph) -> Tensor:
    """F_i − w_i Σ F / Σ w over its system, (atoms, 3).

    Args:
        forces: (atoms, 3).
        weights: w, (atoms,): zero for isolated atoms, which then stay without force.
        graph: which atoms belong together.
    """
    mean = _sum(forces, graph) / _sum(weights[:, None], graph).clamp_min(_tiny(weights))
    return forces - weights[:, None] * mean[graph.system_index]


def without_net_torque(forces: Tensor, weights: Tensor, graph: AtomicGraph) -> Tensor:
    """F_i − w_i ω × r_i with the ω that leaves no torque, for systems that no axis repeats, (atoms, 3).

        Σ_i w_i (|r_i|² 1 − r_i r_iᵀ) ω = Σ_i r_i × F_i ,        r from the centre of the weights.

    Args:
        forces: (atoms, 3), without net force.
        weights: as in `without_net_force`.
        graph: positions; systems with any periodic axis keep their forces, as a torque has no meaning there.
    """
    w = weights[:, None]
    centre = _sum(w * graph.positions, graph) / _sum(w, graph).clamp_min(_tiny(weights))
    positions = graph.positions - centre[graph.system_index]
    torque = _sum(torch.linalg.cross(positions, forces), graph)  # (systems, 3)
    squares = positions.square().sum(dim=1)[:, None, None] * torch.eye(3, dtype=positions.dtype, device=forces.device)
    moments = w[:, :, None] * (squares - positions[:, :, None] * positions[:, None, :])
    inertia = _sum(moments.flatten(1), graph).unflatten(1, (3, 3))
    omega = (torch.linalg.pinv(inertia, rtol=_STRAIGHT, hermitian=True) @ torque[:, :, None])[:, :, 0]
    omega = torch.where(graph.pbc.any(dim=1, keepdim=True), 0, omega)
    return forces - w * torch.linalg.cross(omega[graph.system_index], positions)


def _sum(values: Tensor, graph: AtomicGraph) -> Tensor:
    return values.new_zeros(graph.num_systems, values.shape[1]).index_add(0, graph.system_index, values)


def _tiny(x: Tensor) -> float:
    return torch.finfo(x.dtype).tiny
