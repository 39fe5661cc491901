"""The training loop of all models: potentials and PDE surrogates alike.

A step takes the global batch, which the processes share. Each evaluates its share, the sums and counts of the loss are
added over the processes, each differentiates its part of the global loss, and the gradients are added. No process
knows how many there are, hence one process and many give the same weights up to rounding.

Everything that a run needs to continue is in `last/training_state.pt`, which is replaced atomically after each epoch
and after all other files of that epoch. Killed at any moment, a run continues from the last whole epoch; what the
unfinished one had written is written again, identically, because an epoch is a pure function of the state, the seed
and its number.
"""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from sciml.graphs import AtomicGraph
from sciml.packed import PackedGraphs
from sciml.training.checkpoints import check_fingerprint, load_training_state, save_training_state
from sciml.training.divergence import ADVICE, DivergenceError, describe_items, describe_terms, weights_are_finite
from sciml.training.ema import MovingAverage
from sciml.training.learning_curve import plot_learning_curve, write_metrics
from sciml.training.loading import Loader
from sciml.training.losses import Objective, Sums, global_loss
from sciml.training.optimizers import FlatGradients, Optimizers, build_optimizer, learning_rate
from sciml.training.processes import share_weights, sum_gradients, sum_over_processes
from sciml.training.progress import (
    LoopSettings,
    Progress,
    Reporter,
    check_divergence,
    out_of_time,
    reason_to_stop,
    share_done,
)
from sciml.training.recorded_steps import RecordedTraining, RecordedValidation

logger = logging.getLogger(__name__)

# Seconds between drawings of the learning curve, which takes longer than an epoch on a handful of molecules.
PLOT_INTERVAL = 30.0


def fit(
    model: nn.Module,
    objective: Objective,
    *,
    train: Loader,
    valid: Loader,
    fabric: Fabric,
    folder: Path,
    settings: LoopSettings,
    save: Callable[[nn.Module, Path, Mapping[str, Any]], None],
    fingerprint: Mapping[str, Any],
    reporter: Reporter | None = None,
) -> Progress:
    """Train `model`, or continue the run in `folder`, and leave there best/, last/, metrics.csv, learning_curve.png.

    Args:
        model: on `fabric`'s device.
        objective: gives sums and counts of the loss.
        train: training batches of this process.
        valid: validation batches of this process.
        fabric: launched; gives the sum over processes and the autocast context.
        folder: the run folder, the same for all processes.
        settings: lengths, seed and optimizer.
        save: writes a model and metadata (JSON values) to a checkpoint folder; called in one process only. The model
            that it gets has the averaged weights.
        fingerprint: numbers and strings on which the result depends (settings, data); a run is continued only if
            they are the same.
        reporter: is told how it goes.

    Raises:
        DivergenceError: if a loss or a gradient is not finite, or the loss runs away.
        ValueError: if `folder` holds a run with another fingerprint.
    """
    packed = pack(train, valid, fabric, settings)
    optimizer = build_optimizer(model, settings.optimizer, device=fabric.device if packed else None)
    gradients = FlatGradients(model)
    share_weights(model, fabric)
    average = MovingAverage(model, settings.optimizer.ema_decay)
    progress = Progress()

    state_path = folder / "last" / "training_state.pt"
    state = load_training_state(state_path)
    if state is not None:
        check_fingerprint(state["fingerprint"], fingerprint, folder=folder)
        model.load_state_dict(state["model"])
        average.model.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        progress = Progress(**state["progress"])
        if progress.stopped == "max_time" and not out_of_time(progress, settings):
            progress.stopped = ""
        if progress.stopped:
            logger.info("%s holds a finished run (%s); nothing to do", folder, progress.stopped)
            return progress
        logger.info("continuing the run in %s after epoch %d, step %d", folder, progress.epoch, progress.step)
    else:
        progress.first_loss = float(validate(model, objective, valid, fabric)["valid_loss"])

    recorded = None
    if packed:
        required = bool(settings.recorded)
        recorded = Recorded(
            RecordedTraining(
                model,
                objective,
                packed[0],
                optimizer,
                gradients,
                average,
                settings.optimizer.clip_norm,
                required=required,
                compiled=settings.compiled,
            ),
            RecordedValidation(average.model, objective, packed[1], required=required),
        )
    columns = metric_columns(objective)
    last_plot = time.monotonic()
    if reporter is not None:
        reporter.on_start(progress, settings)
    while not progress.stopped:
        started = time.monotonic()
        number = min(settings.valid_interval, settings.max_epochs - progress.epoch)
        with rounding_to_tf32(settings.tf32 and fabric.device.type == "cuda"):
            if recorded is None:
                row = train_epochs(
                    number, model, objective, train, optimizer, gradients, average, progress, settings, fabric, reporter
                )
            else:
                row = train_recorded(number, recorded.training, train, progress, settings, fabric, reporter)
        if recorded is None:
            row |= validate(average.model, objective, valid, fabric)
        else:
            row |= errors_of(objective, recorded.validation.epoch([b for b in valid.epoch(0) if b]))
        progress.epoch += number
        progress.rows.append({"epoch": progress.epoch, **row})
        check_divergence(progress)
        # Clocks differ between processes, so that one of them decides for all.
        seconds = fabric.broadcast(time.monotonic() - started)
        progress.seconds, progress.seconds_per_epoch = progress.seconds + seconds, seconds / number
        progress.stopped = reason_to_stop(progress, settings)

        if fabric.is_global_zero:
            metadata = progress.rows[-1]
            if progress.best is metadata:
                save(average.model, folder / "best", metadata)
            save(average.model, folder / "last", metadata)
            write_metrics(folder / "metrics.csv", progress.rows, columns)
            if progress.stopped or time.monotonic() - last_plot > PLOT_INTERVAL:
                plot_learning_curve(
                    folder / "learning_curve.png", progress.rows, targets=objective.targets, units=objective.units
                )
                last_plot = time.monotonic()
            # Last: with this file the epoch counts as done.
            state = {
                "fingerprint": dict(fingerprint),
                "model": model.state_dict(),
                "average": average.model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "progress": vars(progress),
            }
            save_training_state(state_path, state)
        if reporter is not None:
            reporter.on_epoch(progress)
    logger.info("stopped by %s after epoch %d, step %d", progress.stopped, progress.epoch, progress.step)
    return progress


