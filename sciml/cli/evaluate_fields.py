"""`sciml evaluate` of a surrogate: its errors on trajectories, one step ahead and rolled out."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from sciml.cli.field_figures import save_error_curves, save_invariants, save_spectra
from sciml.cli.field_files import read_trajectories
from sciml.cli.train_fields_setup import check_alike
from sciml.environment import describe_environment, sha256
from sciml.files import atomic_write
from sciml.model_folder import find_folder
from sciml.pde.checkpoint import WEIGHTS, load_surrogate
from sciml.pde.evaluation import OneStepErrors, RolloutErrors, one_step_errors, rollout_errors
from sciml.pde.field_data import Trajectories
from sciml.pde.surrogate import Surrogate

DESCRIPTION = "compare a trained surrogate with trajectories, one step ahead and rolled out"


@dataclass
class Config:
    """Evaluate a surrogate on trajectories, in physical units.

    Attributes:
        checkpoint: a checkpoint folder, such as runs/ins64/best, or the name of shipped weights.
        data: files of trajectories; patterns are expanded.
        output: folder for evaluation.json, errors.png, spectra.png and invariants.png.
        steps: frames to roll out; by default as many as the trajectories have.
        device: where the surrogate runs: cpu, cuda, cuda:1.
        dtype: float32 or float64; by default that of the checkpoint.
        batch_size: windows, or trajectories, at a time.
    """

    checkpoint: str
    data: list[str]
    output: str = "evaluation"
    steps: int | None = None
    device: str = "cpu"
    dtype: str | None = None
    batch_size: int = 16


def run(config: Config) -> None:
    """Evaluate, print the tables, and write the report and figures to the output folder."""
    console = Console()
    folder = find_folder(config.checkpoint, WEIGHTS)
    surrogate = load_surrogate(folder, device=config.device, dtype=config.dtype)
    data = read_trajectories(config.data)
    about = {
        "checkpoint": {"folder": str(folder), "sha256": sha256(folder / "model.safetensors")},
        "data": config.data,
        "trajectories": len(data.frames),
    }
    evaluate(surrogate, data, about=about, output=Path(config.output), console=console, steps=config.steps,
             batch_size=config.batch_size)  # fmt: skip


def evaluate(
    surrogate: Surrogate,
    data: Trajectories,
    *,
    about: dict[str, Any],
    output: Path,
    console: Console,
    steps: int | None = None,
    batch_size: int = 16,
) -> tuple[OneStepErrors, RolloutErrors, torch.Tensor]:
    """Measure, print and write; returns the errors and the frames of the rollout."""
    check_alike(data, surrogate, "given")
    surrogate.network.check_grid(*data.grid.shape)
    data = data.with_parameters(list(surrogate.parameters_normalisation))
    device, dtype = surrogate.mean.device, surrogate.mean.dtype
    step = in_precision_of(surrogate)
    with Progress(console=console, transient=True) as progress:
        windows = data.frames.shape[0] * (data.frames.shape[1] - surrogate.history)
        first = progress.add_task("one step", total=windows)
        second = progress.add_task("rollouts", total=len(data.frames))
        options: dict[str, Any] = {"history": surrogate.history, "device": device, "batch_size": batch_size}
        single = one_step_errors(step, data, progress=lambda done: progress.advance(first, done), **options)
        rolled, frames = rollout_errors(
            step, data, steps=steps, progress=lambda done: progress.advance(second, done), **options
        )
    names = [field.name for field in data.fields]
    report = {
        **about,
        "fields": names,
        "frame_time": data.frame_time,
        "dtype": str(dtype).removeprefix("torch."),
        "device": str(device),
        "one_step": asdict(single),
        "rollout": {**asdict(rolled), "mean_scaled_l2": rolled.mean_scaled_l2},
        **describe_environment(),
    }
    text = json.dumps(numbers_only(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    atomic_write(output / "evaluation.json", lambda path: path.write_text(text, encoding="utf-8"))
    save_error_curves(output / "errors.png", rolled, names, frame_time=data.frame_time)
    save_spectra(output / "spectra.png", rolled, names)
    save_invariants(output / "invariants.png", rolled, frame_time=data.frame_time)
    console.print(error_table(single, rolled, names, data.frame_time))
    for origin, at in list(rolled.diverged.items())[:5]:
        console.print(f"[red]diverged[/red] at step {at}: {origin}", highlight=False)
    if len(rolled.diverged) > 5:
        console.print(f"and {len(rolled.diverged) - 5} more trajectories diverged")
    console.print(f"written: {output}/evaluation.json, errors.png, spectra.png, invariants.png", highlight=False)
    return single, rolled, frames


def in_precision_of(surrogate: Surrogate) -> Callable[..., torch.Tensor]:
    """The surrogate as a step of float32 fields."""
    dtype = surrogate.mean.dtype

    def step(u: torch.Tensor, parameters: torch.Tensor | None = None) -> torch.Tensor:
        return surrogate(u.to(dtype), None if parameters is None else parameters.to(dtype)).to(u.dtype)

    return step


def error_table(single: OneStepErrors, rolled: RolloutErrors, names: list[str], frame_time: float) -> Table:
    """Errors by field."""
    steps = len(rolled.scaled_l2)
    reached = sum(number > 0 for number in rolled.survivors)  # by at least one of the rollouts
    table = Table(title="scaled L2 in physical units", title_justify="left")
    for heading in ("field", "one step", "persistence", f"rollout, {steps} steps", "persistence", "VRMSE, last step"):
        table.add_column(heading, justify="left" if heading == "field" else "right")
    columns = [
        single.scaled_l2,
        single.persistence,
        [sum(row) / reached for row in zip(*rolled.scaled_l2[:reached], strict=True)],
        [sum(row) / steps for row in zip(*rolled.persistence, strict=True)],
        rolled.vrmse[-1] if reached == steps else [],
    ]
    for number, name in enumerate(names):
        table.add_row(name, *(f"{column[number]:.4f}" if column else "diverged" for column in columns))
    table.add_section()
    table.add_row("mean", *(f"{sum(column) / len(column):.4f}" if column else "diverged" for column in columns))
    caption = ""
    if reached < steps:
        caption = f"no rollout goes beyond step {reached} of {steps}; "
    elif rolled.diverged:
        caption = f"{len(rolled.diverged)} rollouts diverged, which count until they do; "
    table.caption = (
        f"{caption}correlation above 0.8 for {rolled.correlation_time:.3g} of {steps * frame_time:.3g} time units "
        f"(mean), lost by {rolled.decorrelated:.0%} of the trajectories"
    )
    return table


def numbers_only(value: Any) -> Any:
    """The same with null for what is no number."""
    if isinstance(value, dict):
        return {key: numbers_only(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [numbers_only(item) for item in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value
