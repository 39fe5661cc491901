"""`sciml rollout`: what a surrogate makes of the first frames of trajectories, beside what really came."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from sciml.cli.evaluate_fields import evaluate
from sciml.cli.field_figures import save_animation
from sciml.cli.field_files import made_trajectories, read_trajectories
from sciml.environment import sha256
from sciml.files import atomic_write
from sciml.model_folder import find_folder
from sciml.pde.checkpoint import WEIGHTS, load_surrogate, read_surrogate_config

FIRST_WORD = "checkpoint"  # the field that a first word without dashes fills


@dataclass
class Config:
    """Roll a surrogate out; `sciml rollout runs/ins64/best --data test.hdf5` is `--checkpoint runs/ins64/best`.

    `sciml rollout sinenet-ins64` needs no data: the solver makes them.

    Attributes:
        checkpoint: a checkpoint folder, such as runs/ins64/best, or the name of shipped weights.
        data: files of trajectories, whose first frames are where rollouts start; for shipped weights the solver makes
            new ones if there are none.
        output: folder for rollout.gif (rollout.mp4 with ffmpeg), rollout.npz, evaluation.json and figures.
        steps: frames to predict; by default as many as the trajectories have.
        trajectories: how many are rolled out, the first ones; null for all in the files.
        seed: of the trajectories that the solver makes.
        shown: number of the trajectory in the animation.
        device: where the surrogate runs: cpu, cuda, cuda:1.
        dtype: float32 or float64; by default that of the checkpoint.
        batch_size: trajectories at a time.
    """

    checkpoint: str
    data: list[str] | None = None
    output: str = "rollout"
    steps: int | None = None
    trajectories: int | None = 16
    seed: int = 0
    shown: int = 0
    device: str = "cpu"
    dtype: str | None = None
    batch_size: int = 16


def run(config: Config) -> None:
    """Roll out, and write frames, errors and an animation."""
    console = Console()
    folder = find_folder(config.checkpoint, WEIGHTS)
    surrogate = load_surrogate(folder, device=config.device, dtype=config.dtype)
    if config.trajectories is not None and config.trajectories < 1:
        raise ValueError(f"got trajectories={config.trajectories}; it must be at least 1, or null for all")
    if config.data:
        data = read_trajectories(config.data)
        if config.trajectories is not None:
            data = data.part(0, config.trajectories)
    else:
        flow = read_surrogate_config(folder).get("metadata", {}).get("card", {}).get("flow")
        if flow is None:
            raise ValueError(
                f"nobody knows which equation {config.checkpoint} was trained on, so that no trajectories can be made; "
                "give files with --data, which `sciml generate` writes"
            )
        with console.status("computing trajectories"):
            data = made_trajectories(flow, surrogate.grid.shape[0], config.trajectories or 16, seed=config.seed)
    if not 0 <= config.shown < len(data.frames):
        raise ValueError(f"got shown={config.shown}; there are the trajectories 0 to {len(data.frames) - 1}")
    output = Path(config.output)
    about = {"checkpoint": {"folder": str(folder), "sha256": sha256(folder / "model.safetensors")},
             "data": config.data, "trajectories": len(data.frames)}  # fmt: skip
    _, errors, frames = evaluate(
        surrogate, data, about=about, output=output, console=console, steps=config.steps, batch_size=config.batch_size
    )
    true = data.frames[:, surrogate.history : surrogate.history + frames.shape[1]]

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, predicted=frames.numpy(), true=true.numpy(), frame_time=data.frame_time,
                     fields=np.array([field.name for field in data.fields]))  # fmt: skip

    atomic_write(output / "rollout.npz", write)
    with console.status("drawing the animation"):
        movie = save_animation(
            output,
            true[config.shown],
            frames[config.shown],
            [field.name for field in data.fields],
            frame_time=data.frame_time,
            diverged_at=errors.diverged.get(data.origins[config.shown], 0),
        )
    console.print(f"written: {movie}, {output / 'rollout.npz'}", highlight=False)