@contextlib.contextmanager
def rounding_to_tf32(allowed: bool) -> Iterator[None]:
    """Let torch's matrix products of float32 round to TF32 inside the context; kernels of this package never do."""
    before = torch.get_float32_matmul_precision()
    if allowed:
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class Recorded(NamedTuple):
    """Training and validation that the device repeats by itself."""

    training: RecordedTraining
    validation: RecordedValidation


def pack(
    train: Loader, valid: Loader, fabric: Fabric, settings: LoopSettings
) -> tuple[PackedGraphs, PackedGraphs] | None:
    """The graphs of both loaders on the device, if steps are to be recorded; else None.

    Raises:
        ValueError: if this was demanded and cannot be.
    """
    reason = ""
    if settings.recorded is False:
        return None
    if fabric.device.type != "cuda":
        reason = f"the device is {fabric.device}"
    elif fabric.world_size > 1:
        reason = "there are several processes"
    elif not isinstance(train.items[0], AtomicGraph):
        reason = "the data are no graphs of atoms"
    elif settings.optimizer.name == "muon":
        reason = "torch's Muon asks the device for its learning rate; normuon does not"
    else:
        try:
            return PackedGraphs(train.items, fabric.device), PackedGraphs(valid.items, fabric.device)
        except ValueError as error:
            reason = str(error)
    if settings.recorded or settings.compiled:
        how = "set compiled to false" if settings.compiled else "set recorded to null, or to false"
        raise ValueError(f"steps cannot be recorded as a CUDA graph: {reason}; {how}")
    logger.info("steps are not recorded as a CUDA graph: %s", reason)
    return None


