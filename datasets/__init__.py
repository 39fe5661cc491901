"""Labelled structures and flow fields: readers, writers, labellers, generators, reference energies."""

from sciml.datasets.benchmarks import BENCHMARKS, load_benchmark
from sciml.datasets.checks import Checks
from sciml.datasets.keys import LabelKeys
from sciml.datasets.reference_energies import energy_shifts, reference_energies
from sciml.datasets.stored_fields import Fields
from sciml.datasets.structures import LabelledStructure, labelled_graph, read_structures, split_structures
from sciml.datasets.well_reader import open_fields
from sciml.datasets.well_writer import FieldSet, write_fields

__all__ = [
    "BENCHMARKS",
    "Checks",
    "FieldSet",
    "Fields",
    "LabelKeys",
    "LabelledStructure",
    "energy_shifts",
    "labelled_graph",
    "load_benchmark",
    "open_fields",
    "read_structures",
    "reference_energies",
    "split_structures",
    "write_fields",
]
