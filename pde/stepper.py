"""What every solver is: a map from the fields at one time to those one step later."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.pde.grid import Grid


@dataclass(frozen=True)
class Field:
    """A channel of the fields.

    Attributes:
        name: such as "velocity_x".
        unit: of its values, in the units of the equation; "1" for plain numbers.
        component: axis along which it is a component of a vector; None for a scalar.
    """

    name: str
    unit: str = "1"
    component: int | None = None


class UnstableError(ValueError):
    """Fields are no numbers any more, or a step is too long for them to stay."""


def symmetries_of(grid: Grid, *, turning: bool = False) -> frozenset[str]:
    """`Stepper.symmetries` of an equation that knows no direction; a turning plane is not its own mirror image."""
    names = {"translation", "rotation", "reflection"}
    return frozenset(names - ({"reflection"} if turning else set()) - (set() if grid.is_square else {"rotation"}))


class Stepper(ABC):
    """A solver: u (batch, channels, *grid) at time t → u at time t + dt.

    The dtype and device of u are those of the computation. Constants are made for them when first needed.

    Attributes:
        grid: where the fields live.
        dt: time of a step.
        fields: what the channels are.
        at: where in a cell their values are: "centers" (averages over cells), "nodes" (lower corners), or "faces"
            (components of vectors at the lower faces across their axis, all else at centres).
        symmetries: which of "translation" (along periodic axes), "rotation" (by 90°), "reflection" (along both axes)
            and "reflection_x" or "reflection_y" (along one) the solver obeys; `sciml.testing.check_stepper` measures
            the first three.
    """

    grid: Grid
    dt: float
    fields: Sequence[Field]
    at: str = "centers"
    symmetries: frozenset[str] = frozenset()

    @abstractmethod
    def advance(self, state: Tensor) -> Tensor:
        """The state one step later."""

    def encode(self, u: Tensor) -> Tensor:
        """What the solver steps, of the fields; the fields themselves unless a solver has another state."""
        return u

    def decode(self, state: Tensor) -> Tensor:
        """The fields of a state."""
        return state

    def largest_step(self, u: Tensor) -> float:  # noqa: ARG002 - there may be no bound
        """A time step beyond which the scheme is unstable for these fields; infinite if there is none."""
        return float("inf")

    def __call__(self, u: Tensor) -> Tensor:
        """The fields one step later.

        Raises:
            ValueError: if u does not fit the grid and the fields.
        """
        self.check(u)
        return self.decode(self.advance(self.encode(u)))

    def check(self, u: Tensor) -> None:
        """Raise a ValueError if u is not (batch, channels, *grid) of floating-point numbers."""
        expected = (len(self.fields), *self.grid.shape)
        if u.dim() != len(expected) + 1 or tuple(u.shape[1:]) != expected:
            names = ", ".join(field.name for field in self.fields)
            raise ValueError(
                f"{type(self).__name__} got fields of shape {tuple(u.shape)}; expected (batch, {len(self.fields)}, "
                f"{', '.join(map(str, self.grid.shape))}) with the channels {names}"
            )
        if u.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"{type(self).__name__} got fields of {u.dtype}; expected float32 or float64")

    def run(self, u: Tensor, steps: int, *, every: int = 1) -> Tensor:
        """Fields at the start and after every `every`-th step, (batch, times, channels, *grid).

        Raises:
            UnstableError: if the fields stop being numbers, or a step is longer than they allow, with the step.
            ValueError: if u does not fit.
        """
        self.check(u)
        limit = self.largest_step(u)
        if self.dt > limit:
            raise UnstableError(
                f"{type(self).__name__} is unstable for these fields with steps of {self.dt:g}; at most {limit:.3g} is "
                "stable: give a smaller dt"
            )
        kept = [u]
        state = self.encode(u)
        for number in range(1, steps + 1):
            state = self.advance(state)
            if number % every == 0:
                u = self.decode(state)
                if not bool(torch.isfinite(u).all()):
                    raise UnstableError(
                        f"the fields of {type(self).__name__} are no numbers after step {number} (t = "
                        f"{number * self.dt:g}); give a smaller dt, more viscosity or a finer grid"
                    )
                kept.append(u)
        return torch.stack(kept, dim=1)
