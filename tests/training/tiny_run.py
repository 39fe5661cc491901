"""A training run that takes a second: a pair potential on random clusters. Run by the tests, also under torchrun."""

import argparse
import json
import os
import time
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import nn

from sciml.graphs import AtomicGraph, collate
from sciml.training.batching import GraphBatchSampler
from sciml.training.loading import Loader
from sciml.training.loop import fit
from sciml.training.losses import LossTerm, PotentialObjective
from sciml.training.optimizers import OptimizerSettings
from sciml.training.processes import leaving_together
from sciml.training.progress import LoopSettings

CUTOFF = 4.0


class PairPotential(nn.Module):
    """E = Σ_i b + Σ_edges w·φ(r) with Gaussians φ that vanish at the cutoff, followed by a tanh, with dropout."""

    def __init__(self, *, dropout=0.0):
        super().__init__()
        self.register_buffer("centres", torch.linspace(1.0, CUTOFF, 6, dtype=torch.float64))
        self.inner = nn.Linear(6, 4, dtype=torch.float64)
        self.outer = nn.Linear(4, 1, dtype=torch.float64)
        self.unused = nn.Parameter(torch.ones(2, 2, dtype=torch.float64))
        self.dropout = nn.Dropout(dropout)

    def forward(self, graph):
        from sciml.potentials.interface import PotentialOutput, edge_gradient, forces_and_stress

        with torch.enable_grad():
            vectors = graph.edge_vectors().detach().requires_grad_()
            r = vectors.norm(dim=1, keepdim=True)
            phi = torch.exp(-4 * (r - self.centres) ** 2) * (1 - r / CUTOFF).clamp(min=0) ** 3
            pairs = self.outer(self.dropout(torch.tanh(self.inner(phi))))[:, 0]
            energies = graph.positions.new_zeros(graph.num_nodes).index_add(0, graph.edge_index[1], pairs)
            energy = energies.new_zeros(graph.num_systems).index_add(0, graph.system_index, energies)
            gradient = edge_gradient(energy, vectors, create_graph=self.training)
        forces, stress = forces_and_stress(graph, vectors.detach(), gradient)
        return PotentialOutput(energy, energies, forces, stress)


def clusters(number, *, seed, missing=True):
    """Random clusters and crystals of 1 to 7 atoms with the labels of a Morse potential, some of them missing."""
    generator = torch.Generator().manual_seed(seed)
    graphs = []
    for index in range(number):
        size = 1 + index % 7
        grid = torch.cartesian_prod(*[torch.arange(2.0, dtype=torch.float64)] * 3)[:size] * 1.8
        positions = grid + 0.15 * torch.randn(size, 3, generator=generator, dtype=torch.float64)
        receivers, senders = torch.where(~torch.eye(size, dtype=torch.bool))
        periodic = index % 3 == 0
        graph = AtomicGraph(
            positions=positions,
            atomic_numbers=torch.full((size,), 14),
            cell=10.0 * torch.eye(3, dtype=torch.float64)[None],
            pbc=torch.full((1, 3), periodic),
            edge_index=torch.stack([senders, receivers]),
            edge_shifts=torch.zeros(len(senders), 3, dtype=torch.float64),
            num_nodes=size,
        )
        p = positions.clone().requires_grad_()
        r = (p[senders] - p[receivers]).norm(dim=1)
        energy = 0.5 * ((1 - torch.exp(-1.5 * (r - 2.0))) ** 2 - 1).sum()
        graph.energy = energy.detach()[None]
        graph.forces = -torch.autograd.grad(energy, p)[0]
        graph.stress = torch.full((1, 3, 3), 1e-3 if periodic else torch.nan, dtype=torch.float64)
        if missing and index % 4 == 1:
            graph.forces[0] = torch.nan
        if missing and index % 5 == 2:
            graph.energy[:] = torch.nan
        graphs.append(graph)
    return graphs


class Delay:
    """Makes a run slow enough to be killed in its middle."""

    def __init__(self, seconds):
        self.seconds = seconds

    def on_start(self, *_):
        pass

    def on_step(self, *_):
        time.sleep(self.seconds)

    def on_epoch(self, *_):
        pass


TERMS = {
    "energy_per_atom": LossTerm(weight=1.0, kind="huber", delta=0.1),
    "forces": LossTerm(weight=5.0, kind="norm"),
    "stress": LossTerm(weight=10.0, kind="mae"),
}


def save(model, folder, metadata):
    from sciml.files import atomic_write

    atomic_write(folder / "weights.pt", lambda path: torch.save(model.state_dict(), path))
    atomic_write(folder / "config.json", lambda path: path.write_text(json.dumps(dict(metadata))))


def tiny_run(
    folder,
    *,
    train=None,
    fabric=None,
    batch_size=5,
    dropout=0.0,
    fingerprint=None,
    reporter=None,
    sampler_seed=0,
    model=None,
    terms=None,
    **settings,
):
    fabric = fabric or Fabric(accelerator="cpu", devices=1)
    torch.manual_seed(7)
    model = model or PairPotential(dropout=dropout)
    loaders = []
    for graphs, shuffle in ((train or clusters(23, seed=0), True), (clusters(9, seed=1), False)):
        sampler = GraphBatchSampler(
            [g.num_nodes for g in graphs],
            [g.edge_index.shape[1] for g in graphs],
            batch_size=batch_size,
            shuffle=shuffle,
            seed=sampler_seed,
            rank=fabric.global_rank,
            world_size=fabric.world_size,
        )
        loaders.append(Loader(graphs, sampler, collate=collate, device=fabric.device, describe="cluster {}".format))
    settings.setdefault("optimizer", OptimizerSettings(learning_rate=0.02, clip_norm=1.0))
    progress = fit(
        model,
        PotentialObjective(terms or TERMS),
        train=loaders[0],
        valid=loaders[1],
        fabric=fabric,
        folder=Path(folder),
        settings=LoopSettings(**settings),
        save=save,
        fingerprint=fingerprint or {"dropout": dropout},
        reporter=reporter,
    )
    return model, progress


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--max_epochs", type=int, default=3)
    parser.add_argument("--batch_size", type=int, default=5)
    parser.add_argument("--dropout", type=float, default=0.0)
    arguments = parser.parse_args()
    strategy = "ddp" if arguments.processes > 1 else "auto"
    fabric = Fabric(accelerator="cpu", devices=arguments.processes, strategy=strategy)
    fabric.launch()
    with leaving_together(fabric):
        tiny_run(
            arguments.folder,
            fabric=fabric,
            max_epochs=arguments.max_epochs,
            batch_size=arguments.batch_size,
            dropout=arguments.dropout,
            reporter=Delay(float(os.environ.get("TINY_DELAY", "0"))),
        )
