"""metrics.csv and the learning-curve plot of a run."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from sciml.files import atomic_write

Row = Mapping[str, int | float]


def write_metrics(path: Path, rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Write the history of a run as CSV, atomically; NaN (no labels) becomes an empty cell.

    Floats are written with as many digits as they need to be read back exactly. There are no times in it, so that a
    run that was killed and continued leaves the same file as one that was not.
    """

    def cell(value: int | float) -> str:
        return "" if isinstance(value, float) and math.isnan(value) else repr(value)

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows([cell(row[column]) for column in columns] for row in rows)

    atomic_write(path, write)


def plot_learning_curve(path: Path, rows: Sequence[Row], *, targets: Sequence[str], units: Sequence[str]) -> None:
    """Plot the loss and each target's validation error against the epoch, on logarithmic axes, atomically."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    panels = [("loss", [("train_loss", "training"), ("valid_loss", "validation")])]
    for target, unit in zip(targets, units, strict=True):
        curves = [(f"valid_{target}_mae", "MAE"), (f"valid_{target}_rmse", "RMSE")]
        panels.append((f"{target.replace('_', ' ')} ({unit})", curves))

    figure = Figure(figsize=(4.2 * len(panels), 3.4), layout="constrained")
    FigureCanvasAgg(figure)  # no window system needed, and pyplot's global state stays untouched
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    epochs = [row["epoch"] for row in rows]
    for ax, (label, curves) in zip(axes, panels, strict=True):
        for column, name in curves:
            values = [row[column] for row in rows]
            if any(math.isfinite(value) and value > 0 for value in values):
                ax.plot(epochs, values, label=name, marker="o" if len(rows) < 2 else None, linewidth=1.4)
        ax.set(xscale="log", xlabel="epoch", title=label)
        ax.grid(True, which="both", alpha=0.25, linewidth=0.5)
        if ax.lines:
            ax.set_yscale("log")
            ax.legend(frameon=False)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter("{x:g}")  # plain numbers, not powers of ten
            axis.set_minor_formatter(NullFormatter())
    atomic_write(path, lambda temporary: figure.savefig(temporary, dpi=150))
