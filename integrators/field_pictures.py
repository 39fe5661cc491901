"""Pictures and films of fields: space-time maps, conservation, phase portraits, spectra, the fractal of collisions.

All return matplotlib figures that need no window. Films are written frame by frame, and only the curve is changed, so
that the time is linear in the number of frames.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.animation import FFMpegWriter, PillowWriter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sciml.files import atomic_write
from sciml.integrators.field_run import FieldRun
from sciml.integrators.kink_collisions import Sweep

Array = NDArray[Any]


def space_time_map(run: FieldRun, *, half_width: float | None = None) -> Figure:
    """φ over x and t, in colours that are white half way between its least and largest value."""
    figure = _figure(6, 5)
    axes = figure.subplots()
    shown = np.abs(run.x) <= (half_width or np.inf)
    image = axes.pcolormesh(
        run.x[shown], run.t, _line(run)[:, shown], cmap="RdBu_r", shading="nearest", rasterized=True
    )
    figure.colorbar(image, ax=axes, label="φ")
    axes.set_xlabel("x")
    axes.set_ylabel("t")
    return figure


def conservation(run: FieldRun) -> Figure:
    """Relative error of the energy, and changes of momentum and topological charge, over time."""
    figure = _figure(6, 4)
    axes = figure.subplots()
    total = run.energy + run.absorbed
    curves = {"|E/E₀ − 1|": np.abs(total / total[0] - 1)}
    for axis, values in zip("xy", run.momentum.T, strict=False):
        curves[f"|P − P₀|, {axis}" if run.momentum.shape[1] > 1 else "|P − P₀|"] = np.abs(values - values[0])
    if run.topological_charge is not None:
        curves["|Q − Q₀|"] = np.abs(run.topological_charge - run.topological_charge[0])
    for label, values in curves.items():
        axes.semilogy(run.t, np.maximum(values, 1e-17), label=label)
    axes.set_xlabel("t")
    axes.set_ylabel("change")
    axes.legend()
    return figure


def phase_portrait(run: FieldRun, *, x: float = 0.0) -> Figure:
    """φ against φ_t at the grid point that is nearest to x."""
    figure = _figure(5, 4.5)
    axes = figure.subplots()
    at = int(np.argmin(np.abs(run.x - x)))
    axes.plot(_line(run)[:, at], _line(run, "pi")[:, at], linewidth=0.8)
    axes.set_xlabel(f"φ(x = {run.x[at]:.3g})")
    axes.set_ylabel("φ_t")
    return figure


def spectrum(run: FieldRun, *, x: float = 0.0, mass: float | None = None) -> Figure:
    """Power spectrum of φ in time at the grid point nearest to x; a line at the mass, below which nothing radiates."""
    figure = _figure(6, 4)
    axes = figure.subplots()
    at = int(np.argmin(np.abs(run.x - x)))
    values = _line(run)[:, at] - _line(run)[:, at].mean()
    power = np.abs(np.fft.rfft(values * np.hanning(values.size))) ** 2
    axes.semilogy(2 * np.pi * np.fft.rfftfreq(values.size, run.interval), power + 1e-300, linewidth=0.8)
    axes.set_ylim(power.max() * 1e-12, power.max() * 3)
    if mass is not None:
        axes.axvline(mass, color="gray", linestyle="--", label="mass")
        axes.legend()
    axes.set_xlabel("ω")
    axes.set_ylabel("power")
    return figure


def collision_fractal(sweep: Sweep) -> Figure:
    """φ at the middle over time and velocity, and the number of bounces before kinks escape."""
    figure = _figure(7, 6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    center = sweep.readings[:, :, 0].T
    image = above.pcolormesh(
        sweep.velocities, sweep.t, center, cmap="RdBu_r", vmin=-2, vmax=2, shading="nearest", rasterized=True
    )
    figure.colorbar(image, ax=above, label="φ(0, t)")
    above.set_ylabel("t")
    outcomes = sweep.outcomes()
    bounces = np.array([one.bounces if one.kind == "escape" else np.nan for one in outcomes])
    below.scatter(sweep.velocities, bounces, s=4)
    captured = [one.kind == "capture" for one in outcomes]
    below.scatter(sweep.velocities[captured], np.zeros(sum(captured)), s=4, color="gray")
    below.set_ylim(-0.5, 6.5)
    below.set_ylabel("bounces\n(0: capture)")
    below.set_xlabel("velocity")
    return figure


def write_film(
    run: FieldRun,
    path: str | Path,
    *,
    every: int = 1,
    frames_per_second: int = 25,
    half_width: float | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """φ(x) over time, or φ(x, y), as .gif or, where ffmpeg is installed, .mp4.

    Args:
        run: of which every `every`-th frame is shown.
        path: of the film; one that was there stays until the new one is whole.
        every: saved frame.
        frames_per_second: of the film.
        half_width: shows |x| up to here.
        on_progress: called with the number of written frames and their total.

    Raises:
        ValueError: for other suffixes, or .mp4 without ffmpeg.
    """
    path = Path(path)
    writers = {".gif": PillowWriter, ".mp4": FFMpegWriter}
    if path.suffix not in writers:
        raise ValueError(f"got {path.name!r}; films are .gif or .mp4")
    if path.suffix == ".mp4" and not FFMpegWriter.isAvailable():
        raise ValueError("ffmpeg is not installed, which .mp4 needs; install it, or write a .gif")
    figure = _figure(6, 4)
    figure.set_layout_engine("none")
    axes = figure.subplots()
    chosen = range(0, len(run.t), every)
    low, high = float(run.phi.min()), float(run.phi.max())
    title = axes.set_title("t = 0")
    axes.set_xlabel("x")
    shown = np.abs(run.x) <= (half_width or np.inf)
    if run.phi.ndim == 2:
        (curve,) = axes.plot(run.x[shown], run.phi[0, shown], linewidth=1.2)
        axes.set_ylim(low - 0.05 * (high - low + 1e-9), high + 0.05 * (high - low + 1e-9))
        axes.set_ylabel("φ")
    else:
        corner = (run.coordinates[0][0], run.coordinates[0][-1], run.coordinates[1][0], run.coordinates[1][-1])
        image = axes.imshow(run.phi[0].T, cmap="RdBu_r", vmin=low, vmax=high, origin="lower", extent=corner)
        axes.set_ylabel("y")

    def write(temporary: Path) -> None:
        writer = writers[path.suffix](fps=frames_per_second)
        with writer.saving(figure, str(temporary), dpi=100):
            for number, frame in enumerate(chosen, start=1):
                if run.phi.ndim == 2:
                    curve.set_ydata(run.phi[frame, shown])
                else:
                    image.set_data(run.phi[frame].T)
                title.set_text(f"t = {run.t[frame]:.1f}")
                writer.grab_frame()
                if on_progress is not None:
                    on_progress(number, len(chosen))

    atomic_write(path, write)


def _line(run: FieldRun, name: str = "phi") -> Array:
    """Values along x; of a plane at the middle of y."""
    values: Array = getattr(run, name)
    return values if values.ndim == 2 else values[:, :, values.shape[2] // 2]


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
