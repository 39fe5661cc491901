"""`sciml demo`: the main job end to end on ethanol, by the very jobs that a user types."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

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
        threads: of torch, for the training. More than the cores that are free make it slow.
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
        walkers: independent trajectories per temperature that share the structures. Rotations about the C-O bond take
            picoseconds, and one trajectory may miss a conformer.
        stride: MD steps of 1 fs between two structures.
        warm_up: MD steps of 1 fs before the first structure.
        max_epochs: passes over the training structures.
        model: arguments of the model that are not its defaults.
        start_steps: MD steps of 0.5 fs that warm the molecule up.
        equilibration_steps: MD steps of 0.5 fs before what is analysed.
        steps: MD steps of 0.5 fs that are analysed.
    """

    frames: int
    test_frames: int
    walkers: int
    stride: int
    warm_up: int
    max_epochs: int
    start_steps: int
    equilibration_steps: int
    steps: int
    model: Mapping[str, Any] = field(default_factory=lambda: {"name": "facet"})


FULL = Size(
    frames=250, test_frames=100, walkers=2, stride=20, warm_up=1000, max_epochs=45, start_steps=2000,
    equilibration_steps=2000, steps=10000,
)  # fmt: skip
QUICK = Size(
    frames=24, test_frames=6, walkers=1, stride=5, warm_up=100, max_epochs=40, start_steps=200,
    equilibration_steps=100, steps=300, model={"name": "facet", "channels": 8},
)  # fmt: skip

TEMPERATURES = [300.0, 500.0]
TIMESTEP = 0.5  # fs, of the MD that is compared
FRAME_INTERVAL = 4  # steps between two frames of it: 2 fs, five frames in a period of the O-H stretch


def run(config: Config) -> None:
    """Do all stages, and say what came out and how to go on."""
    if config.threads < 1:
        raise ValueError(f"got threads={config.threads}; it must be at least 1")
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
                structure=ETHANOL, output=output, temperatures=TEMPERATURES, frames=frames,
                walkers=size.walkers, stride=size.stride, timestep=1.0, equilibration_steps=size.warm_up, seed=seed,
                processes=2,
            )  # fmt: skip
            stages.show("label", label_config)
            label.run(label_config)

    with stages("Train a potential", f"{POTENTIAL} on energies and forces; a tenth of the structures validates."):
        # torch takes seconds to import, which labelling need not wait for.
        from sciml.cli import evaluate, train

        train_config = train.Config(
            train=[train_data], output=str(folder / "model"), model=dict(size.model), max_epochs=size.max_epochs,
            seed=config.seed, threads=config.threads,
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
            equilibration_steps=size.start_steps, seed=config.seed,
        )  # fmt: skip
        stages.show("md", start)
        simulate_side_by_side([start], console)
        structure = str(folder / "start" / "trajectory.xyz")
        simulations = [
            md.Config(
                structure=structure, output=str(output), calculator=calculator, checkpoint=potential, thermalize=False,
                steps=size.equilibration_steps + size.steps, timestep=TIMESTEP, equilibration_steps=0,
                log_interval=FRAME_INTERVAL,
            )
            for output, calculator, potential in (
                (runs[REFERENCE], "tblite", None), (runs[POTENTIAL], None, checkpoint)
            )
        ]  # fmt: skip
        for simulation in simulations:
            stages.show("md", simulation)
        simulate_side_by_side(simulations, console)

    with stages("Compare", "Conservation of energy, vibrations and bond lengths under both methods."):
        from sciml.cli.demo_report import compare, summary_table, times_table, write_summary

        measured = compare(runs, folder, start=size.equilibration_steps * TIMESTEP)
    summary = write_summary(folder, {"settings": asdict(config), "commands": stages.commands, **measured}, stages)
    console.print(summary_table(summary))
    console.print(times_table(summary))
    plots = ["model/learning_curve.png", "evaluation/parity.png", "energies.png", "spectra.png", "bond_lengths.png"]
    console.print(f"Plots in {folder}: {', '.join(plots)}. All numbers: summary.json.\n", highlight=False)
    console.print("[bold]The potential is an ASE calculator now:[/bold]\n")
    console.print(md_script(checkpoint), highlight=False, markup=False, soft_wrap=True)


def md_script(checkpoint: str) -> str:
    """Six lines of MD with the potential."""
    return f"""\
    from ase import units
    from ase.build import molecule
    from ase.md.verlet import VelocityVerlet
    from sciml.potentials import PotentialCalculator
    atoms = molecule("{ETHANOL}", calculator=PotentialCalculator.from_checkpoint("{checkpoint}"))
    VelocityVerlet(atoms, timestep=0.5 * units.fs, logfile="-").run(1000)
"""
