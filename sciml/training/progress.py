"""How long a run lasts, how far it is, and when it ends."""

import math
from dataclasses import dataclass, field
from typing import Protocol

from sciml.training.divergence import ADVICE, DivergenceError
from sciml.training.optimizers import OptimizerSettings

# The training loss of an epoch may rise this far above the best before (and above the start) until it counts as lost.
DIVERGENCE_FACTOR = 100.0


@dataclass(frozen=True)
class LoopSettings:
    """When to stop, and how to update the weights.

    Attributes:
        max_epochs: passes over the training data; the learning rate falls over this length.
        max_steps: stop after this many updates, and let the learning rate fall over them if that is sooner.
        max_time: stop before the epoch that would exceed this many seconds of training in all. The learning rate does
            not know of it; see `time_budget`.
        time_budget: seconds of training over which the learning rate falls, and after which the run stops. How many
            updates that is depends on the machine and what else it does, so that no two runs are the same.
        patience: stop after this many epochs without a better validation loss.
        valid_interval: epochs between validations, each of which is a row of metrics.csv and writes the checkpoints.
        recorded: whether steps are recorded as a CUDA graph (`sciml.recording`); None for wherever it can be.
        compiled: whether recorded steps are compiled as well (`sciml.training.compiled_steps`).
        tf32: whether matrix products of training steps may round float32 to TF32 on a GPU; validation never does.
        seed: of the random numbers that the model or the objective draws (dropout, augmentation).
        optimizer: see `OptimizerSettings`.
    """

    max_epochs: int = 100
    max_steps: int | None = None
    max_time: float | None = None
    time_budget: float | None = None
    patience: int | None = None
    valid_interval: int = 1
    recorded: bool | None = None
    compiled: bool = False
    tf32: bool = False
    seed: int = 0
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)

    def __post_init__(self) -> None:
        for name in ("max_epochs", "max_steps", "max_time", "time_budget", "patience", "valid_interval"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"got {name}={value}; it must be positive")
        if self.compiled and self.recorded is False:
            raise ValueError("got compiled and recorded=False; only recorded steps are compiled, set one of them anew")


@dataclass
class Progress:
    """How far a run is: all that changes apart from weights and moments.

    Attributes:
        epoch: completed epochs.
        step: completed updates.
        seconds: spent in training, over all starts.
        seconds_per_epoch: since the validation before the last.
        first_loss: validation loss before the first update; NaN until it is known.
        rows: one row of metrics.csv per validation.
        stopped: why the run ended; empty while it has not.
    """

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    seconds_per_epoch: float = 0.0
    first_loss: float = math.nan
    rows: list[dict[str, int | float]] = field(default_factory=list)
    stopped: str = ""

    @property
    def best(self) -> dict[str, int | float]:
        """The row with the lowest validation loss, the first of equals."""
        return min(self.rows, key=lambda row: row["valid_loss"])


class Reporter(Protocol):
    """Is told how the training goes; shows a progress bar, for example."""

    def on_start(self, progress: Progress, settings: LoopSettings) -> None:
        """Called once, before the first step."""

    def on_step(self, batch: int, num_batches: int, loss: float) -> None:
        """Called after each step of an epoch."""

    def on_epoch(self, progress: Progress) -> None:
        """Called after each epoch, when its files are on the disk."""


def out_of_time(progress: Progress, settings: LoopSettings) -> bool:
    """Whether to go on until the next validation, as fast as before, would exceed `max_time`."""
    if settings.max_time is None:
        return False
    return progress.seconds * (1 + settings.valid_interval / max(progress.epoch, 1)) > settings.max_time


def share_done(progress: Progress, settings: LoopSettings, epochs: float, steps: int) -> float:
    """How much of the training is done after so many epochs and steps, from 0 to 1 or a little more.

    The time that the epochs since the last validation take is what those before it took.
    """
    done = epochs / settings.max_epochs
    if settings.max_steps is not None:
        done = max(done, steps / settings.max_steps)
    if settings.time_budget is not None:
        seconds = progress.seconds + (epochs - progress.epoch) * progress.seconds_per_epoch
        done = max(done, seconds / settings.time_budget)
    return done


def reason_to_stop(progress: Progress, settings: LoopSettings) -> str:
    """Name of the setting that ends the run here, or nothing."""
    if progress.epoch >= settings.max_epochs:
        return "max_epochs"
    if settings.max_steps is not None and progress.step >= settings.max_steps:
        return "max_steps"
    if settings.patience is not None and progress.epoch - progress.best["epoch"] >= settings.patience:
        return "patience"
    if settings.time_budget is not None:
        # The next validation would come later than the end by more than half of an interval.
        rest = settings.time_budget - progress.seconds
        if rest < settings.valid_interval * progress.seconds_per_epoch / 2:
            return "time_budget"
    return "max_time" if out_of_time(progress, settings) else ""


def check_divergence(progress: Progress) -> None:
    """Raise a DivergenceError if the last epoch lost what the epochs before had learned."""
    row = progress.rows[-1]
    if not math.isfinite(row["valid_loss"]):
        raise DivergenceError(f"epoch {row['epoch']}: the validation loss is {row['valid_loss']}; {ADVICE}")
    losses = [progress.first_loss, *(float(row["train_loss"]) for row in progress.rows)]
    if losses[-1] > max(losses[0], DIVERGENCE_FACTOR * min(losses)):
        raise DivergenceError(
            f"epoch {row['epoch']}, step {row['step']}: the training loss is {losses[-1]:.4g}, after {losses[0]:.4g} "
            f"before the first step and {min(losses):.4g} at best; {ADVICE}"
        )
