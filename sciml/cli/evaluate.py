"""`sciml evaluate`: errors of a checkpoint on labelled structures, as a table, JSON and parity plots.

If the checkpoint is a surrogate of an equation, `sciml.cli.evaluate_fields` does the job instead.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from sciml.datasets.checks import Checks, located
from sciml.datasets.keys import LabelKeys
from sciml.datasets.structures import labelled_graph, read_structures
from sciml.environment import describe_environment, sha256
from sciml.files import atomic_write
from sciml.graphs import check_species
from sciml.potentials.checkpoint import checkpoint_folder, load_potential, potential_dtype, read_config
from sciml.potentials.evaluation import ErrorSummary, EvaluationResult, evaluate
from sciml.potentials.interface import check_boundaries
from sciml.potentials.parity_plot import save_parity_plot
from sciml.potentials.rotation_error import rotation_error

OTHER_JOB = ("checkpoint", "sciml.cli.evaluate_fields")  # see `sciml.cli.other_job`

# Structures, evenly spaced, on which the rotation error of a potential without symmetry is measured.
_ROTATED_STRUCTURES = 64

_TITLES = {
    "energy": ("energy", "meV"),
    "energy_per_atom": ("energy/atom", "meV"),
    "forces": ("forces", "meV/Å"),
    "stress": ("stress", "meV/Å³"),
}


@dataclass
class Config:
    """Evaluate a checkpoint on labelled structures; isolated atoms are left out unless there is nothing else.

    Attributes:
        checkpoint: a checkpoint folder, such as runs/ethanol/best, or the name of shipped weights.
        data: files with labelled structures, in any format that ase.io reads; patterns are expanded.
        output: folder for evaluation.json and parity.png.
        keys: names of the labels in the files.
        checks: which mistakes in the files are errors.
        index: frames to read of each file, in Python's slice notation.
        device: where the potential runs: cpu, cuda, cuda:1.
        dtype: float32 or float64; by default that of the checkpoint.
        max_atoms: atoms in a batch, at most.
    """

    checkpoint: str
    data: list[str]
    output: str = "evaluation"
    keys: LabelKeys = field(default_factory=LabelKeys)
    checks: Checks = field(default_factory=Checks)
    index: str = ":"
    device: str = "cpu"
    dtype: str | None = None
    max_atoms: int = 2048


def run(config: Config) -> None:
    """Evaluate, print the tables, and write evaluation.json and parity.png to the output folder."""
    console = Console()
    folder = checkpoint_folder(config.checkpoint)
    potential = load_potential(folder, device=config.device, dtype=config.dtype)
    everything = read_structures(config.data, keys=config.keys, index=config.index, checks=config.checks)
    structures = [structure for structure in everything if not structure.is_isolated_atom] or everything
    if len(structures) < len(everything):
        left_out = len(everything) - len(structures)
        console.print(f"{left_out} isolated atoms are left out: they give reference energies, and no model learns them")
    for structure in structures:
        with located(structure.origin):
            check_species(structure.atoms.numbers, potential.species)
            check_boundaries(potential, structure.atoms.pbc)
    with Progress(console=console, transient=True) as progress:
        graphs = [
            labelled_graph(structure, potential.cutoff)
            for structure in progress.track(structures, description="neighbour lists")
        ]
        task = progress.add_task("predictions", total=len(graphs))
        result = evaluate(
            potential,
            graphs,
            config_types=[structure.config_type for structure in structures],
            max_atoms=config.max_atoms,
            device=config.device,
            progress=lambda count: progress.advance(task, count),
        )
    files = dict.fromkeys(structure.origin.rsplit(", frame", 1)[0] for structure in everything)
    equivariance = read_config(folder).get("metadata", {}).get("equivariance_error")
    rotation = None
    if potential.symmetry == "none":
        sample = graphs[:: -(-len(graphs) // _ROTATED_STRUCTURES)]
        rotation = rotation_error(potential, sample, max_atoms=config.max_atoms)
    report = {
        "checkpoint": {
            "folder": str(folder),
            "sha256": sha256(folder / "model.safetensors"),
            "equivariance_error": equivariance,
        },
        "dtype": str(potential_dtype(potential)).removeprefix("torch."),
        "device": config.device,
        "data": [{"file": file, "sha256": sha256(file)} for file in files],
        "index": config.index,
        "keys": asdict(config.keys),
        **result.to_dict(),
        "rotation_error": None if rotation is None else rotation._asdict(),
        **describe_environment(),
    }
    output = Path(config.output)
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    atomic_write(output / "evaluation.json", lambda path: path.write_text(text, encoding="utf-8"))
    atomic_write(output / "parity.png", lambda path: save_parity_plot(result, path))
    console.print(error_table(result))
    if equivariance is not None:
        console.print(f"equivariance error of the model's sphere grids, when saved: {equivariance:.1e} (relative)")
    if rotation is not None:
        console.print(
            f"turning a structure changes its forces by {rotation.forces:.2%} (relative rms) and its energy by "
            f"{1e3 * rotation.energy_per_atom:.3g} meV/atom (standard deviation), over {len(sample)} structures",
            highlight=False,
        )
    console.print(f"written: {output / 'evaluation.json'}, {output / 'parity.png'}", highlight=False)


def error_table(result: EvaluationResult) -> Table:
    """MAE and RMSE of each property: of all structures, of each config_type and (forces) of each element."""
    table = Table(title=f"{result.num_structures} structures, {result.num_atoms} atoms")
    for heading in ("", "property"):
        table.add_column(heading)
    for heading in ("MAE", "RMSE"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("unit")
    table.add_column("values", justify="right", no_wrap=True)
    _add_rows(table, "all", result.overall)
    groups = result.by_config_type
    if len(groups) > 1:
        for group, errors in groups.items():
            _add_rows(table, group, errors)
    for symbol, summary in result.forces_by_element.items():
        _add_rows(table, symbol, {"forces": summary})
    return table


def _add_rows(table: Table, label: str, errors: Mapping[str, ErrorSummary]) -> None:
    for row, (name, summary) in enumerate(errors.items()):
        title, unit = _TITLES[name]
        mae, rmse = f"{1e3 * summary.mae:.4g}", f"{1e3 * summary.rmse:.4g}"
        table.add_row(escape(label) if row == 0 else "", title, mae, rmse, unit, str(summary.count))
    table.add_section()
