"""A surrogate and trajectories so small that training takes a second. Run by the tests, also under torchrun."""

import argparse
import math
from pathlib import Path

import torch
from rich.console import Console

from sciml.cli.launch import launch
from sciml.cli.train_fields import Config, train
from sciml.pde.field_data import Trajectories
from sciml.pde.grid import Grid
from sciml.pde.shallow_water import ShallowWater
from sciml.training.optimizers import OptimizerSettings
from sciml.training.processes import leaving_together

NETWORK = {"name": "sinenet", "num_waves": 1, "widths": [4, 4, 4, 4, 4]}


def trajectories(number=6, frames=7, *, seed=0, parameters=False):
    """Shallow water on 16 x 16 points."""
    grid = Grid.square(16, 2 * math.pi)
    solver = ShallowWater(grid, 0.1, viscosity=0.1)
    x, y = grid.nodes()
    phases = torch.rand(number, 4, 1, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 6
    start = torch.stack(
        [1 + 0.2 * torch.sin(x + phases[:, 0]) * torch.cos(y + phases[:, 1]), 0.2 * torch.sin(y + phases[:, 2]),
         0.2 * torch.sin(x + phases[:, 3])], dim=1
    )  # fmt: skip
    return Trajectories(
        solver.run(start, 2 * (frames - 1), every=2),
        solver.fields,
        grid,
        0.2,
        at=solver.at,
        symmetries=solver.symmetries,
        parameters=torch.linspace(0.5, 1.5, number)[:, None] if parameters else torch.zeros(number, 0),
        parameter_names=["gravity"] if parameters else [],
        units={"length": "m", "time": "s"},
    )


def config(folder, **options):
    """Settings of a run of a second."""
    optimizer = OptimizerSettings(learning_rate=3e-3, clip_norm=1.0, ema_decay=0.9)
    settings = {"model": NETWORK, "history": 2, "max_epochs": 2, "batch_size": 5, "optimizer": optimizer}
    return Config(train=[], output=str(folder), device="cpu", **{**settings, **options})


def tiny_run(folder, *, fabric=None, train_data=None, valid_data=None, **options):
    settings = config(folder, **options)
    return train(
        settings,
        train_data or trajectories(),
        valid_data or trajectories(2, seed=1),
        fabric=fabric or launch("cpu"),
        folder=Path(folder),
        console=Console(quiet=True),
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    folder = parser.parse_args().folder
    fabric = launch("cpu")
    with leaving_together(fabric):
        tiny_run(folder, fabric=fabric, dtype="float64")
