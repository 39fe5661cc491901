"""What finite-volume solvers share: steps that their Courant number allows, and cells beyond the ends of an axis."""

from abc import abstractmethod
from collections.abc import Collection

import torch
from torch import Tensor

from sciml.messages import check_positive, did_you_mean
from sciml.pde.grid import Grid
from sciml.pde.limiters import LIMITERS
from sciml.pde.stepper import Stepper, UnstableError

_MOST_SUBSTEPS = 100_000


class FiniteVolumes(Stepper):
    """A solver whose frame is many steps of Heun's scheme, each sample making as long ones as its own fields allow.

    Source: C.-W. Shu and S. Osher, J. Comput. Phys. 77, 439 (1988): a mean of explicit steps, which keeps what they
    keep.

    Args:
        grid: of cells.
        dt: time of a frame.
        limiter: of the slopes inside cells, a key of `sciml.pde.limiters.LIMITERS`.
        courant: largest Courant number of a step, at most 0.5.
        positive: what need not stay positive beyond, for the message.

    Raises:
        ValueError: for numbers that are not positive, a larger Courant number, or an unknown limiter.
    """

    def __init__(self, grid: Grid, dt: float, *, limiter: str, courant: float, positive: str) -> None:
        check_positive({"dt": dt, "courant": courant})
        if courant > 0.5:
            raise ValueError(f"got courant={courant}; beyond 0.5 {positive} need not stay positive")
        if limiter not in LIMITERS:
            hint = did_you_mean(limiter, list(LIMITERS)) or ";"
            raise ValueError(f"got limiter={limiter!r}{hint} available: {', '.join(LIMITERS)}")
        self.grid, self.dt, self.limiter, self.courant = grid, dt, limiter, courant

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


def with_slopes(cells: Tensor, dim: int, limiter: str) -> tuple[Tensor, Tensor]:
    """All cells along `dim` but the first and the last, and the difference of their functions from end to end."""
    difference = cells.diff(dim=dim)
    count = difference.shape[dim] - 1
    slope = LIMITERS[limiter](difference.narrow(dim, 0, count), difference.narrow(dim, 1, count))
    return cells.narrow(dim, 1, count), slope


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
