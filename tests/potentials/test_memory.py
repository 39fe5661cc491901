"""Bounds of memory: amounts, measurements, estimates and refusals."""

import copy
import pickle

import numpy as np
import pytest
import torch
from ase.build import bulk

from sciml.graphs import graph_from_atoms
from sciml.potentials import Committee, PotentialCalculator, memory_bound
from sciml.potentials.escaip import EScAIP
from sciml.potentials.facet import Facet
from sciml.potentials.memory import (
    InsufficientMemoryError,
    as_bytes,
    as_text,
    free_memory,
    peak_memory,
)
from sciml.potentials.memory_bound import MemoryBound
from sciml.potentials.memory_model import MARGIN
from sciml.potentials.tdn import TDN

CPU = torch.device("cpu")


def facet(**arguments):
    torch.manual_seed(0)
    potential = Facet(**{"species": [29], "cutoff": 4.0, "channels": 8, "lmax": 1, **arguments})
    with torch.no_grad():
        for parameter in potential.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return potential.eval().requires_grad_(False)


def copper(repeats):
    atoms = bulk("Cu", cubic=True) * repeats
    atoms.rattle(0.05, seed=0)
    return atoms


@pytest.mark.parametrize(("text", "number"), [("4GB", 4 * 10**9), ("1.5 MiB", 1572864), (100, 100), ("2e6", 2000000)])
def test_amounts(text, number):
    assert as_bytes(text) == number


@pytest.mark.parametrize("text", ["", "4 apples", "-1GB", "0", "GB", "1.2.3MB", "nan", 0.5, "1e40TB"])
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(ValueError, match="got the amount of memory"):
        PotentialCalculator(facet(), max_memory=text)


def test_amounts_in_words():
    assert [as_text(size) for size in (12, 1234, 5.67e8, 12e12)] == ["12 B", "1.23 kB", "567 MB", "12 TB"]


def test_free_memory_is_what_the_system_says():
    psutil = pytest.importorskip("psutil")
    free = free_memory(CPU)
    assert free <= psutil.virtual_memory().total
    assert free > 1e7


def test_the_peak_counts_what_is_there_at_once():
    def run():
        a = torch.zeros(1000, dtype=torch.float64)
        b = a + 1  # 16 kB now
        del a
        c = b.view(10, 100).mul_(2)  # no memory of its own
        return (c + 1).sum()

    assert peak_memory(run, CPU) == pytest.approx(16000, abs=100)


@pytest.mark.parametrize(
    "potential",
    [
        facet(),
        TDN(species=[29], cutoff=4.0, channels=8, num_heads=2).eval().requires_grad_(False),
        EScAIP(species=[29], cutoff=4.0, num_blocks=1, channels=16, num_heads=1).eval().requires_grad_(False),
    ],
    ids=lambda potential: type(potential).__name__,
)
def test_the_estimate_is_near_the_peak_of_a_larger_structure(potential):
    graph = graph_from_atoms(copper(4), 4.0)
    estimate = MemoryBound(potential).needed(graph) / MARGIN["cpu"]
    assert estimate == pytest.approx(peak_memory(lambda: potential(graph), CPU), rel=0.25)


def test_chunks_keep_within_the_bound():
    potential = facet()
    graph = graph_from_atoms(copper(5), 4.0)
    bound = MemoryBound(potential)
    whole = bound.needed(graph)
    small = MemoryBound(potential, whole / 4)
    out = []
    peak = peak_memory(lambda: out.append(small(graph)), CPU)
    assert small.chunks > 4
    assert peak < whole / 4
    expected = bound(graph)
    assert bound.chunks == 1
    np.testing.assert_allclose(out[0].forces, expected.forces, atol=2e-6)
    np.testing.assert_allclose(out[0].energy, expected.energy, rtol=1e-7)
    np.testing.assert_allclose(out[0].stress, expected.stress, atol=1e-7)


def test_the_calculator_bounds_its_memory_and_can_be_copied():
    atoms = copper(4)
    atoms.calc = PotentialCalculator(facet(), dtype="float64")
    expected = atoms.get_forces(), atoms.get_stress()
    for calculator in (
        PotentialCalculator(facet(), dtype="float64", max_memory="12MB"),
        pickle.loads(pickle.dumps(PotentialCalculator(facet(), dtype="float64", max_memory="12MB"))),
    ):
        atoms.calc = copy.deepcopy(calculator)
        np.testing.assert_allclose(atoms.get_forces(), expected[0], atol=1e-12)
        np.testing.assert_allclose(atoms.get_stress(), expected[1], atol=1e-13)
        assert atoms.calc._bound.chunks > 2


def test_too_little_for_the_smallest_chunk_says_what_to_do():
    atoms = copper(3)
    atoms.calc = PotentialCalculator(facet(), dtype="float64", max_memory="100kB")
    with pytest.raises(InsufficientMemoryError, match=r"108 atoms .* max_memory is 100 kB, free on cpu are .*float32"):
        atoms.get_forces()
    assert issubclass(InsufficientMemoryError, ValueError)  # which the command line reports in one line
    assert issubclass(InsufficientMemoryError, MemoryError)


def test_without_a_bound_what_is_free_is_the_bound(monkeypatch, caplog):
    monkeypatch.setattr(memory_bound, "UNCHECKED_EDGES", 10)
    monkeypatch.setattr(memory_bound, "free_memory", lambda _: 10_000_000)
    potential, graph = facet(), graph_from_atoms(copper(4), 4.0)
    bound = MemoryBound(potential)
    bound(graph)
    assert bound.chunks > 1
    assert "evaluated in" in caplog.text
    monkeypatch.setattr(memory_bound, "free_memory", lambda _: 1000)
    with pytest.raises(InsufficientMemoryError, match="free memory to be used is 900 B"):
        bound(graph)
    with pytest.raises(InsufficientMemoryError, match="only 1 kB are free"):
        MemoryBound(potential, "1GB")(graph)
    direct = EScAIP(species=[29], cutoff=4.0, num_blocks=1, channels=16, num_heads=1, forces="direct").eval()
    with pytest.raises(InsufficientMemoryError, match="no gradient of its energy"):
        MemoryBound(direct)(graph)
    with pytest.raises(ValueError, match="no gradient of its energy"):
        MemoryBound(direct, "1GB")


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory. Tried to"), RuntimeError("[x] can't allocate memory: you")]
)
def test_running_out_of_memory_all_the_same_is_explained(error):
    def fails(graph):
        raise error

    graph = graph_from_atoms(copper(1), 4.0)
    with pytest.raises(InsufficientMemoryError, match=r"4 atoms .* ran out of memory .* the estimate is .* max_memory"):
        MemoryBound(facet())(graph, fails)

    def broken(graph):
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        MemoryBound(facet())(graph, broken)


def test_members_of_a_committee_take_turns():
    graph = graph_from_atoms(copper(4), 4.0)
    both = Committee([facet(), facet(channels=4)]).eval()
    assert MemoryBound(both).needed(graph) == MemoryBound(facet()).needed(graph)
    bound = MemoryBound(both, MemoryBound(both).needed(graph) / 3)
    np.testing.assert_allclose(bound(graph).forces, both(graph).forces, atol=2e-6)
    assert bound.chunks > 3
