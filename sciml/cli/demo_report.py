"""What comes out of the demo: numbers, figures, summary.json and two tables."""

import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.table import Table

from sciml.cli.demo_analysis import Trajectory, bonds_by_kind, densities, overlap, same_peak
from sciml.cli.demo_plots import plot_bond_lengths, plot_energies, plot_spectra
from sciml.cli.demo_stages import Stages
from sciml.environment import describe_environment
from sciml.files import atomic_write

# What the full run is to reach: name: (below, unit).
GOALS = {"force MAE": (40.0, "meV/Å"), "NVE drift": (0.5, "meV/atom/ps")}


def compare(runs: Mapping[str, Path], folder: Path, *, start: float) -> dict[str, Any]:
    """Analyse two simulations, the reference first, from `start` (fs) on; draw them; return numbers as JSON values."""
    trajectories = {name: Trajectory.load(path, start=start) for name, path in runs.items()}
    reference, potential = trajectories.values()
    kinds = bonds_by_kind(reference.atoms)
    plot_energies(folder / "energies.png", trajectories)
    plot_spectra(folder / "spectra.png", trajectories, kinds)
    plot_bond_lengths(folder / "bond_lengths.png", trajectories, kinds)
    nve = {}
    for name, trajectory in trajectories.items():
        result = json.loads((runs[name] / "result.json").read_text(encoding="utf-8"))
        (drift, drift_error), (temperature, temperature_error) = trajectory.drift, trajectory.mean_temperature
        nve[name] = {
            "drift_meV_per_atom_per_ps": drift,
            "drift_error_meV_per_atom_per_ps": drift_error,
            "temperature_K": temperature,
            "temperature_error_K": temperature_error,
            "ms_per_step": result["ms_per_step"],
        }
    bonds = {}
    for kind, pairs in kinds.items():
        lengths = {name: trajectory.bond_lengths(pairs) for name, trajectory in trajectories.items()}
        stretch = same_peak(*(trajectory.stretch_spectrum(pairs) for trajectory in trajectories.values()))
        bonds[kind] = {
            "bonds": len(pairs),
            "mean_length_A": {name: float(values.mean()) for name, values in lengths.items()},
            "distribution_overlap": overlap(*densities(*lengths.values())),
            "stretch_per_cm": {
                name: round(top, 2) if top > 0 else None for name, top in zip(runs, stretch, strict=True)
            },
        }
    spectra_overlap = overlap(*reference.spectrum, potential.spectrum[1])
    return {"nve": nve, "spectra_overlap": spectra_overlap, "bonds": bonds}


def write_summary(folder: Path, content: Mapping[str, Any], stages: Stages) -> dict[str, Any]:
    """Write summary.json: the content, the test errors, the goals, seconds, versions and hardware; return it."""
    evaluation = json.loads((folder / "evaluation" / "evaluation.json").read_text(encoding="utf-8"))
    environment = describe_environment()
    environment["versions"]["tblite"] = metadata.version("tblite")
    summary = {
        **content,
        "test_errors": evaluation["overall"],
        "goals": {name: {"below": bound, "unit": unit} for name, (bound, unit) in GOALS.items()},
        "seconds": stages.seconds,
        "total_seconds": round(sum(stages.seconds.values()), 2),
        **environment,
    }
    text = json.dumps(summary, indent=2, ensure_ascii=False) + "\n"
    atomic_write(folder / "summary.json", lambda path: path.write_text(text, encoding="utf-8"))
    return summary


def summary_table(summary: Mapping[str, Any]) -> Table:
    """Both methods side by side; it fits into 80 columns."""
    nve, errors = summary["nve"], summary["test_errors"]
    _, potential = nve
    table = Table(title="Ethanol: errors on the test structures, then MD at constant energy", title_justify="left")
    table.caption = (
        "An isolated molecule hardly shares its energy among its vibrations within picoseconds: positions of peaks "
        "and mean lengths are to be compared, less so heights of peaks and widths of distributions."
    )
    table.add_column("")
    for name in nve:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("unit")
    table.add_column("goal")

    force_mae, drift = 1e3 * errors["forces"]["mae"], nve[potential]["drift_meV_per_atom_per_ps"]
    table.add_row("force MAE", "", f"{force_mae:.1f}", "meV/Å", _verdict("force MAE", force_mae))
    table.add_row("energy MAE", "", f"{1e3 * errors['energy_per_atom']['mae']:.2f}", "meV/atom", "")
    table.add_section()
    table.add_row("NVE drift", *map(_drift, nve.values()), "meV/atom/ps", _verdict("NVE drift", drift))
    table.add_row("temperature", *(f"{run['temperature_K']:.0f}" for run in nve.values()), "K", "")
    table.add_row("time per step", *(f"{run['ms_per_step']:.1f}" for run in nve.values()), "ms", "")
    table.add_section()
    for kind, bond in summary["bonds"].items():
        table.add_row(f"{kind} length", *(f"{bond['mean_length_A'][name]:.4f}" for name in nve), "Å", "same")
    table.add_section()
    for kind, bond in summary["bonds"].items():
        tops = ("no peak" if top is None else f"{top:.0f}" for top in bond["stretch_per_cm"].values())
        table.add_row(f"{kind} stretch", *tops, "1/cm", "same")
    table.add_row("spectra overlap", "", f"{100 * summary['spectra_overlap']:.0f}", "%", "")
    return table


def _drift(run: Mapping[str, float]) -> str:
    return f"{run['drift_meV_per_atom_per_ps']:+.4f}±{run['drift_error_meV_per_atom_per_ps']:.4f}"


def _verdict(goal: str, value: float) -> str:
    bound, _ = GOALS[goal]
    return f"< {bound:g} {'[green]✓[/green]' if abs(value) < bound else '[red]✗[/red]'}"


def times_table(summary: Mapping[str, Any]) -> Table:
    """Seconds of each stage."""
    table = Table(title="Time", title_justify="left")
    table.add_column("stage")
    table.add_column("s", justify="right")
    for title, seconds in summary["seconds"].items():
        table.add_row(title, f"{seconds:.0f}")
    table.add_section()
    table.add_row("all", f"{summary['total_seconds']:.0f}")
    return table
