"""Executable contracts: laws that a model has to obey, each measured by one function.

print(check_potential(potential))          # the measured errors; AssertionError if a law is broken
print(check_tensor_product(product))
"""

from sciml.testing.potentials import TOLERANCES as TOLERANCES
from sciml.testing.potentials import check_potential as check_potential
from sciml.testing.potentials import measure_potential as measure_potential
from sciml.testing.report import LawReport as LawReport
from sciml.testing.tensor_products import TENSOR_PRODUCT_TOLERANCES as TENSOR_PRODUCT_TOLERANCES
from sciml.testing.tensor_products import check_tensor_product as check_tensor_product
