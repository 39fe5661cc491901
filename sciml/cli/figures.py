"""Figures of the command line: made without a window system, written atomically."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sciml.files import atomic_write


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)  # no window system needed, and pyplot's global state stays untouched
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write it as PNG."""
    atomic_write(path, lambda temporary: figure.savefig(temporary, dpi=150))
