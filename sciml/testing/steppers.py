"""The laws that every solver of a partial differential equation has to obey, measured."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sciml.testing.report import LawReport, merged

STEPPER_TOLERANCES: dict[str, float] = {
    "batch": 1e-12,
    "dtype": 1e-3,
    "translation": 1e-10,
    "quarter_turn": 1e-10,
    "reflection": 1e-10,
}


def check_stepper(
    stepper: Any, u: Tensor, *, steps: int = 2, tolerances: Mapping[str, float] | None = None
) -> LawReport:
    """Measure the laws of a `sciml.pde.Stepper` on some fields, and raise if one is broken.

    - batch: a batch gives what its members give alone;
    - dtype: float32 gives what float64 gives, and comes back as float32;
    - translation: fields that are shifted along a periodic axis stay shifted (if `symmetries` has "translation");
    - quarter_turn: fields that are turned by 90° stay turned, components of vectors with them ("rotation");
    - reflection: mirror images stay mirror images ("reflection").

    Errors are the largest differences over the largest value.

    Args:
        stepper: the solver.
        u: at least two samples, (batch, channels, *grid), float64.
        steps: how many steps are made.
        tolerances: other than `STEPPER_TOLERANCES`.

    Raises:
        AssertionError: with the report, if a law is broken.
        ValueError: if u does not fit, or is a single sample.
    """
    if len(u) < 2 or u.dtype != torch.float64:
        raise ValueError(f"got {len(u)} samples of {u.dtype}; expected at least two of float64")
    limits = merged(STEPPER_TOLERANCES, tolerances)

    def run(fields: Tensor) -> Tensor:
        return stepper.run(fields, steps, every=steps)[:, -1]

    after = run(u)
    scale = after.abs().max()
    single = torch.cat([run(one[None]) for one in u])
    low = run(u.float())
    if low.dtype != torch.float32:
        raise AssertionError(f"{type(stepper).__name__} gives {low.dtype} for float32")
    errors = {
        "batch": float((after - single).abs().max() / scale),
        "dtype": float((after - low.double()).abs().max() / scale),
    }
    left_out: dict[str, str] = {}
    axes = [axis for axis, boundary in enumerate(stepper.grid.boundaries) if boundary == "periodic"]
    transformations = {
        "translation": ("translation", lambda v: torch.roll(v, [3 + axis for axis in axes], [2 + a for a in axes])),
        "quarter_turn": ("rotation", lambda v: turned(v, stepper)),
        "reflection": ("reflection", lambda v: reflected(v, stepper)),
    }
    for law, (symmetry, transform) in transformations.items():
        if symmetry not in stepper.symmetries or (law == "translation" and not axes):
            left_out[law] = f"{type(stepper).__name__} here does not claim it"
        else:
            errors[law] = float((run(transform(u)) - transform(after)).abs().max() / scale)
    report = LawReport(errors, limits, left_out)
    if report.failed:
        raise AssertionError(f"{type(stepper).__name__} breaks {', '.join(report.failed)}:\n{report}")
    return report


def turned(u: Tensor, stepper: Any) -> Tensor:
    """Fields (batch, channels, n, n) turned by 90° from x to y, vectors with them."""
    moved = _mirrored(u, 3, stepper).transpose(2, 3)
    x, y = components(stepper)
    result = moved.clone()
    result[:, x], result[:, y] = -moved[:, y], moved[:, x]
    return result


def reflected(u: Tensor, stepper: Any) -> Tensor:
    """The mirror image of fields along x."""
    moved = _mirrored(u, 2, stepper)
    x, _ = components(stepper)
    result = moved.clone()
    result[:, x] = -moved[:, x]
    return result


def _mirrored(u: Tensor, dim: int, stepper: Any) -> Tensor:
    """Values in reverse order; those at lower corners are mirrored at the corner 0, which stays."""
    return u.flip(dim) if stepper.at == "centers" else torch.roll(u.flip(dim), 1, dim)


def components(stepper: Any) -> tuple[int, int]:
    """Channels of both components of the velocity."""
    found = {field.component: channel for channel, field in enumerate(stepper.fields) if field.component is not None}
    return found[0], found[1]
