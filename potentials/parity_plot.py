"""Parity plots: prediction against reference, one panel a property."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sciml.potentials.evaluation import Comparison, EvaluationResult

_PANELS = {
    "energy_per_atom": ("energy per atom", "eV", 1e3, "meV"),
    "forces": ("force components", "eV/Å", 1e3, "meV/Å"),
    "stress": ("stress components", "eV/Å³", 1e3, "meV/Å³"),
}


def parity_plot(result: EvaluationResult, *, max_points: int = 20000) -> Figure:
    """Draw energy per atom, forces and stress, as far as they are present; colour is the density of points.

    Energies are relative to the mean reference, because absolute ones hide every error. Beyond `max_points` an evenly
    spaced part is drawn; MAE and RMSE are always those of all.
    """
    names = [name for name in _PANELS if name in result.comparisons]
    figure = Figure(figsize=(4.2 * len(names), 4.5), layout="constrained")
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        _panel(axes, name, result.comparisons[name], max_points)
    return figure


def save_parity_plot(result: EvaluationResult, path: str | Path) -> None:
    """Write the parity plot to `path`; its suffix is the format (png, pdf, svg)."""
    parity_plot(result).savefig(path, dpi=150)


def _panel(axes: Axes, name: str, comparison: Comparison, max_points: int) -> None:
    title, unit, factor, small_unit = _PANELS[name]
    origin = comparison.reference.mean() if name == "energy_per_atom" else 0.0
    drawn = np.linspace(0, len(comparison.reference) - 1, min(max_points, len(comparison.reference))).astype(int)
    x, y = comparison.reference[drawn] - origin, comparison.predicted[drawn] - origin
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    margin = 0.04 * (high - low) or 1.0
    limits = (low - margin, high + margin)

    bins = int(np.clip(np.sqrt(len(x)), 8, 60))
    counts, edges, _ = np.histogram2d(x, y, bins=bins, range=[limits, limits])
    cell_x, cell_y = (np.searchsorted(edges[1:-1], values, side="right") for values in (x, y))
    density = counts[cell_x, cell_y]
    order = np.argsort(density, kind="stable")  # the densest on top
    axes.plot(limits, limits, color="0.6", linewidth=0.8, zorder=0)
    axes.scatter(x[order], y[order], c=np.log(density[order]), s=6, cmap="viridis", linewidths=0, rasterized=True)

    errors = comparison.summary()
    text = (
        f"MAE {factor * errors.mae:.4g} {small_unit}\nRMSE {factor * errors.rmse:.4g} {small_unit}\nn = {errors.count}"
    )
    axes.text(0.04, 0.96, text, transform=axes.transAxes, va="top", fontsize=9)
    suffix = " - mean" if name == "energy_per_atom" else ""
    axes.set(xlim=limits, ylim=limits, box_aspect=1, title=title)
    axes.set(xlabel=f"reference{suffix} ({unit})", ylabel=f"predicted{suffix} ({unit})")
