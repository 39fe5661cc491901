"""Random rotations, and structures turned by them, as operations on tensors that never wait for the device."""

import copy

import torch
from torch import Tensor

from sciml.graphs import AtomicGraph


def random_rotations(number: int, *, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Rotation matrices drawn uniformly from SO(3), (number, 3, 3), of the dtype and on the device of `like`.

    Four normal numbers, normalised, are a quaternion (w, u) uniform on the sphere in four dimensions, and

        R = 1 + 2 (w [u]ₓ + [u]ₓ²)

    is then uniform for the Haar measure (Shoemake, Graphics Gems III, 1992, p. 124).

    Args:
        number: of matrices.
        like: any floating tensor.
        generator: on the device of `like`; None for torch's own.
    """
    quaternions = torch.randn(number, 4, dtype=like.dtype, device=like.device, generator=generator)
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=1).unbind(dim=1)
    zero = torch.zeros_like(w)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).unflatten(1, (3, 3))  # (number, 3, 3)
    identity = torch.eye(3, dtype=like.dtype, device=like.device)
    return identity + 2 * (w[:, None, None] * cross + cross @ cross)


def rotated(graph: AtomicGraph, rotations: Tensor) -> AtomicGraph:
    """The graph with each of its systems turned about the origin, its labels with it; edges stay as they are.

        r → R r        rows of the cell h → R h        F → R F        σ → R σ Rᵀ

    A vector or tensor of which a component is NaN (not known) becomes NaN as a whole: no component of what it turns
    into is known.

    Args:
        graph: one structure or a batch; it is not changed, and what does not turn is shared with it.
        rotations: R, (systems, 3, 3), of the dtype of the positions.
    """
    turned = copy.copy(graph)
    of_atoms = rotations[graph.system_index]  # (atoms, 3, 3)
    turned.positions = _times(of_atoms, graph.positions)
    turned.cell = graph.cell @ rotations.transpose(1, 2)
    if graph.get("forces") is not None:
        turned.forces = _times(of_atoms, graph.forces)
    if graph.get("stress") is not None:
        turned.stress = rotations @ graph.stress @ rotations.transpose(1, 2)
    return turned


def _times(matrices: Tensor, vectors: Tensor) -> Tensor:
    return (matrices @ vectors[:, :, None])[:, :, 0]
