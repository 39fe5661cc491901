"""Steps over packed graphs: on a CPU they are called, on a GPU recorded; both have the results of the plain loop."""

import functools

import pytest
import torch
from lightning_fabric import Fabric

from sciml.graphs import collate
from sciml.packed import PackedGraphs
from sciml.training import loop, recorded_steps
from sciml.training.compiled_steps import CompiledGradient
from sciml.training.divergence import DivergenceError
from sciml.training.optimizers import OptimizerSettings
from sciml.training.recorded_steps import RecordedBatches
from tests.training.tiny_run import clusters, tiny_run

WITHOUT_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, WITHOUT_GPU])]


def packed_anywhere(train, valid, fabric, settings):
    return PackedGraphs(train.items, fabric.device), PackedGraphs(valid.items, fabric.device)


def without_inductor(monkeypatch):
    monkeypatch.setattr(recorded_steps, "CompiledGradient", functools.partial(CompiledGradient, backend="aot_eager"))


def plain(train, valid, fabric, settings):
    return None


def run(folder, pack, monkeypatch, device="cpu", **options):
    monkeypatch.setattr(loop, "pack", pack)
    fabric = Fabric(accelerator=device, devices=1)
    from tests.training.tiny_run import PairPotential

    torch.manual_seed(7)
    model = PairPotential().to(fabric.device)
    return tiny_run(folder, fabric=fabric, model=model, **options)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("options", [{}, {"valid_interval": 2, "max_steps": 17}, {"compiled": True}])
@pytest.mark.parametrize("name", ["adamw", "normuon"])
def test_recorded_steps_are_those_of_the_plain_loop(tmp_path, monkeypatch, device, options, name):
    if device == "cpu":
        without_inductor(monkeypatch)  # whose C++ takes minutes
    optimizer = OptimizerSettings(name=name, learning_rate=0.02, clip_norm=1.0)
    runs = [
        run(tmp_path / str(pack is plain), pack, monkeypatch, device, max_epochs=5, optimizer=optimizer, **options)
        for pack in (packed_anywhere, plain)
    ]
    (model, progress), (expected, expected_progress) = runs
    for (key, got), wanted in zip(model.state_dict().items(), expected.state_dict().values(), strict=True):
        assert torch.allclose(got, wanted, rtol=1e-6, atol=1e-9), key
    assert len(progress.rows) == len(expected_progress.rows)
    for row, wanted_row in zip(progress.rows, expected_progress.rows, strict=True):
        assert row == pytest.approx(wanted_row, rel=1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_a_recorded_run_continues(tmp_path, monkeypatch, device):
    whole, _ = run(tmp_path / "whole", packed_anywhere, monkeypatch, device, max_epochs=4)
    run(tmp_path / "parts", packed_anywhere, monkeypatch, device, max_epochs=4, max_time=1e-9)
    parts, progress = run(tmp_path / "parts", packed_anywhere, monkeypatch, device, max_epochs=4, max_time=None)
    assert progress.epoch == 4
    for got, wanted in zip(parts.state_dict().values(), whole.state_dict().values(), strict=True):
        assert torch.allclose(got, wanted, rtol=1e-7, atol=1e-10)


def test_a_loss_that_is_not_finite_names_the_batch(tmp_path, monkeypatch):
    graphs = clusters(23, seed=0)
    graphs[7].energy[:] = torch.inf
    with pytest.raises(
        DivergenceError, match=r"step \d+: the loss or its gradient is not finite[^$]*cluster 7: loss inf"
    ):
        run(tmp_path, packed_anywhere, monkeypatch, train=graphs, max_epochs=2)


def test_batches_of_packed_graphs_are_collated_ones_with_a_void_behind():
    graphs = clusters(9, seed=3)
    packed = PackedGraphs(graphs, torch.device("cpu"))
    batches = [[3, 0, 6], [5], [8, 7, 2, 1]]
    plan = packed.plan(batches, packed.capacity(batches))
    for number, indices in enumerate(batches):
        got = packed.batch(plan.row(torch.tensor([number])))
        wanted = collate([graphs[index] for index in indices])
        n, m, s = wanted.num_nodes, wanted.num_edges, wanted.num_systems
        for name in ("positions", "atomic_numbers", "forces", "batch"):
            assert torch.equal(got[name][:n].nan_to_num(7.0), wanted[name].nan_to_num(7.0)), name
        for name in ("energy", "cell", "pbc", "stress"):
            assert torch.equal(got[name][:s].nan_to_num(7.0), wanted[name].nan_to_num(7.0)), name
        assert torch.equal(got.edge_index[:, :m], wanted.edge_index)
        assert torch.equal(got.edge_vectors()[:m], wanted.edge_vectors())
        assert (got.edge_index[1].diff() >= 0).all()
        assert (got.edge_vectors()[m:].norm(dim=1) > 100).all()
        assert (got.edge_index[:, m:] >= n).all()
        assert got.forces[n:].isnan().all()
        assert got.energy[s:].isnan().all()
        assert torch.bincount(got.edge_index[1]).max() <= packed.max_degree


def test_isolated_atoms_can_be_packed():
    graphs = [graph for graph in clusters(9, seed=3) if graph.num_nodes == 1]
    packed = PackedGraphs(graphs, torch.device("cpu"))
    batch = packed.batch(packed.plan([[0, 1]], packed.capacity([[0, 1]])).row(torch.tensor([0])))
    assert batch.num_edges == 0
    assert batch.num_systems == 3


def test_room_spares_later_batches_another_capacity():
    graphs = clusters(23, seed=0)
    packed = PackedGraphs(graphs, torch.device("cpu"))
    batches = RecordedBatches(packed, 2, required=False, room=1.0)
    by_size = sorted(range(len(graphs)), key=lambda number: packed.num_edges[number])
    small, large = by_size[13:19], by_size[15:21]
    assert packed.capacity([small], room=1.0) != packed.capacity([large], room=1.0)
    batches._load([small])
    capacity = batches.capacity
    batches._load([large])
    assert batches.capacity == capacity
