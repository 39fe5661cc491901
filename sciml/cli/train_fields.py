"""`sciml train` with a surrogate: from trajectories of an equation to a trained network in a run folder."""

import dataclasses
import functools
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from lightning_fabric import Fabric
from rich.console import Console
from rich.table import Table

from sciml.cli import evaluate_fields
from sciml.cli.field_files import read_trajectories
from sciml.cli.launch import flatten, launch, plain
from sciml.cli.train_display import Logs, ProgressBar
from sciml.cli.train_fields_setup import check_alike, digest, prepare, symmetries
from sciml.files import atomic_write
from sciml.pde.augmentation import Augmentation
from sciml.pde.checkpoint import read_surrogate_config, save_surrogate
from sciml.pde.field_data import Trajectories, Windows
from sciml.pde.objective import ErrorKind, FieldObjective, Unrolling
from sciml.pde.surrogate import Surrogate
from sciml.training.batching import GraphBatchSampler
from sciml.training.loading import Loader
from sciml.training.loop import fit
from sciml.training.optimizers import OptimizerSettings
from sciml.training.processes import leaving_together
from sciml.training.progress import LoopSettings, Progress

logger = logging.getLogger("sciml.train")

DESCRIPTION = "train a surrogate of an equation on trajectories of its fields"

# Settings that do not change what a run computes (up to rounding), and may thus differ when it is continued.
FREE_SETTINGS = (
    *("train", "valid", "test", "output", "max_time", "device", "threads"),
    *("compile", "channels_last", "resident"),
)


@dataclass
class Config:
    """Train a surrogate on trajectories of fields; the same command continues a run that was killed.

    Attributes:
        train: files of trajectories, as `sciml generate` writes them (the layout of the Well); patterns too.
        output: run folder: config.yaml, metrics.csv, learning_curve.png, train.log, best/, last/; test/ with `test`.
        valid: files of validation trajectories; without them the last of `train` are held out.
        test: files of trajectories on which the best checkpoint is evaluated at the end, as by `sciml evaluate`.
        valid_fraction: share of the trajectories that is held out if there is no `valid`.
        model: name and arguments of the network: sinenet, unet, dilated_resnet, fno. Its channels come from the data,
            and so does `padding` unless it is given: circular along periodic axes, and zeros at walls. With `mirror` at
            walls, `walls` is slip (velocity across a wall is odd), no_slip (velocities are zero beyond), or rules.
        init_from: checkpoint folder whose weights, normalisation and architecture are the starting point.
        history: frames that the network sees.
        bundle: frames that it predicts at once.
        delta: whether it predicts changes from the last frame, in units of their standard deviation.
        loss: scaled_l2 (that of SineNet), or mse; in units of the standard deviations.
        unroll: steps of its own that the network makes in training, pushforward, noise.
        valid_steps: steps of its own in validation; the best checkpoint has the least error over them.
        augment: symmetries by which windows are moved at random, with their vectors: of translation, rotation,
            reflection, reflection_x, reflection_y, those that the equation has; "all" of these.
        window_stride: frames between the starts of training windows.
        optimizer: learning rate, its schedule, weight decay, clipping and weight averaging; adamw or amsgrad.
        batch_size: windows per batch, over all processes.
        max_epochs: passes over the training data; the learning rate falls over this length.
        max_steps: stop after this many updates, and let the learning rate fall over them if that is sooner.
        max_time: stop before the epoch that would exceed this many seconds of training in all.
        time_budget: let the learning rate fall over this many seconds of training, and stop then. Set max_epochs to
            more than fit; no two such runs are alike.
        patience: stop after this many epochs without a better validation loss.
        valid_interval: epochs between validations; each gives a row of metrics.csv and writes the checkpoints.
        precision: bfloat16 rounds products inside the network, whose first and last layers and sums between its parts
            stay in float32.
        tf32: whether matrix products of training steps may round float32 to TF32 on a GPU; validation never does.
        compile: whether torch.compile compiles the repeated parts of the network.
        channels_last: whether channels are contiguous in memory, which tensor cores like.
        resident: whether all frames are kept on the GPU; null for wherever they take at most half of its free memory.
        dtype: of the weights.
        device: auto (a GPU if there is one), cpu, cuda or cuda:1.
        seed: of initial weights and order of the batches.
        threads: of torch on the CPU; results are bitwise reproducible for a given number.
    """

    train: list[str]
    output: str
    valid: list[str] | None = None
    test: list[str] | None = None
    valid_fraction: float = 0.1
    model: dict[str, Any] = field(default_factory=lambda: {"name": "sinenet"})
    init_from: str | None = None
    history: int = 4
    bundle: int = 1
    delta: bool = False
    loss: ErrorKind = "scaled_l2"
    unroll: Unrolling = field(default_factory=Unrolling)
    valid_steps: int = 1
    augment: list[str] = field(default_factory=list)
    window_stride: int = 1
    optimizer: OptimizerSettings = field(
        default_factory=lambda: OptimizerSettings(
            learning_rate=5e-4, warmup=0.1, weight_decay=1e-5, clip_norm=1.0, ema_decay=0.999
        )
    )
    batch_size: int = 32
    max_epochs: int = 50
    max_steps: int | None = None
    max_time: float | None = None
    time_budget: float | None = None
    patience: int | None = None
    valid_interval: int = 1
    precision: Literal["float32", "bfloat16"] = "float32"
    tf32: bool = False
    compile: bool = False
    channels_last: bool = False
    resident: bool | None = None
    dtype: Literal["float32", "float64"] = "float32"
    device: str = "auto"
    seed: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("history", "bundle", "valid_steps", "window_stride", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"got {name}={getattr(self, name)}; it must be at least 1")
        if self.optimizer.name in ("muon", "normuon"):
            raise ValueError(f"got the optimizer {self.optimizer.name}; it is for matrices, and these are convolutions")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"got threads={self.threads}; it must be at least 1")


