"""How a surrogate, or a solver in its place, does on trajectories: one step from the truth, and rolled out."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sciml.pde import metrics
from sciml.pde.field_data import FieldData, Windows
from sciml.pde.invariants import invariants
from sciml.pde.rollouts import persistence, rollout

Step = Callable[..., Tensor]


@dataclass(frozen=True)
class OneStepErrors:
    """Errors of single predictions from true frames, over all windows; each (fields,).

    Attributes:
        scaled_l2: mean over windows, in physical units.
        persistence: the same of who repeats the last frame.
        nrmse: root mean square error over root mean square.
        vrmse: mean over windows.
    """

    scaled_l2: list[float]
    persistence: list[float]
    nrmse: list[float]
    vrmse: list[float]


@torch.no_grad()
def one_step_errors(
    step: Step,
    data: FieldData,
    *,
    history: int = 1,
    device: torch.device | None = None,
    batch_size: int = 16,
    progress: Callable[[int], object] = lambda _: None,
) -> OneStepErrors:
    """Predict the frame after each window of `history` frames.

    Args:
        step: see `sciml.pde.rollout`; of several frames that it gives, the first counts.
        data: trajectories.
        history: frames that the step takes.
        device: where it runs.
        batch_size: windows at a time.
        progress: is told how many windows are done.

    Raises:
        ValueError: if the trajectories are shorter, or the shapes do not fit.
    """
    windows = Windows(data, history + 1)
    channels = len(data.fields)
    sums = torch.zeros(5, channels, dtype=torch.float64)
    for start in range(0, len(windows.items), batch_size):
        items = windows.items[start : start + batch_size]
        batch = windows.collate(items).to(device or torch.device("cpu"))
        before, true = batch.frames[:, :history], batch.frames[:, history]
        result = rollout(step, before, 1, parameters=batch.parameters)
        predicted = result.frames[:, 0]
        if bool(result.diverged_at.any()):
            number = int(result.diverged_at.nonzero()[0])
            raise ValueError(f"{windows.describe(start + number)}: the prediction of a single step is no number")
        error = predicted - true
        values = [
            metrics.scaled_l2(predicted, true),
            metrics.scaled_l2(before[:, -1], true),
            error.square().mean(dim=(-2, -1)),
            true.square().mean(dim=(-2, -1)),
            metrics.vrmse(predicted, true),
        ]
        sums += torch.stack([value.double().sum(0).cpu() for value in values])
        progress(len(items))
    scaled, repeated, square, size, vrmse = (sums / len(windows.items)).unbind(0)
    return OneStepErrors(scaled.tolist(), repeated.tolist(), (square / size).sqrt().tolist(), vrmse.tolist())


@dataclass(frozen=True)
class RolloutErrors:
    """Errors by step of rollouts from the first frames of all trajectories.

    Means are over the trajectories that have not diverged by then; there is nothing where all have. Lists by step have
    lists by field inside.

    Attributes:
        scaled_l2: mean over trajectories, physical units.
        persistence: the same of who repeats the last frame.
        vrmse: mean over trajectories.
        nrmse: of all trajectories together.
        correlation: mean over trajectories.
        survivors: trajectories that have not diverged, by step.
        diverged: step at which a trajectory diverged, by its origin.
        correlation_time: mean of the first times at which the mean correlation of the fields is below 0.8, trajectories
            that never fall below counting with the length of the rollout; in the unit of frame_time.
        decorrelated: share of the trajectories that fell below.
        wavenumbers: of the spectra, 1 / length.
        spectrum_true: mean square by wavenumber, by field, of the last frame that a rollout reaches.
        spectrum_predicted: likewise.
        spectral_error: mean square error of that frame by wavenumber; its sum is the mean square error.
        drift_true: relative change of an invariant since the first predicted frame, by its name and step: root mean
            square over trajectories; of "divergence", the quantity itself.
        drift_predicted: likewise.
    """

    scaled_l2: list[list[float]]
    persistence: list[list[float]]
    vrmse: list[list[float]]
    nrmse: list[list[float]]
    correlation: list[list[float]]
    survivors: list[int]
    diverged: dict[str, int]
    correlation_time: float
    decorrelated: float
    wavenumbers: list[float]
    spectrum_true: list[list[float]]
    spectrum_predicted: list[list[float]]
    spectral_error: list[list[float]]
    drift_true: dict[str, list[float]]
    drift_predicted: dict[str, list[float]]

    @property
    def mean_scaled_l2(self) -> float | None:
        """Mean over steps and fields, as the paper has it; None if a trajectory diverged, which has no error."""
        if self.diverged:
            return None
        return math.fsum(map(math.fsum, self.scaled_l2)) / sum(map(len, self.scaled_l2))


@torch.no_grad()
def rollout_errors(
    step: Step,
    data: FieldData,
    *,
    history: int = 1,
    steps: int | None = None,
    device: torch.device | None = None,
    batch_size: int = 16,
    progress: Callable[[int], object] = lambda _: None,
) -> tuple[RolloutErrors, Tensor]:
    """Roll out from the first `history` frames of each trajectory, and compare.

    Args:
        step: see `sciml.pde.rollout`.
        data: trajectories.
        history: frames that the step takes.
        steps: frames to predict; by default as many as the trajectories have.
        device: where it runs.
        batch_size: trajectories at a time.
        progress: is told how many trajectories are done.

    Returns:
        The errors, and the predicted frames (trajectories, steps, fields, num_x, num_y), on the CPU.

    Raises:
        ValueError: if the trajectories are shorter, or the shapes do not fit.
    """
    available = data.frames.shape[1] - history
    steps = available if steps is None else steps
    if not 1 <= steps <= available:
        raise ValueError(
            f"got steps={steps} for trajectories of {data.frames.shape[1]} frames, of which {history} are where a "
            f"rollout starts; at most {available} can be compared"
        )
    parts, diverged_at = [], []
    for start in range(0, len(data.frames), batch_size):
        before = data.frames[start : start + batch_size, :history].to(device)
        parameters = data.parameters[start : start + batch_size].to(device) if data.parameters.shape[1] else None
        result = rollout(step, before, steps, parameters=parameters)
        parts.append(result.frames.cpu())
        diverged_at.append(result.diverged_at.cpu())
        progress(len(before))
    predicted = torch.cat(parts)
    return compare(predicted, torch.cat(diverged_at), data, history=history), predicted


def compare(predicted: Tensor, diverged_at: Tensor, data: FieldData, *, history: int) -> RolloutErrors:
    """Errors of predicted frames (trajectories, steps, fields, num_x, num_y) that follow the first `history` frames."""
    steps = predicted.shape[1]
    true = data.frames[:, history : history + steps]
    repeated = persistence(data.frames[:, :history], steps)
    alive = predicted[:, :, 0, 0, 0].isfinite()
    correlated = metrics.correlation_time(predicted, true, frame_time=data.frame_time)
    last = int(alive.any(dim=0).sum()) - 1  # steps of the longest rollout; without any, what it started from
    kept = alive[:, max(last, 0)]
    lasting = data.frames[:1, history - 1] if last < 0 else predicted[kept, last]
    compared = lasting if last < 0 else true[kept, last]
    lengths = (data.grid.lengths[0], data.grid.lengths[1])
    wavenumbers, spectrum_true = metrics.spectrum(compared, lengths)
    square = (predicted - true).square().mean(dim=(-2, -1))
    size = torch.where(alive[..., None], true.square().mean(dim=(-2, -1)), torch.nan)
    return RolloutErrors(
        scaled_l2=_mean(metrics.scaled_l2(predicted, true)).tolist(),
        persistence=metrics.scaled_l2(repeated, true).mean(0).tolist(),
        vrmse=_mean(metrics.vrmse(predicted, true)).tolist(),
        nrmse=(_mean(square) / _mean(size)).sqrt().tolist(),
        correlation=_mean(metrics.correlation(predicted, true)).tolist(),
        survivors=alive.sum(0).tolist(),
        diverged={data.origins[number]: step for number, step in enumerate(diverged_at.tolist()) if step},
        correlation_time=float(correlated.clamp(max=steps * data.frame_time).mean()),
        decorrelated=float(correlated.isfinite().float().mean()),
        wavenumbers=wavenumbers.tolist(),
        spectrum_true=spectrum_true.mean(0).tolist(),
        spectrum_predicted=metrics.spectrum(lasting, lengths)[1].mean(0).tolist(),
        spectral_error=metrics.spectral_error(lasting, compared, lengths)[1].mean(0).tolist(),
        drift_true=_drifts(true, data),
        drift_predicted=_drifts(predicted, data),
    )


def _mean(values: Tensor) -> Tensor:
    """Mean over trajectories that are numbers."""
    return values.nanmean(dim=0)


def _drifts(frames: Tensor, data: FieldData) -> dict[str, list[float]]:
    found: dict[str, Any] = {}
    quantities = invariants(frames, fields=data.fields, grid=data.grid, at=data.at)
    for name, values in quantities.items():
        change = values if name == "divergence" else metrics.drift(values)
        found[name] = change.square().nanmean(dim=0).sqrt().tolist()
    return found
