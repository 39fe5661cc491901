"""`sciml generate`: solve equations of flow from random fields and write the data that surrogates are trained on."""

import time
from dataclasses import dataclass, field
from typing import Literal

import joblib
from rich.console import Console
from rich.table import Table

from sciml.cli.counting_bar import counting_bar
from sciml.datasets.flows import FLOWS, differences_from_published
from sciml.datasets.generate import Generation, generate
from sciml.datasets.stored_fields import Fields
from sciml.datasets.well_reader import open_fields

FIRST_WORD = "flow"


@dataclass
class Config:
    """Which flow, how fine, how many trajectories, and where they go. The same command continues a killed run.

    Attributes:
        flow: ins (incompressible: buoyant smoke in a closed box), cns (compressible) or swe (rotating shallow water);
            may be the first word.
        output: folder to write data/train, data/valid and data/test into, as HDF5 in the layout of the Well.
        resolution: number of cells along each axis.
        trajectories: of the training split; by default as many as the published set has (5200, 5400, 5600).
        valid: of the validation split; by default a quarter of those of the training split.
        test: of the test split; likewise.
        seed: of all random numbers.
        parameters: of the flow, such as {"buoyancy": 0.3}; a wrong name lists them all.
        workers: processes of this machine; 0 takes all cores. On CUDA there is one.
        dask: address of a Dask scheduler (tcp://host:8786), or local for one that is started here.
        device: cpu, or cuda for large batches on one GPU.
    """

    flow: str
    output: str
    resolution: int = 64
    trajectories: int | None = None
    valid: int | None = None
    test: int | None = None
    seed: int = 0
    parameters: dict[str, float] = field(default_factory=dict)
    workers: int = 0
    dask: str | None = None
    device: Literal["cpu", "cuda"] = "cpu"


def run(config: Config) -> None:
    """Generate, with a progress bar, and say what the data are like."""
    console = Console()
    generation = Generation(
        flow=config.flow,
        resolution=config.resolution,
        trajectories=config.trajectories,
        valid=config.valid,
        test=config.test,
        seed=config.seed,
        parameters=config.parameters,
        device=config.device,
    )
    if config.workers < 0:
        raise ValueError(f"workers must not be negative, got {config.workers}")
    processes = config.workers or (1 if config.device == "cuda" else min(joblib.cpu_count(), len(generation.blocks())))
    total = sum(generation.splits().values())
    begin = time.perf_counter()
    with counting_bar(console, "trajectories") as progress:
        task = progress.add_task(f"generate {config.flow}, {config.resolution}²", total=total)
        fresh = generate(
            generation,
            config.output,
            processes=processes,
            dask=config.dask,
            on_progress=lambda done, of: progress.update(task, completed=done, total=of),
        )
        progress.update(task, completed=total)
    seconds = time.perf_counter() - begin
    contents = ", ".join(f"{count} to {name}" for name, count in generation.splits().items())
    done = f"wrote to {config.output} in {seconds:.1f} s" if fresh else f"{config.output} is complete; nothing to do"
    console.print(f"{FLOWS[config.flow].title}\n{done}; trajectories: {contents}")
    _report(console, generation, open_fields(config.output, "train"))


def _report(console: Console, generation: Generation, fields: Fields) -> None:
    """A table of statistics, and a warning where they are not the published ones."""
    statistics = fields.statistics
    assert statistics is not None  # `generate` writes them
    table = Table(title="training split", title_justify="left")
    for heading in ("channel", "unit", "mean", "std", "std of changes", "persistence"):
        table.add_column(heading, justify="left" if heading in ("channel", "unit") else "right")
    columns = (statistics.mean, statistics.std, statistics.std_delta, statistics.persistence)
    for channel, *values in zip(fields.fields, *columns, strict=True):
        table.add_row(channel.name, channel.unit, *(f"{value:.4g}" for value in values))
    console.print(table)
    console.print(
        f"one-step scaled L2 of persistence: {statistics.mean_persistence:.4f} (the last frame again, after "
        f"{fields.attributes['history']})"
    )
    flow = generation.made_flow()
    for line in differences_from_published(flow, generation.resolution, statistics, fields.trajectories):
        console.print(f"warning: more than 3 % from the published set: {line}", style="yellow")
