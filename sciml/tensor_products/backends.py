"""The one table of tensor-product backends, and the function that builds one."""

import importlib

from sciml.tensor_products.interface import TensorProduct
from sciml.tensor_products.problem import TensorProductProblem

BACKENDS = {"clebsch_gordan": "sciml.tensor_products.clebsch_gordan:ClebschGordan"}


def tensor_product(
    problem: TensorProductProblem,
    backend: str = "clebsch_gordan",
    *,
    implementation: str = "auto",
    layout: str = "mul_ir",
) -> TensorProduct:
    """Build the tensor product of `problem`.

    Args:
        problem: irreps, mode and normalisation.
        backend: which product, a key of `BACKENDS`.
        implementation: how it is computed: "torch", or "auto" for the fastest there is.
        layout: "mul_ir" as in e3nn, or "ir_mul" with contiguous channels.

    Raises:
        ValueError: for an unknown backend or implementation.
    """
    if backend not in BACKENDS:
        raise ValueError(f"got the backend {backend!r}; available: {', '.join(BACKENDS)}")
    if implementation not in ("auto", "torch"):
        raise ValueError(f"got the implementation {implementation!r} of {backend}; available: auto, torch")
    module, name = BACKENDS[backend].split(":")
    return getattr(importlib.import_module(module), name)(problem, layout=layout)
