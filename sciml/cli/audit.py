"""`sciml audit`: what each tensor product can express, how equivariant it is and what it costs, side by side."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from rich import box
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from sciml.cli.figures import new_figure, save_figure
from sciml.environment import describe_environment
from sciml.files import atomic_write
from sciml.tensor_products import BACKENDS, TensorProductProblem, reachable
from sciml.tensor_products.audit import Audit, audit
from sciml.tensor_products.findings import (
    Finding,
    gain_shrinks_per_expressivity,
    grid_beats_fourier,
    odd_sums_need_vector_signals,
)

# A triple of irreps: the selection rules forbid it, the backend loses it, or the backend couples it.
STATES = {"forbidden by symmetry": "0.93", "lost by this product": "tab:orange", "couples": "tab:blue"}
MARKERS = dict(zip(BACKENDS, "osD^v", strict=True))


@dataclass
class Config:
    """Audit tensor products of one problem; the defaults show what sets the products apart at L = 2.

    Attributes:
        irreps_in1: irreps of x, with channels, such as 128x0e+128x1o.
        irreps_in2: irreps of y, such as the spherical harmonics of an edge, 0e+1o+2e.
        irreps_out: irreps of z to keep; by default all that the selection rules allow.
        mode: how channels meet: uvu, uuu or uvw.
        backends: which products; a product is audited on the irreps that it can reach.
        rank: of the product cp: a number of terms, or exact.
        output: folder for audit.json, interactability.png and cost.png.
        findings: whether to measure the three findings of The Price of Freedom (arXiv:2506.13523) as well.
        quick: fewer samples and timings.
        seed: of all random numbers.
    """

    irreps_in1: str = "16x0e+16x1o+16x2e"
    irreps_in2: str = "0e+1o+2e"
    irreps_out: str | None = None
    mode: str = "uvu"
    backends: list[str] = field(default_factory=lambda: list(BACKENDS))
    rank: int | str | None = None
    output: str = "runs/audit"
    findings: bool = True
    quick: bool = False
    seed: int = 0


def run(config: Config) -> None:
    """Audit, print the tables, and write audit.json, interactability.png and cost.png to the output folder.

    Raises:
        ValueError: for irreps, a mode, backends or a rank that do not fit, or if no backend reaches anything.
    """
    console = Console()
    problem = TensorProductProblem(config.irreps_in1, config.irreps_in2, config.irreps_out, mode=config.mode)
    if not config.backends:
        raise ValueError(f"got no backends; available: {', '.join(BACKENDS)}")
    reached = {backend: reachable(problem, backend) for backend in dict.fromkeys(config.backends)}
    if config.rank is not None and "cp" not in reached:
        raise ValueError(f"got rank={config.rank!r} for {', '.join(reached)}; only cp has a rank")
    skipped = [backend for backend, irreps in reached.items() if not irreps]
    if len(skipped) == len(reached):
        raise ValueError(f"none of {problem.irreps_out} is reached by {', '.join(skipped)}; use clebsch_gordan or cp")
    audits: dict[str, Audit] = {}
    found: list[Finding] = []
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True
    ) as progress:
        task = progress.add_task("audit")
        for backend in (name for name in reached if name not in skipped):
            progress.update(task, description=f"audit {backend}")
            audits[backend] = audit(
                problem,
                backend,
                rank=config.rank if backend == "cp" else None,
                seed=config.seed,
                samples=4 if config.quick else 16,
            )
        for description, measure in _measurements(config) if config.findings else ():
            progress.update(task, description=f"measure {description}")
            found.append(measure())
    console.print(audit_table(problem, list(audits.values())))
    for backend, result in audits.items():
        if result.unreached:
            console.print(f"{backend} cannot reach {result.unreached} and was audited without", highlight=False)
    for backend in skipped:
        console.print(f"{backend} reaches none of {problem.irreps_out} and was left out", highlight=False)
    if found:
        console.print(findings_table(found))
    output = Path(config.output)
    report = {
        "config": asdict(config),
        "audits": [result.to_dict() for result in audits.values()],
        "skipped": skipped,
        "findings": [finding.to_dict() for finding in found],
        **describe_environment(),
    }
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    atomic_write(output / "audit.json", lambda path: path.write_text(text, encoding="utf-8"))
    plot_interactability(output / "interactability.png", audits)
    plot_cost(output / "cost.png", audits)
    written = ", ".join(str(output / name) for name in ("audit.json", "interactability.png", "cost.png"))
    console.print(f"written: {written}", highlight=False)


def _measurements(config: Config) -> list[tuple[str, Callable[[], Finding]]]:
    quick, seed = config.quick, config.seed
    batch, repeats, degrees = (64, 3, (1, 2, 3)) if quick else (256, 15, (1, 2, 3, 4))
    return [
        ("grid and Fourier", lambda: grid_beats_fourier(4, batch=batch, repeats=repeats, seed=seed)),
        (
            "the gain per expressivity",
            lambda: gain_shrinks_per_expressivity(degrees, batch=batch, repeats=repeats, seed=seed),
        ),
        ("odd sums", lambda: odd_sums_need_vector_signals(2 if quick else 3)),
    ]


# --- tables -----------------------------------------------------------------------------------------------------------


def audit_table(problem: TensorProductProblem, audits: Sequence[Audit]) -> Table:
    """One row a backend; what one channel expresses, equivariance, and costs per sample."""
    table = Table(
        title=f"{problem.irreps_in1} ⊗ {problem.irreps_in2}, {problem.mode}",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        caption="degrees of freedom of one channel; channels whose sum expresses all the paths that couple; "
        "relative equivariance errors; costs and weights w per sample",
    )
    table.add_column("product", no_wrap=True)
    headings = ("paths", "dof", "chan-\nnels", "float64\nerror", "float32\nerror", "rank", "kFLOP", "kB", "w")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for result in audits:
        table.add_row(
            result.backend,
            f"{sum(result.interactability.values())}/{len(result.interactability)}",
            str(result.expressivity),
            str(result.channels_to_span),
            *(f"{result.equivariance_error[dtype]:.0e}" for dtype in ("float64", "float32")),
            "" if result.rank is None else str(result.rank),
            f"{1e-3 * result.flops:.3g}",
            f"{1e-3 * result.bytes:.3g}",
            str(result.weight_numel),
        )
    return table


def findings_table(found: Sequence[Finding]) -> Table:
    """One row a finding of The Price of Freedom, with its verdict and its main numbers."""
    table = Table(title="The Price of Freedom, measured here")
    for heading in ("finding", "holds", "measured"):
        table.add_column(heading)
    for finding in found:
        table.add_row(
            finding.claim, "yes" if finding.holds else "[bold red]no[/bold red]", _main_numbers(finding.numbers)
        )
        table.add_section()
    return table


def _main_numbers(numbers: dict[str, Any]) -> str:
    if "rows" in numbers:
        return "\n".join(
            f"L = {row['lmax']}: {row['gain']:.2f} times as fast, {row['gain_per_expressivity']:.2f} per dof "
            f"({row['expressivity']['gaunt_grid']} of {row['expressivity']['clebsch_gordan']})"
            for row in numbers["rows"]
        )
    if "seconds" in numbers:
        return (
            f"Fourier takes {numbers['fourier_over_grid_time']:.2f} times as long\n"
            f"with {numbers['fourier_over_grid_flops']:.2f} times the operations"
        )
    return (
        f"Gaunt: {numbers['gaunt_grid_even']} of {numbers['even_paths']} even, "
        f"{numbers['gaunt_grid_odd']} of {numbers['odd_paths']} odd\n"
        f"vector signal: {numbers['vector_signal_even']} of {numbers['even_paths']} even, "
        f"{numbers['vector_signal_odd']} of {numbers['odd_paths']} odd"
    )


# --- figures ----------------------------------------------------------------------------------------------------------


def plot_interactability(path: Path, audits: dict[str, Audit]) -> None:
    """Which irreps of x (rows) and y (columns) couple to degree l of z: one row of panels a backend, one column a l.

    The parity of z is the product of those of x and y, so that its degree tells which irrep it is.
    """
    first = next(iter(audits.values())).interactability
    names1, names2 = ([*dict.fromkeys(sorted({key[i] for key in first}, key=_by_degree))] for i in (0, 1))
    degrees = sorted({int(out[:-1]) for _, _, out in first})
    size = 0.24 * max(len(names1), len(names2), 3) + 0.5
    figure = new_figure(1.5 + size * len(degrees), 0.9 + size * len(audits))
    axes = figure.subplots(len(audits), len(degrees), squeeze=False, sharex=True, sharey=True)
    colours = ListedColormap(list(STATES.values()))
    for (backend, result), row in zip(audits.items(), axes, strict=True):
        for degree, ax in zip(degrees, row, strict=True):
            states = np.zeros((len(names1), len(names2)))
            for (in1, in2, out), interacts in result.interactability.items():
                if int(out[:-1]) == degree:
                    states[names1.index(in1), names2.index(in2)] = 2 if interacts else 1
            ax.imshow(states, cmap=colours, vmin=0, vmax=2)
            ax.set_xticks(range(len(names2)), names2, fontsize=8)
            ax.set_yticks(range(len(names1)), names1, fontsize=8)
            ax.set_xticks(np.arange(len(names2) - 1) + 0.5, minor=True)
            ax.set_yticks(np.arange(len(names1) - 1) + 0.5, minor=True)
            ax.grid(which="minor", color="white", linewidth=1.5)
            ax.tick_params(which="both", length=0)
        row[0].set_ylabel(f"{backend.replace('_', chr(10))}\n", fontsize=9, rotation=0, ha="right", va="center")
    for degree, ax in zip(degrees, axes[0], strict=True):
        ax.set_title(f"→ $l_3$ = {degree}", fontsize=10)
    figure.supxlabel("irrep of y (columns); irrep of x (rows)", fontsize=9)
    handles = [Patch(facecolor=colour, label=label) for label, colour in STATES.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, fontsize=9, frameon=False)
    save_figure(figure, path)


def plot_cost(path: Path, audits: dict[str, Audit]) -> None:
    """Degrees of freedom of one channel (filled) and paths (open) against operations and bytes per sample."""
    figure = new_figure(9.0, 4.5)
    for ax, name, label in zip(
        figure.subplots(1, 2, sharey=True), ("flops", "bytes"), ("FLOP per sample", "bytes per sample"), strict=True
    ):
        for index, (backend, result) in enumerate(audits.items()):
            cost, colour = getattr(result, name), f"C{index}"
            ax.plot([cost] * 2, [result.expressivity, result.span], color=colour, linewidth=1.0, alpha=0.6)
            ax.plot(cost, result.span, MARKERS[backend], color=colour, markerfacecolor="white", markersize=9)
            ax.plot(cost, result.expressivity, MARKERS[backend], color=colour, markersize=6, label=backend)
        ax.set(xscale="log", xlabel=label)
        ax.set_ylim(0, None)
        ax.margins(x=0.2)
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        _grid(ax)
    figure.axes[0].set_ylabel("degrees of freedom of one channel (filled)\nindependent paths (open)")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5, fontsize=9)
    save_figure(figure, path)


def _by_degree(irrep: str) -> tuple[int, str]:
    return int(irrep[:-1]), irrep[-1]


def _grid(ax: Axes) -> None:
    ax.grid(True, which="both", alpha=0.25, linewidth=0.5)
