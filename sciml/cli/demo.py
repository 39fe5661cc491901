"""`sciml demo`: the main job end to end on ethanol, by the very jobs that a user types."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sciml.cli import label, md
from sciml.cli.demo_stages import Stages, simulate_side_by_side
from sciml.datasets.calculators import calculator_factory

ETHANOL = "CH3CH2OH"
REFERENCE, POTENTIAL = "GFN2-xTB", "Facet"


@dataclass
class Config:
    """Label ethanol, train a potential, evaluate it, run MD with it and with the reference method, and compare.

    Attributes:
        folder: where everything goes; by default runs/demo, or runs/demo-quick if quick. The same command continues
            what an interrupted one left there.
        quick: a run of seconds that shows the way; its potential is good for nothing.
        seed: of all random numbers.
        threads: of torch, for the training.
    """

    folder: str | None = None
    quick: bool = False
    seed: int = 0
    threads: int = 2


@dataclass(frozen=True)
class Size:
    """How much is done at each stage.

    Attributes:
        frames: training structures per temperature.
        test_frames: test structures per temperature.
        stride: MD steps of 1 fs between two structures.
        warm_up: MD steps of 1 fs before the first structure.
        max_epochs: passes over the training structures.
        model: arguments of the model that are not its defaults.
        equilibration_steps: MD steps of 0.5 fs before what is analysed.
        steps: MD steps of 0.5 fs that are analysed.
    """

    frames: int
    test_frames: int
    stride: int
    warm_up: int
    max_epochs: int
    equilibration_steps: int
    steps: int
    model: Mapping[str, Any] = field(default_factory=lambda: {"name": "facet"})


FULL = Size(frames=250, test_frames=100, stride=10, warm_up=1000, max_epochs=80, equilibration_steps=2000, steps=10000)
QUICK = Size(
    frames=24, test_frames=6, stride=5, warm_up=100, max_epochs=15, equilibration_steps=100, steps=400,
    model={"name": "facet", "channels": 8},
)  # fmt: skip

TEMPERATURES = [300.0, 500.0]
TIMESTEP = 0.5  # fs, of the MD that is compared
FRAME_INTERVAL = 4  # steps between two frames of it: 2 fs, five frames in a period of the O-H stretch

# goal of the full run: (value that it must stay below, unit)
GOALS = {"force MAE": (40.0, "meV/Å"), "drift": (0.5, "meV/atom/ps")}


def run(config: Config) -> None:
    """Do all stages, and say what came out and how to go on."""
    calculator_factory("tblite")()  # the labels come from it; better to miss it now than in the second stage
    size = QUICK if config.quick else FULL
    folder = Path(config.folder or ("runs/demo-quick" if config.quick else "runs/demo"))
    folder.mkdir(parents=True, exist_ok=True)
    console = Console()
    stages = Stages(console, folder / "stages.json", total=5)
    train_data, test_data = str(folder / "data" / "train.xyz"), str(folder / "data" / "test.xyz")
    checkpoint = str(folder / "model" / "best")

    with stages(
        "Label structures",
        f"Langevin MD of ethanol under {REFERENCE} at {' and '.join(f'{t:g} K' for t in TEMPERATURES)}; every "
        f"{size.stride} fs a structure with its energy and forces. Other random numbers make the test structures.",
    ):
        for output, frames, seed in (
            (train_data, size.frames, config.seed),
            (test_data, size.test_frames, config.seed + 1),
        ):
            label_config = label.Config(
                structure=ETHANOL, output=output, temperatures=TEMPERATURES, frames=frames, stride=size.stride,
                timestep=1.0, equilibration_steps=size.warm_up, seed=seed, processes=2,
            )  # fmt: skip
            stages.show("label", label_config)
            label.run(label_config)

    # torch takes seconds to import, which labelling need not wait for.
    from sciml.cli import evaluate, train

    with stages("Train a potential", f"{POTENTIAL} on energies and forces; a tenth of the structures validates."):
        train_config = train.Config(
            train=[train_data], output=str(folder / "model"), model=dict(size.model), max_epochs=size.max_epochs,
            device="cpu", seed=config.seed, threads=config.threads,
        )  # fmt: skip
        stages.show("train", train_config)
        train.run(train_config)

    with stages("Evaluate it", "On the test trajectory, which it has not seen."):
        evaluate_config = evaluate.Config(checkpoint=checkpoint, data=[test_data], output=str(folder / "evaluation"))
        stages.show("evaluate", evaluate_config)
        evaluate.run(evaluate_config)

    runs = {REFERENCE: folder / "md-xtb", POTENTIAL: folder / "md-facet"}
    with stages(
        "Run molecular dynamics",
        f"{REFERENCE} warms a molecule up to 300 K; from there, with the same positions and momenta, "
        f"{TIMESTEP * (size.equilibration_steps + size.steps) / 1000:g} ps at constant energy under both methods, in "
        "two processes at a time.",
    ):
        start = md.Config(
            structure=ETHANOL, output=str(folder / "start"), calculator="tblite", steps=0, timestep=TIMESTEP,
            equilibration_steps=2000, seed=config.seed,
        )  # fmt: skip
        stages.show("md", start)
        simulate_side_by_side([start], console)
        simulations = [
            md.Config(
                structure=str(folder / "start" / "trajectory.xyz"), output=str(output), thermalize=False,
                steps=size.equilibration_steps + size.steps, timestep=TIMESTEP, equilibration_steps=0,
                log_interval=FRAME_INTERVAL, **method,
            )
            for output, method in zip(
                runs.values(), ({"calculator": "tblite"}, {"checkpoint": checkpoint}), strict=True
            )
        ]  # fmt: skip
        for simulation in simulations:
            stages.show("md", simulation)
        simulate_side_by_side(simulations, console)

    with stages("Compare", "Conservation of energy, vibrations and bond lengths under both methods."):
        measured = compare(runs, folder, start=size.equilibration_steps * TIMESTEP)
    report(config, folder, stages, measured, console)


def compare(runs: Mapping[str, Path], folder: Path, *, start: float) -> dict[str, Any]:
    """Analyse the two simulations from `start` (fs) on, draw them, and return the numbers as JSON values."""
    from sciml.cli import demo_plots
    from sciml.cli.demo_analysis import Trajectory, bonds_by_kind, densities, overlap, peak

    trajectories = {name: Trajectory.load(path, start=start) for name, path in runs.items()}
    reference, potential = trajectories.values()
    kinds = bonds_by_kind(reference.atoms)
    demo_plots.plot_energies(folder / "energies.png", trajectories)
    demo_plots.plot_spectra(folder / "spectra.png", trajectories, kinds)
    demo_plots.plot_bond_lengths(folder / "bond_lengths.png", trajectories, kinds)
    nve = {}
    for name, trajectory in trajectories.items():
        speed = json.loads((runs[name] / "result.json").read_text(encoding="utf-8"))["ms_per_step"]
        (drift, drift_error), (temperature, error) = trajectory.drift, trajectory.mean_temperature
        nve[name] = {
            "drift_meV_per_atom_per_ps": drift,
            "drift_error_meV_per_atom_per_ps": drift_error,
            "temperature_K": temperature,
            "temperature_error_K": error,
            "ms_per_step": speed,
        }
    wavenumbers, spectrum = reference.spectrum
    bonds = {}
    for kind, pairs in kinds.items():
        lengths = [run.bond_lengths(pairs) for run in trajectories.values()]
        bonds[kind] = {
            "bonds": len(pairs),
            "mean_length_A": {name: float(length.mean()) for name, length in zip(runs, lengths, strict=True)},
            "stretch_peak_per_cm": {name: peak(*run.stretch_spectrum(pairs)) for name, run in trajectories.items()},
            "distribution_overlap": _histogram_overlap(*densities(*lengths)),
        }
    return {"nve": nve, "spectra_overlap": overlap(wavenumbers, spectrum, potential.spectrum[1]), "bonds": bonds}


def _histogram_overlap(centres: Any, first: Any, second: Any) -> float:
    from sciml.cli.demo_analysis import overlap

    return overlap(centres, first, second)


def report(config: Config, folder: Path, stages: Stages, measured: Mapping[str, Any], console: Console) -> None:
    """Print the summary, and write it to summary.json."""
    from sciml.environment import describe_environment

    evaluation = json.loads((folder / "evaluation" / "evaluation.json").read_text(encoding="utf-8"))
    errors = evaluation["overall"]
    force_mae = 1e3 * errors["forces"]["mae"]
    environment = describe_environment()
    environment["versions"]["tblite"] = metadata.version("tblite")
    content = {
        "settings": asdict(config),
        "commands": stages.commands,
        "test_errors": errors,
        **measured,
        "goals": {name: {"below": bound, "unit": unit} for name, (bound, unit) in GOALS.items()},
        "seconds": stages.seconds,
        "total_seconds": round(sum(stages.seconds.values()), 2),
        **environment,
    }
    (folder / "summary.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    nve, bonds = measured["nve"], measured["bonds"]
    table = Table(title="Ethanol: what came out", title_justify="left")
    table.add_column("what")
    for name in (REFERENCE, POTENTIAL):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("unit")
    table.add_column("goal")

    def verdict(value: float, goal: str) -> str:
        bound, _ = GOALS[goal]
        return f"< {bound:g} {'[green]met[/green]' if abs(value) < bound else '[red]missed[/red]'}"

    table.add_row("force MAE on the test set", "", f"{force_mae:.1f}", "meV/Å", verdict(force_mae, "force MAE"))
    table.add_row("energy MAE on the test set", "", f"{1e3 * errors['energy_per_atom']['mae']:.2f}", "meV/atom", "")
    table.add_section()
    drift = [
        f"{nve[name]['drift_meV_per_atom_per_ps']:+.4f} ± {nve[name]['drift_error_meV_per_atom_per_ps']:.4f}"
        for name in (REFERENCE, POTENTIAL)
    ]
    drift_goal = verdict(nve[POTENTIAL]["drift_meV_per_atom_per_ps"], "drift")
    table.add_row("NVE energy drift", *drift, "meV/atom/ps", drift_goal)
    table.add_row("NVE mean temperature", *(f"{nve[n]['temperature_K']:.0f}" for n in (REFERENCE, POTENTIAL)), "K", "")
    table.add_row(
        "time per step, one core", *(f"{nve[n]['ms_per_step']:.1f}" for n in (REFERENCE, POTENTIAL)), "ms", ""
    )
    table.add_section()
    table.add_row("overlap of the vibrational spectra", "", f"{100 * measured['spectra_overlap']:.0f}", "%", "")
    for kind, values in bonds.items():
        peaks = (f"{values['stretch_peak_per_cm'][name]:.0f}" for name in (REFERENCE, POTENTIAL))
        table.add_row(f"{kind} stretch", *peaks, "cm⁻¹", "as left")
    for kind, values in bonds.items():
        lengths = (f"{values['mean_length_A'][name]:.4f}" for name in (REFERENCE, POTENTIAL))
        table.add_row(f"{kind} mean length", *lengths, "Å", "as left")
    console.print(table)

    times = Table(title="Seconds", title_justify="left")
    times.add_column("stage")
    times.add_column("s", justify="right")
    for title, seconds in stages.seconds.items():
        times.add_row(title, f"{seconds:.0f}")
    times.add_section()
    times.add_row("all", f"{content['total_seconds']:.0f}")
    console.print(times)
    plots = ["model/learning_curve.png", "evaluation/parity.png", "energies.png", "spectra.png", "bond_lengths.png"]
    console.print(f"[bold]Plots[/bold] in {folder}: {', '.join(plots)}; all numbers: summary.json", highlight=False)
    console.print("[bold]Your potential is an ASE calculator now:[/bold]\n")
    console.print(script(folder / "model" / "best"), highlight=False, soft_wrap=True)


def script(checkpoint: Path) -> str:
    """Six lines of MD with the potential."""
    return f"""\
    from ase import units
    from ase.build import molecule
    from ase.md.verlet import VelocityVerlet
    from sciml.potentials import PotentialCalculator
    atoms = molecule("{ETHANOL}", calculator=PotentialCalculator.from_checkpoint("{checkpoint}"))
    VelocityVerlet(atoms, timestep=0.5 * units.fs, logfile="-").run(1000)
"""
