"""Figures of the demo: two trajectories of one molecule side by side."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from sciml.cli.demo_analysis import Trajectory, densities
from sciml.cli.figures import new_figure, save_figure

# Reference black and behind, potential in colour and in front: where they agree, both stay visible.
STYLES = ({"color": "0.25", "linewidth": 2.2}, {"color": "tab:orange", "linewidth": 1.2})
SHOWN = 0.3  # ps of potential and kinetic energy; more would be a solid block
HIGHEST_WAVENUMBER = 4000.0  # cm^-1; nothing vibrates faster than H2


def plot_energies(path: Path, runs: Mapping[str, Trajectory]) -> None:
    """The first potential and kinetic energies of each run, and below the whole total energy on its own scale."""
    figure = new_figure(4.6 * len(runs), 5.6)
    axes = figure.subplots(2, len(runs), squeeze=False, sharey="row", height_ratios=[3, 2])
    for (name, run), (above, below) in zip(runs.items(), axes.T, strict=True):
        time = 1e-3 * run.time
        origin = run.potential.min()
        above.plot(time, run.potential - origin, label="potential", color="tab:blue", linewidth=1.0)
        above.plot(time, run.kinetic, label="kinetic", color="tab:red", linewidth=1.0)
        above.plot(time, run.total - origin, label="total", color="black", linewidth=1.4)
        above.set_xlim(time[0], min(time[0] + SHOWN, time[-1]))
        above.set_title(f"{name}: NVE at {run.mean_temperature[0]:.0f} K")
        per_atom = 1e3 * (run.total - run.total.mean()) / len(run.atoms)
        slope, error = run.drift
        below.plot(time, per_atom, color="black", linewidth=0.7)
        below.plot(time, 1e-3 * slope * (run.time - run.time.mean()), color="tab:orange", linewidth=1.6)
        below.set_title(f"drift {slope:+.4f} ± {error:.4f} meV/atom/ps", fontsize=10)
        below.set_xlabel("time (ps)")
    axes[0, 0].set_ylabel("energy (eV)")
    axes[1, 0].set_ylabel("total - mean\n(meV/atom)")
    axes[0, 0].set_ylim(0, 1.25 * max((run.total - run.potential.min()).max() for run in runs.values()))
    axes[0, -1].legend(loc="upper right", ncols=3, fontsize=9)
    for ax in axes.flat:
        _grid(ax)
    save_figure(figure, path)


def plot_spectra(path: Path, runs: Mapping[str, Trajectory], kinds: Mapping[str, np.ndarray]) -> None:
    """Vibrational spectrum of all atoms, and below it those of the bonds of each kind."""
    figure = new_figure(8.5, 2.6 + 1.25 * len(kinds))
    axes = figure.subplots(1 + len(kinds), 1, sharex=True, height_ratios=[2.2] + [1] * len(kinds))
    for style, (name, run) in zip(STYLES, runs.items(), strict=True):
        wavenumbers, spectrum = run.spectrum
        axes[0].plot(wavenumbers, 1e3 * spectrum, label=name, **style)
        for ax, bonds in zip(axes[1:], kinds.values(), strict=True):
            wavenumbers, spectrum = run.stretch_spectrum(bonds)
            ax.plot(wavenumbers, 1e3 * spectrum, **style)
    axes[0].set_title("Vibrational spectrum: power of the mass-weighted velocities")
    axes[0].legend(loc="upper center")
    for ax, kind in zip(axes[1:], kinds, strict=True):
        ax.text(0.5, 0.8, f"{_dash(kind)} bond length only", transform=ax.transAxes, fontsize=9, ha="center")
    axes[-1].set(xlim=(0, HIGHEST_WAVENUMBER), xlabel="wavenumber (cm$^{-1}$)")
    figure.supylabel("spectral density ($10^{-3}$ cm)", fontsize=10)
    for ax in axes:
        ax.set_ylim(0, None)
        _grid(ax)
    save_figure(figure, path)


def plot_bond_lengths(path: Path, runs: Mapping[str, Trajectory], kinds: Mapping[str, np.ndarray]) -> None:
    """Distribution of the bond lengths, one panel a kind of bond."""
    figure = new_figure(2.9 * len(kinds), 3.2)
    for ax, (kind, bonds) in zip(np.atleast_1d(figure.subplots(1, len(kinds))), kinds.items(), strict=True):
        lengths = [run.bond_lengths(bonds) for run in runs.values()]
        centres, *curves = densities(lengths[0], lengths[1])
        for style, name, length, curve in zip(STYLES, runs, lengths, curves, strict=True):
            ax.plot(centres, curve, label=f"{name}: {length.mean():.4f} Å", drawstyle="steps-mid", **style)
        ax.set(title=f"{_dash(kind)} ({len(bonds)} bond{'s' * (len(bonds) > 1)})", xlabel="bond length (Å)")
        ax.set_ylim(0, 1.45 * max(curve.max() for curve in curves))
        ax.legend(fontsize=8, frameon=False, loc="upper center")
        _grid(ax)
    figure.supylabel("density (Å$^{-1}$)", fontsize=10)
    save_figure(figure, path)


def _dash(kind: str) -> str:
    return kind.replace("-", "\N{EN DASH}")


def _grid(ax: Axes) -> None:
    ax.grid(True, alpha=0.25, linewidth=0.5)
