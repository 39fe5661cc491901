"""Batches of graphs: limits, shares, determinism."""

import itertools

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from sciml.graphs import collate, graph_from_atoms
from sciml.training.batching import GraphBatchSampler

SIZES = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 200)), min_size=1, max_size=40)


def sampler(sizes, **arguments):
    defaults = {"batch_size": 4, "shuffle": True, "seed": 0}
    return GraphBatchSampler([n for n, _ in sizes], [e for _, e in sizes], **(defaults | arguments))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(SIZES, st.integers(1, 8), st.integers(1, 5), st.integers(0, 3), st.booleans())
def test_shares_make_up_batches_that_do_not_depend_on_the_number_of_processes(sizes, batch_size, world, epoch, shuffle):
    arguments = {"batch_size": batch_size, "max_atoms": 40, "max_edges": 250, "shuffle": shuffle, "seed": 5}
    alone = sampler(sizes, **arguments)
    alone.set_epoch(epoch)
    batches = list(alone)
    assert batches == alone.global_batches()
    assert len(alone) == len(batches)
    assert sorted(itertools.chain.from_iterable(batches)) == list(range(len(sizes)))
    for batch in batches:
        assert 1 <= len(batch) <= batch_size
        assert sum(sizes[k][0] for k in batch) <= 40
        assert sum(sizes[k][1] for k in batch) <= 250
    for first, second in itertools.pairwise(batches):  # no batch ends before it must
        atoms, edges = (sum(sizes[k][kind] for k in [*first, second[0]]) for kind in (0, 1))
        assert len(first) == batch_size or atoms > 40 or edges > 250

    ranks = [sampler(sizes, **arguments, rank=rank, world_size=world) for rank in range(world)]
    for rank in ranks:
        rank.set_epoch(epoch)
    shares = [list(rank) for rank in ranks]
    assert {len(share) for share in shares} == {len(batches)}
    for step, batch in enumerate(batches):
        parts = [share[step] for share in shares]
        assert sorted(itertools.chain.from_iterable(parts)) == sorted(batch)
        assert all(part == [k for k in batch if k in part] for part in parts)
        loads = [sum(sizes[k][1] for k in part) for part in parts]
        assert max(loads) <= sum(loads) / world + max(sizes[k][1] for k in batch)
        if len(batch) >= world and all(sizes[k][1] for k in batch):
            assert all(parts)


def test_shares_are_balanced_by_edges():
    edges = [100, 90, 80, 10, 10, 10, 10, 10]
    shares = [
        next(iter(GraphBatchSampler([5] * 8, edges, batch_size=8, shuffle=False, seed=0, rank=rank, world_size=2)))
        for rank in range(2)
    ]
    assert sorted(sum(edges[k] for k in share) for share in shares) == [150, 170]


def test_graphs_without_edges_are_shared_too():
    shares = [
        next(iter(GraphBatchSampler([1] * 6, [0] * 6, batch_size=6, shuffle=False, seed=0, rank=rank, world_size=3)))
        for rank in range(3)
    ]
    assert [len(share) for share in shares] == [2, 2, 2]


def test_a_process_without_a_share_still_takes_the_step():
    steps = list(GraphBatchSampler([3], [6], batch_size=4, shuffle=True, seed=0, rank=1, world_size=2))
    assert steps == [[]]


def test_order_is_a_function_of_seed_and_epoch():
    sizes = [(3, 6)] * 20

    def order(seed, epoch, **arguments):
        batches = sampler(sizes, seed=seed, **arguments)
        batches.set_epoch(epoch)
        return list(batches)

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 1)
    assert order(1, 2, shuffle=False) == [list(range(k, k + 4)) for k in range(0, 20, 4)]


def test_works_as_the_batch_sampler_of_a_data_loader():
    structures = [molecule("H2O"), Atoms("Ar"), bulk("Cu"), molecule("CH4"), bulk("Si")]
    graphs = [graph_from_atoms(atoms, 3.0) for atoms in structures]
    batches = GraphBatchSampler(
        [g.num_nodes for g in graphs], [g.num_edges for g in graphs], batch_size=3, max_edges=25, shuffle=True, seed=1
    )
    loaded = list(DataLoader(graphs, batch_sampler=batches, collate_fn=collate))
    assert len(loaded) == len(batches) > 1
    assert sum(batch.num_systems for batch in loaded) == 5
    assert all(batch.num_edges <= 25 for batch in loaded)
    expected = np.concatenate([structures[k].numbers for share in batches for k in share])
    assert torch.cat([batch.atomic_numbers for batch in loaded]).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_atoms": 9}, "graph 1 alone has 10 atoms.*max_atoms=9"),
        ({"max_edges": 19}, "graph 0 alone has 20 edges.*max_edges=19"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"max_edges": 0}, "max_edges=0"),
        ({"rank": 2, "world_size": 2}, "rank=2"),
        ({"rank": -1}, "rank=-1"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_nonsense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        sampler([(5, 20), (10, 4)], **arguments)


def test_counts_must_belong_together():
    for atoms, edges in (([1, 2], [1]), ([], [])):
        with pytest.raises(ValueError, match="graphs"):
            GraphBatchSampler(atoms, edges, batch_size=1, shuffle=False, seed=0)