def train_epochs(
    num_epochs: int,
    model: nn.Module,
    objective: Objective,
    loader: Loader,
    optimizer: Optimizers,
    gradients: FlatGradients,
    average: MovingAverage,
    progress: Progress,
    settings: LoopSettings,
    fabric: Fabric,
    reporter: Reporter | None,
) -> dict[str, int | float]:
    """Make passes over the training data; return the columns that they fill."""
    model.train()
    weights = stage_weights(objective, progress, settings, fabric.device)
    epoch_sums = no_sums(objective, fabric.device)
    for epoch in range(progress.epoch, progress.epoch + num_epochs):
        seed_epoch(settings.seed, epoch, fabric.global_rank)
        shares = loader.epoch(epoch)
        for number, indices in enumerate(shares, start=1):
            gradients.zero()
            local = no_sums(objective, fabric.device)
            if indices:
                with fabric.autocast():
                    local = objective(model, loader.batch(indices))
            total = sum_over_processes(local, fabric)
            if local.loss.requires_grad:  # an empty share does not, nor do the forces of isolated atoms
                # The local part of the global loss: local sums over global counts.
                (weights * local.loss / total.loss_count.clamp(min=1)).sum().backward()
            sum_gradients(gradients.buffers, fabric)
            loss, norm = torch.stack([global_loss(weights, total), gradients.norm()]).tolist()
            if not (math.isfinite(loss) and math.isfinite(norm)):
                where = f"epoch {epoch + 1}, step {progress.step + 1} (batch {number} of {len(shares)})"
                what = f"the loss is {loss:.4g}, the norm of its gradient {norm:.4g}"
                raise DivergenceError(explain(where, what, model, objective, total, loader, indices, fabric))
            if settings.optimizer.clip_norm is not None:
                gradients.clip(norm, settings.optimizer.clip_norm)

            rate = rate_after(epoch + number / len(shares), progress.step + 1, progress, settings)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            average.update(1 - average.decay_at(progress.step))

            progress.step += 1
            epoch_sums = Sums(*map(torch.add, epoch_sums, total))
            if reporter is not None:
                reporter.on_step(number, len(shares), loss)
            if progress.step == settings.max_steps:
                return training_row(objective, progress, rate, weights, epoch_sums)
    return training_row(objective, progress, rate, weights, epoch_sums)


def train_recorded(
    num_epochs: int,
    training: RecordedTraining,
    loader: Loader,
    progress: Progress,
    settings: LoopSettings,
    fabric: Fabric,
    reporter: Reporter | None,
) -> dict[str, int | float]:
    """`train_epochs` in recorded steps."""
    objective, model = training.objective, training.model
    weights = stage_weights(objective, progress, settings, fabric.device)
    seed_epoch(settings.seed, progress.epoch, fabric.global_rank)
    batches, ends = [], []
    for epoch in range(progress.epoch, progress.epoch + num_epochs):
        shares = loader.epoch(epoch)
        batches += shares
        ends += [epoch + number / len(shares) for number in range(1, len(shares) + 1)]
    if settings.max_steps is not None:
        batches = batches[: settings.max_steps - progress.step]
    steps = range(progress.step, progress.step + len(batches))
    rates = [rate_after(end, step + 1, progress, settings) for end, step in zip(ends, steps, strict=False)]
    decays = [training.average.decay_at(step) for step in steps]
    sums, bad = training.epoch(batches, rates=rates, decays=decays, weights=weights)
    if bad is not None:
        where = f"epoch {math.ceil(ends[bad])}, step {steps[bad] + 1}"
        what = "the loss or its gradient is not finite"
        raise DivergenceError(explain(where, what, model, objective, sums, loader, batches[bad], fabric))
    progress.step += len(batches)
    row = training_row(objective, progress, rates[-1], weights, sums)
    if reporter is not None:
        reporter.on_step(len(batches), len(batches), float(row["train_loss"]))
    return row


def stage_weights(objective: Objective, progress: Progress, settings: LoopSettings, device: torch.device) -> Tensor:
    """Weights of the terms of the loss in the epochs that come, (targets,)."""
    done = share_done(progress, settings, progress.epoch, progress.step)
    return torch.tensor(objective.training_weights(done), dtype=torch.float64, device=device)


