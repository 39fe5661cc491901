"""Figures of rollouts: error curves, spectra, invariants, and fields side by side, moving."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib import animation
from matplotlib.artist import Artist
from torch import Tensor

from sciml.cli.figures import new_figure, save_figure
from sciml.files import atomic_write
from sciml.pde.evaluation import RolloutErrors


def save_error_curves(path: Path, errors: RolloutErrors, names: Sequence[str], *, frame_time: float) -> None:
    """Scaled L2, of persistence too, and correlation of each field against time."""
    figure = new_figure(8.4, 3.4)
    left, right = figure.subplots(1, 2)
    times = [(step + 1) * frame_time for step in range(len(errors.scaled_l2))]
    for number, name in enumerate(names):
        (line,) = left.plot(times, [row[number] for row in errors.scaled_l2], label=name)
        left.plot(times, [row[number] for row in errors.persistence], color=line.get_color(), linestyle=":")
        right.plot(times, [row[number] for row in errors.correlation], color=line.get_color(), label=name)
    left.set(xlabel="time", ylabel="scaled L2 (dotted: persistence)", yscale="log")
    right.set(xlabel="time", ylabel="correlation")
    right.axhline(0.8, color="gray", linewidth=0.8, linestyle="--")
    for axes in (left, right):
        axes.grid(True, which="both", alpha=0.25, linewidth=0.5)
    left.legend(frameon=False)
    if errors.diverged:
        left.set_title(
            f"{len(errors.diverged)} trajectories diverged, the first at step {min(errors.diverged.values())}"
        )
    save_figure(figure, path)


def save_spectra(path: Path, errors: RolloutErrors, names: Sequence[str]) -> None:
    """Spectra of the last frame: true, predicted, and of the error."""
    figure = new_figure(3.6 * len(names), 3.2)
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for number, (axes, name) in enumerate(zip(panels, names, strict=True)):
        # The mean, at wavenumber zero, has no place on a logarithmic axis.
        waves = errors.wavenumbers[1:]
        for values, label, style in (
            (errors.spectrum_true, "true", "k-"),
            (errors.spectrum_predicted, "predicted", "C0-"),
            (errors.spectral_error, "error", "C3--"),
        ):
            axes.plot(waves, values[number][1:], style, label=label, linewidth=1.2)
        axes.set(xscale="log", yscale="log", xlabel="wavenumber (1/length)", title=name)
        axes.grid(True, which="both", alpha=0.25, linewidth=0.5)
    panels[0].legend(frameon=False)
    save_figure(figure, path)


def save_invariants(path: Path, errors: RolloutErrors, *, frame_time: float) -> None:
    """What changes that should not, or should as the solver does."""
    names = list(errors.drift_true)
    figure = new_figure(3.2 * max(len(names), 1), 3.0)
    panels = figure.subplots(1, max(len(names), 1), squeeze=False)[0]
    for axes, name in zip(panels, names, strict=False):
        for values, label, style in (
            (errors.drift_true[name], "true", "k-"),
            (errors.drift_predicted[name], "predicted", "C0-"),
        ):
            axes.plot([(step + 1) * frame_time for step in range(len(values))], values, style, label=label)
        axes.set(xlabel="time", title=name if name == "divergence" else f"relative change of {name}")
        axes.grid(True, alpha=0.25, linewidth=0.5)
    panels[0].legend(frameon=False)
    save_figure(figure, path)


def save_animation(
    folder: Path, true: Tensor, predicted: Tensor, names: Sequence[str], *, frame_time: float, diverged_at: int = 0
) -> Path:
    """Each field of one trajectory: true, predicted, and their difference, frame by frame.

    Args:
        folder: for rollout.mp4, or rollout.gif where there is no ffmpeg.
        true: (times, fields, num_x, num_y).
        predicted: likewise; NaN from the step on at which it diverged.
        names: of the fields.
        frame_time: time between frames.
        diverged_at: step at which the rollout diverged; 0 if it did not.

    Returns:
        The file.
    """
    figure = new_figure(2.2 * len(names) + 0.4, 6.6)
    panels = figure.subplots(3, len(names), squeeze=False)
    images = []
    for column, name in enumerate(names):
        limits = [float(value) for value in torch.aminmax(true[:, column])]
        largest = (true[:, column] - predicted[:, column]).nan_to_num(0.0).abs().max()
        for row in range(3):
            axes = panels[row][column]
            low, high = limits if row < 2 else [-float(largest), float(largest)]
            image = axes.imshow(torch.zeros(true.shape[-1], true.shape[-2]), origin="lower", vmin=low, vmax=high,
                                cmap="viridis" if row < 2 else "RdBu_r")  # fmt: skip
            axes.set(xticks=[], yticks=[])
            if row == 0:
                axes.set_title(name)
            if column == 0:
                axes.set_ylabel(("true", "predicted", "difference")[row])
            images.append((image, row, column))
    title = figure.suptitle("")

    def draw(time: int) -> list[Artist]:
        gone = diverged_at and time + 1 >= diverged_at
        title.set_text(f"t = {(time + 1) * frame_time:.3g}" + f" (diverged at step {diverged_at})" * bool(gone))
        for image, row, column in images:
            shown = (true, predicted, predicted - true)[row][time, column]
            image.set_data(shown.T)  # x to the right
        return [image for image, _, _ in images]

    movie = animation.FuncAnimation(figure, draw, frames=len(true), blit=False)
    if shutil.which("ffmpeg"):
        path, writer = folder / "rollout.mp4", animation.FFMpegWriter(fps=5)
    else:
        path, writer = folder / "rollout.gif", animation.PillowWriter(fps=5)  # type: ignore[assignment]
    atomic_write(path, lambda temporary: movie.save(temporary, writer=writer, dpi=80))
    return path
