"""Executable contracts: laws that a model has to obey, each measured by one function.

print(check_potential(potential))          # the measured errors; AssertionError if a law is broken
print(check_tensor_product(product))
print(check_backend(problem))              # Triton kernels against torch in float64
print(check_stepper(stepper, u))           # a solver of a partial differential equation
"""

from sciml.testing.kernels import KERNEL_TOLERANCES as KERNEL_TOLERANCES
from sciml.testing.kernels import check_backend as check_backend
from sciml.testing.potentials import TOLERANCES as TOLERANCES
from sciml.testing.potentials import check_potential as check_potential
from sciml.testing.potentials import measure_potential as measure_potential
from sciml.testing.report import LawReport as LawReport
from sciml.testing.steppers import STEPPER_TOLERANCES as STEPPER_TOLERANCES
from sciml.testing.steppers import check_stepper as check_stepper
from sciml.testing.tensor_products import TENSOR_PRODUCT_TOLERANCES as TENSOR_PRODUCT_TOLERANCES
from sciml.testing.tensor_products import check_tensor_product as check_tensor_product
