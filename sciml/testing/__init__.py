"""Executable contracts: laws that a model has to obey, each measured by one function.

print(check_potential(potential))          # the measured errors; AssertionError if a law is broken
"""

from sciml.testing.potentials import TOLERANCES as TOLERANCES
from sciml.testing.potentials import PotentialReport as PotentialReport
from sciml.testing.potentials import check_potential as check_potential
from sciml.testing.potentials import measure_potential as measure_potential
