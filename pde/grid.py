"""Rectangular grids: where the points are, and what happens at the ends of each axis."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

BOUNDARIES = ("periodic", "wall")


@dataclass(frozen=True)
class Grid:
    """Cells of equal size in a box.

    Args:
        shape: number of cells along each axis (x, y), at least 4.
        lengths: size of the box along each axis, in units of length.
        boundaries: of each axis: "periodic", or "wall" (nothing goes through).

    Raises:
        ValueError: for other numbers of axes, sizes that are not positive, or unknown boundaries.
    """

    shape: tuple[int, ...]
    lengths: tuple[float, ...]
    boundaries: tuple[str, ...] = ("periodic", "periodic")

    def __post_init__(self) -> None:
        for name in ("shape", "lengths", "boundaries"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not len(self.shape) == len(self.lengths) == len(self.boundaries):
            raise ValueError(
                f"got {len(self.shape)} sizes, {len(self.lengths)} lengths and {len(self.boundaries)} boundaries; "
                "expected as many of each as there are axes"
            )
        if any(size < 4 for size in self.shape):
            raise ValueError(f"got a grid of {self.shape} cells; each axis needs at least 4")
        if not all(math.isfinite(length) and length > 0 for length in self.lengths):
            raise ValueError(f"got the lengths {self.lengths}; they must be positive")
        for boundary in self.boundaries:
            if boundary not in BOUNDARIES:
                raise ValueError(f"got the boundary {boundary!r}; available: {', '.join(BOUNDARIES)}")

    @classmethod
    def square(cls, num_x: int, length: float, boundary: str = "periodic") -> "Grid":
        """As many cells along x as along y."""
        return cls((num_x, num_x), (length, length), (boundary, boundary))

    @property
    def periodic(self) -> bool:
        """Whether all axes are."""
        return all(boundary == "periodic" for boundary in self.boundaries)

    @property
    def is_square(self) -> bool:
        """Whether a turn by 90° leaves the grid as it is."""
        return len(set(zip(self.shape, self.lengths, self.boundaries, strict=True))) == 1

    @property
    def spacings(self) -> tuple[float, ...]:
        """Size of a cell along each axis."""
        return tuple(length / size for length, size in zip(self.lengths, self.shape, strict=True))

    @property
    def cell_volume(self) -> float:
        """Volume of a cell."""
        return math.prod(self.spacings)

    def centers(self, *, device: torch.device | None = None, dtype: torch.dtype = torch.float64) -> list[Tensor]:
        """Coordinates of the centres of cells along each axis, as arrays that broadcast over the grid."""
        return self._coordinates(0.5, device, dtype)

    def nodes(self, *, device: torch.device | None = None, dtype: torch.dtype = torch.float64) -> list[Tensor]:
        """Coordinates of the lower corners of cells, where spectral methods have their points."""
        return self._coordinates(0.0, device, dtype)

    def _coordinates(self, offset: float, device: torch.device | None, dtype: torch.dtype) -> list[Tensor]:
        axes = [
            (torch.arange(size, dtype=torch.float64, device=device) + offset) * spacing
            for size, spacing in zip(self.shape, self.spacings, strict=True)
        ]
        return [axis.to(dtype) for axis in torch.meshgrid(*axes, indexing="ij")]
