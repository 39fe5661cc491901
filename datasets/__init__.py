"""Readers, labellers and reference energies of labelled structures."""

from sciml.datasets.benchmarks import BENCHMARKS, load_benchmark
from sciml.datasets.checks import Checks
from sciml.datasets.keys import LabelKeys
from sciml.datasets.reference_energies import energy_shifts, reference_energies
from sciml.datasets.structures import LabelledStructure, labelled_graph, read_structures, split_structures

__all__ = [
    "BENCHMARKS",
    "Checks",
    "LabelKeys",
    "LabelledStructure",
    "energy_shifts",
    "labelled_graph",
    "load_benchmark",
    "read_structures",
    "reference_energies",
    "split_structures",
]