def rate_after(epochs: float, steps: int, progress: Progress, settings: LoopSettings) -> float:
    """Learning rate of the update that completes so many epochs and steps."""
    done = share_done(progress, settings, epochs, steps)
    valid_losses = [row["valid_loss"] for row in progress.rows]
    return learning_rate(done, settings.optimizer, valid_losses, valid_interval=settings.valid_interval)


def training_row(
    objective: Objective, progress: Progress, rate: float, weights: Tensor, sums: Sums
) -> dict[str, int | float]:
    """Columns of metrics.csv that the training fills."""
    row: dict[str, int | float] = {"step": progress.step, "lr": rate, "train_loss": float(global_loss(weights, sums))}
    means = (sums.loss / sums.loss_count).tolist()
    return row | {f"train_{target}": mean for target, mean in zip(objective.targets, means, strict=True)}


def validate(model: nn.Module, objective: Objective, loader: Loader, fabric: Fabric) -> dict[str, int | float]:
    """Loss, MAE and RMSE over the validation data, exact over all processes."""
    model.eval()
    with fabric.autocast():
        batches = (loader.batch(indices) for indices in loader.epoch(0) if indices)
        sums = sums_over(model, objective, batches, fabric.device)
    return errors_of(objective, sum_over_processes(sums, fabric))


def sums_over(model: nn.Module, objective: Objective, batches: Iterable[Any], device: torch.device) -> Sums:
    """Sums of the objective over all batches, without gradients."""
    sums = no_sums(objective, device)
    with torch.no_grad():
        for batch in batches:
            sums = Sums(*map(torch.add, sums, objective(model, batch)))
    return sums


def errors_of(objective: Objective, sums: Sums) -> dict[str, int | float]:
    """Columns of metrics.csv that the validation fills."""
    weights = torch.tensor(objective.weights, dtype=torch.float64, device=sums.loss.device)
    row: dict[str, int | float] = {"valid_loss": float(global_loss(weights, sums))}
    mae, rmse = (sums.absolute / sums.components).tolist(), (sums.square / sums.components).sqrt().tolist()
    for target, target_mae, target_rmse in zip(objective.targets, mae, rmse, strict=True):
        row[f"valid_{target}_mae"], row[f"valid_{target}_rmse"] = target_mae, target_rmse
    return row


def metric_columns(objective: Objective) -> list[str]:
    """Columns of metrics.csv, in order."""
    columns = ["epoch", "step", "lr", "train_loss", *(f"train_{target}" for target in objective.targets), "valid_loss"]
    return columns + [f"valid_{target}_{error}" for target in objective.targets for error in ("mae", "rmse")]


def no_sums(objective: Objective, device: torch.device) -> Sums:
    """The sums of an empty batch."""
    return Sums(*torch.zeros(len(Sums._fields), len(objective.targets), dtype=torch.float64, device=device))


def seed_epoch(seed: int, epoch: int, rank: int) -> None:
    """Seed the random numbers of one epoch, so that a continued run draws what the uninterrupted one drew."""
    torch.manual_seed(int(np.random.SeedSequence([seed, epoch, rank]).generate_state(1)[0]))


def explain(
    where: str,
    what: str,
    model: nn.Module,
    objective: Objective,
    total: Sums,
    loader: Loader,
    indices: list[int],
    fabric: Fabric,
) -> str:
    """Message about a step that went wrong; every process calls it, and each adds its own structures."""
    if weights_are_finite(model):
        local = describe_items(model, objective, loader, indices)
    else:
        local = "  the weights themselves are not finite; an earlier update spoiled them"
    everywhere: list[Any] = [local]
    if fabric.world_size > 1:
        everywhere = [None] * fabric.world_size
        torch.distributed.all_gather_object(everywhere, local)
    items = "\n".join(filter(None, everywhere))
    return f"{where}: {what} (terms: {describe_terms(objective, total)}). Worst of the batch:\n{items}\n{ADVICE}"
