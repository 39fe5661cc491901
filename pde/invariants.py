"""What a flow keeps, or loses at a known rate: mass, kinetic energy, enstrophy, and how far it is from divergence-free.

By finite differences from the values of the fields alone, the same way for the frames of a solver and of a surrogate.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sciml.pde.grid import Grid
from sciml.pde.padding import padded, signs_of, wall_rules
from sciml.pde.stepper import Field

# Scalars that kinetic energy is weighted by.
_DENSITIES = ("density", "height")


def invariants(u: Tensor, *, fields: Sequence[Field], grid: Grid, at: str = "centers") -> dict[str, Tensor]:
    """Quantities by name, each (...,), of fields (..., fields, num_x, num_y).

    - "mass": ∫ of the first scalar field;
    - "energy": ∫ ½ |v|², or ∫ ½ ρ |v|² with a density or the height of water (without potential and inner energy);
    - "enstrophy": ∫ ½ (∂_x v_y − ∂_y v_x)²;
    - "divergence": root mean square of ∂_x v_x + ∂_y v_y.

    Differences are central, second order, or those of a staggered grid for `at` "faces", where walls are closed.
    """
    found: dict[str, Tensor] = {}
    scalars = [channel for channel, field in enumerate(fields) if field.component is None]
    if scalars:
        found["mass"] = u[..., scalars[0], :, :].sum(dim=(-2, -1)) * grid.cell_volume
    channels = {field.component: channel for channel, field in enumerate(fields) if field.component is not None}
    if set(channels) != {0, 1}:
        return found
    v = u[..., [channels[0], channels[1]], :, :]
    density = next((c for c in scalars if fields[c].name in _DENSITIES), None)
    square = v.square().sum(dim=-3)
    weighted = square if density is None else u[..., density, :, :] * square
    curl, divergence = _derivatives(v, [fields[channels[0]], fields[channels[1]]], grid, at)
    found["energy"] = 0.5 * weighted.sum(dim=(-2, -1)) * grid.cell_volume
    found["enstrophy"] = 0.5 * curl.square().sum(dim=(-2, -1)) * grid.cell_volume
    found["divergence"] = divergence.square().mean(dim=(-2, -1)).sqrt()
    return found


def _derivatives(v: Tensor, fields: Sequence[Field], grid: Grid, at: str) -> tuple[Tensor, Tensor]:
    """Curl and divergence of (..., 2, num_x, num_y)."""
    flat = v.reshape(-1, *v.shape[-3:])
    kinds = ["circular" if kind == "periodic" else "mirror" for kind in grid.boundaries]
    d_x, d_y = grid.spacings
    if at == "faces":
        upper = [_upper(flat[:, axis], 1 + axis, closed=kinds[axis] != "circular") for axis in (0, 1)]
        divergence = (upper[0] - flat[:, 0]) / d_x + (upper[1] - flat[:, 1]) / d_y
        # At inner corners of cells.
        curl = (flat[:, 1, 1:, 1:] - flat[:, 1, :-1, 1:]) / d_x - (flat[:, 0, 1:, 1:] - flat[:, 0, 1:, :-1]) / d_y
    else:
        signs = signs_of(wall_rules(fields)).to(flat)
        wide = padded(flat, 1, kinds, signs=signs)
        along_x = (wide[:, :, 2:, 1:-1] - wide[:, :, :-2, 1:-1]) / (2 * d_x)
        along_y = (wide[:, :, 1:-1, 2:] - wide[:, :, 1:-1, :-2]) / (2 * d_y)
        divergence, curl = along_x[:, 0] + along_y[:, 1], along_x[:, 1] - along_y[:, 0]
    shape = v.shape[:-3]
    return curl.reshape(*shape, *curl.shape[1:]), divergence.reshape(*shape, *divergence.shape[1:])


def _upper(faces: Tensor, dim: int, *, closed: bool) -> Tensor:
    """Values at upper faces of cells, of those at lower ones; after the last comes a wall at rest, or the first."""
    shifted = faces.roll(-1, dim)
    if not closed:
        return shifted
    inside = shifted.narrow(dim, 0, faces.shape[dim] - 1)
    return torch.cat([inside, torch.zeros_like(shifted.narrow(dim, 0, 1))], dim=dim)
