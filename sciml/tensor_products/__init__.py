"""Equivariant tensor products, one product a file."""

from sciml.tensor_products.backends import BACKENDS as BACKENDS
from sciml.tensor_products.backends import reachable as reachable
from sciml.tensor_products.backends import tensor_product as tensor_product
from sciml.tensor_products.interface import ConvolutionGraph as ConvolutionGraph
from sciml.tensor_products.interface import RadialWeights as RadialWeights
from sciml.tensor_products.interface import TensorProduct as TensorProduct
from sciml.tensor_products.many_body import ManyBodyPower as ManyBodyPower
from sciml.tensor_products.problem import Path as Path
from sciml.tensor_products.problem import TensorProductProblem as TensorProductProblem
