"""What finite-volume solvers share: steps that their Courant number allows, and cells beyond the ends of an axis."""

from abc import abstractmethod
from collections.abc import Collection

import torch
from torch import Tensor

from sciml.pde.grid import Grid
from sciml.pde.stepper import Stepper, UnstableError

_MOST_SUBSTEPS = 100_000


class FiniteVolumes(Stepper):
    """A solver whose frame is many steps of Heun's scheme, each sample making as long ones as its own fields allow.

    Source: C.-W. Shu and S. Osher, J. Comput. Phys. 77, 439 (1988): a mean of explicit steps, which keeps what they
    keep.

    Attributes:
        courant: largest Courant number of a step.
    """

    courant: float

    @abstractmethod
    def allowed_steps(self, u: Tensor) -> Tensor:
        """Longest step of each sample, (batch,), for the fields (batch, channels, *grid)."""

    @abstractmethod
    def explicit_step(self, state: Tensor, dt: Tensor) -> Tensor:
        """The state after one explicit step of dt, (batch, 1, 1, 1)."""

    def advance(self, state: Tensor) -> Tensor:
        """One frame.

        Raises:
            UnstableError: if fields are no numbers any more.
        """
        left = torch.full((len(state),), self.dt, dtype=state.dtype, device=state.device)
        for _ in range(_MOST_SUBSTEPS):
            if not bool((left > 0).any()):
                return state
            allowed = self.allowed_steps(self.decode(state))
            if not bool((allowed > 0).all()):  # nor numbers
                break
            # Two steps of equal length rather than a whole and a rest of almost nothing.
            step = torch.where(allowed >= left, left, torch.minimum(allowed, left / 2))
            dt = step[:, None, None, None]
            middle = self.explicit_step(state, dt)
            state = 0.5 * (state + self.explicit_step(middle, dt))
            left = left - step
        raise UnstableError(
            f"{type(self).__name__}: fields are no numbers, or so fast that a frame takes more than {_MOST_SUBSTEPS} "
            "steps; look at the initial fields and the viscosity"
        )


def with_ends(cells: Tensor, grid: Grid, axis: int, width: int, *, odd: Collection[int]) -> Tensor:
    """Add `width` cells beyond both ends of an axis: the other end's, or, beyond walls, mirror images.

    Args:
        cells: (batch, channels, num_x, num_y).
        grid: whose boundaries count.
        axis: 0 or 1.
        width: number of cells.
        odd: channels whose mirror images change sign.
    """
    dim, size = 2 + axis, cells.shape[2 + axis]
    if grid.boundaries[axis] == "periodic":
        return torch.cat([cells.narrow(dim, size - width, width), cells, cells.narrow(dim, 0, width)], dim=dim)
    sign = torch.tensor([-1.0 if channel in odd else 1.0 for channel in range(cells.shape[1])])
    mirrored = cells.flip(dim) * sign.to(cells)[:, None, None]
    return torch.cat([mirrored.narrow(dim, size - width, width), cells, mirrored.narrow(dim, 0, width)], dim=dim)