def run(config: Config) -> None:
    """Train, or continue, the run that `config` describes.

    Raises:
        ValueError: if the configuration, the data or the run folder do not fit together, or the training diverges.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    fabric = launch(config.device, bfloat16=config.precision == "bfloat16")
    folder = Path(config.output)
    console = Console(quiet=not fabric.is_global_zero)
    with leaving_together(fabric), Logs(folder, console, to_file=fabric.is_global_zero):
        with console.status("reading trajectories"):
            train_data, valid_data = read_data(config)
        train(config, train_data, valid_data, fabric=fabric, folder=folder, console=console)
        if config.test is not None and fabric.is_global_zero:
            evaluate_fields.run(
                evaluate_fields.Config(
                    checkpoint=str(folder / "best"),
                    data=config.test,
                    output=str(folder / "test"),
                    device=str(fabric.device),
                )
            )


def train(
    config: Config,
    train_data: Trajectories,
    valid_data: Trajectories,
    *,
    fabric: Fabric,
    folder: Path,
    console: Console,
) -> Progress:
    """Fit, and say what came out."""
    torch.manual_seed(config.seed)
    surrogate = prepare(config, train_data).to(device=fabric.device, dtype=getattr(torch, config.dtype))
    check_alike(valid_data, surrogate, "validation")
    conditions = list(surrogate.parameters_normalisation)
    train_data, valid_data = train_data.with_parameters(conditions), valid_data.with_parameters(conditions)
    surrogate.channels_last = config.channels_last
    if config.compile:
        surrogate.compile_regions()
    augmentation = None
    if config.augment:
        names = symmetries(config.augment, train_data)
        augmentation = Augmentation(names, fields=train_data.fields, grid=train_data.grid, at=train_data.at)
    objective = FieldObjective(train_data.fields, kind=config.loss, unrolling=config.unroll, augmentation=augmentation)
    steps = {"train": config.unroll.steps, "valid": config.valid_steps}
    loaders = {
        part: make_loader(config, data, config.history + steps[part] * config.bundle, fabric=fabric, part=part)
        for part, data in (("train", train_data), ("valid", valid_data))
    }
    name = config.model.get("name", "sinenet") if config.init_from is None else read_surrogate_config(
        config.init_from)["model"]  # fmt: skip
    num_weights = sum(parameter.numel() for parameter in surrogate.parameters())
    sizes = f"{len(loaders['train'].items)} windows of {len(train_data.frames)} trajectories"
    about = f"{name} ({num_weights} weights) on {sizes}, {len(loaders['valid'].items)} windows for validation"
    logger.info("%s; %s, %d process(es), torch %s", about, fabric.device, fabric.world_size, torch.__version__)
    console.print(f"[bold]{about}[/bold]")

    if fabric.is_global_zero and not (folder / "last" / "training_state.pt").exists():
        text = yaml.safe_dump(plain(dataclasses.asdict(config)), sort_keys=False, allow_unicode=True)
        atomic_write(folder / "config.yaml", lambda path: path.write_text(text, encoding="utf-8"))
    settings = plain(dataclasses.asdict(config))
    fingerprint = {
        **{key: value for key, value in flatten(settings).items() if key.split(".")[0] not in FREE_SETTINGS},
        "network": json.dumps(surrogate.network.config, sort_keys=True),
        "training data": digest(train_data),
        "validation data": digest(valid_data),
    }
    with ProgressBar(console) as reporter:
        progress = fit(
            surrogate,
            objective,
            train=loaders["train"],
            valid=loaders["valid"],
            fabric=fabric,
            folder=folder,
            settings=LoopSettings(
                max_epochs=config.max_epochs,
                max_steps=config.max_steps,
                max_time=config.max_time,
                time_budget=config.time_budget,
                patience=config.patience,
                valid_interval=config.valid_interval,
                recorded=False,
                tf32=config.tf32,
                seed=config.seed,
                optimizer=config.optimizer,
            ),
            save=functools.partial(save, trained_on=digest(train_data)),
            fingerprint=fingerprint,
            reporter=reporter if fabric.is_global_zero else None,
        )
    console.print(summary(progress, objective, folder))
    return progress


def read_data(config: Config) -> tuple[Trajectories, Trajectories]:
    """Trajectories to train on, and to validate with."""
    data = read_trajectories(config.train)
    if config.valid is not None:
        return data, read_trajectories(config.valid)
    total = len(data.frames)
    held_out = max(round(config.valid_fraction * total), 1)
    if not 0 < config.valid_fraction < 1 or held_out >= total:
        raise ValueError(
            f"got {total} trajectories and valid_fraction={config.valid_fraction}; neither training nor validation "
            "may be empty: give more trajectories, or files in valid"
        )
    return data.part(0, total - held_out), data.part(total - held_out, total)


def make_loader(config: Config, data: Trajectories, length: int, *, fabric: Fabric, part: str) -> Loader:
    """Batches of this process."""
    windows = Windows(data, length, stride=config.window_stride if part == "train" else 1,
                      device=fabric.device if is_resident(config, data, fabric.device) else None)  # fmt: skip
    ones = [1] * len(windows.items)
    sampler = GraphBatchSampler(
        ones,
        ones,
        batch_size=config.batch_size,
        shuffle=part == "train",
        seed=config.seed,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    return Loader(windows.items, sampler, collate=windows.collate, device=fabric.device, describe=windows.describe)


def is_resident(config: Config, data: Trajectories, device: torch.device) -> bool:
    """Whether the frames are kept on the device."""
    if device.type != "cuda" or config.resident is not None:
        return bool(config.resident) or device.type != "cuda"
    free, _ = torch.cuda.mem_get_info(device)
    return data.frames.numel() * data.frames.element_size() < free / 2


def save(model: torch.nn.Module, folder: Path, metadata: Mapping[str, Any], *, trained_on: str) -> None:
    """Write a checkpoint folder."""
    assert isinstance(model, Surrogate)
    finite = {key: value for key, value in metadata.items() if math.isfinite(value)}
    save_surrogate(model, folder, metadata={**finite, "training_data": trained_on})


def summary(progress: Progress, objective: FieldObjective, folder: Path) -> Table:
    """Table of the best epoch's validation errors."""
    best = progress.best
    title = f"{folder / 'best'}: epoch {best['epoch']} of {progress.epoch} (stopped by {progress.stopped})"
    table = Table(title=title, title_justify="left")
    for column in ("validation", "MAE", "RMSE", "unit"):
        table.add_column(column, justify="left" if column in ("validation", "unit") else "right")
    for target, unit in zip(objective.targets, objective.units, strict=True):
        table.add_row(target, *(f"{best[f'valid_{target}_{error}']:.4g}" for error in ("mae", "rmse")), unit)
    table.add_section()
    table.add_row(f"{objective.kind}, normalised", f"{best['valid_loss']:.4f}", "", "1")
    return table
