"""The one table of tensor-product backends, and the function that builds one."""

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from e3nn.o3 import Irreps

from sciml.tensor_products.couplings import summed_irreps
from sciml.tensor_products.interface import TensorProduct
from sciml.tensor_products.problem import TensorProductProblem

BACKENDS = {
    "clebsch_gordan": "sciml.tensor_products.clebsch_gordan:ClebschGordan",
    "gaunt_fourier": "sciml.tensor_products.gaunt_fourier:GauntFourier",
    "gaunt_grid": "sciml.tensor_products.gaunt_grid:GauntGrid",
    "cp": "sciml.tensor_products.cp:CP",
    "vector_signal": "sciml.tensor_products.vector_signal:VectorSignal",
}


def tensor_product(
    problem: TensorProductProblem,
    backend: str = "clebsch_gordan",
    *,
    implementation: str = "auto",
    layout: str = "mul_ir",
    rank: int | str | None = None,
) -> TensorProduct:
    """Build the tensor product of `problem`.

    Args:
        problem: irreps, mode and normalisation.
        backend: which product, a key of `BACKENDS`.
        implementation: how it is computed: "torch", "triton", or "auto" for the fastest there is (see `TensorProduct`).
        layout: "mul_ir" as in e3nn, or "ir_mul" with contiguous channels.
        rank: of the backend "cp": an int, or "exact" (None).

    Raises:
        ValueError: for an unknown backend, implementation or layout, a rank of another backend, or irreps out that the
            backend cannot reach.

    >>> problem = TensorProductProblem("8x0e+8x1o", "0e+1o", "0e+1o", mode="uvu")
    >>> {name: tensor_product(problem, name).weight_numel for name in ("clebsch_gordan", "gaunt_grid", "cp")}
    {'clebsch_gordan': 32, 'gaunt_grid': 16, 'cp': 8}
    """
    module, name = _module(backend)
    options: dict[str, Any] = {}
    if rank is not None:
        if backend != "cp":
            raise ValueError(f"got rank={rank!r} for the backend {backend}; only cp has a rank")
        options["rank"] = rank
    reached = {ir for _, ir in reachable(problem, backend)}
    missing = [ir for ir in dict.fromkeys(ir for _, ir in problem.irreps_out) if ir not in reached]
    if missing:
        others = [
            other
            for other in BACKENDS
            if {ir for _, ir in problem.irreps_out} <= {ir for _, ir in reachable(problem, other)}
        ]
        raise ValueError(
            f"{backend} cannot reach {', '.join(map(str, missing))} from {problem.irreps_in1} ⊗ {problem.irreps_in2}, "
            f"where l1+l2+l3 is {'even' if backend == 'vector_signal' else 'odd'}; ask only for what "
            f"reachable(problem, {backend!r}) gives, {reachable(problem, backend) or 'nothing here'}, or use "
            f"{' or '.join(others)}, which reach all"
        )
    return getattr(module, name)(problem, layout=layout, implementation=implementation, **options)


def reachable(problem: TensorProductProblem, backend: str) -> Irreps:
    """Those of `problem.irreps_out` that a backend can reach, sorted, with the channels that they get.

    Args:
        problem: irreps and mode.
        backend: a key of `BACKENDS`.

    Raises:
        ValueError: for an unknown backend.

    >>> problem = TensorProductProblem("1o", "1o")
    >>> reachable(problem, "gaunt_grid"), reachable(problem, "vector_signal")
    (1x0e+1x2e, 1x1e)
    """
    return summed_irreps(problem, _module(backend)[0].path_weight)


def _module(backend: str) -> tuple[ModuleType, str]:
    if backend not in BACKENDS:
        raise ValueError(f"got the backend {backend!r}; available: {', '.join(BACKENDS)}")
    module, name = BACKENDS[backend].split(":")
    return importlib.import_module(module), name


def read_product(given: str | Mapping[str, Any]) -> dict[str, Any]:
    """Backend and options of a tensor product, from its name or a mapping: what a model's configuration gives.

    Raises:
        ValueError: for anything else.
    """
    product = {"backend": given} if isinstance(given, str) else dict(given)
    if "backend" not in product or not set(product) <= {"backend", "rank"}:
        raise ValueError(
            f"got tensor_product={given!r}; expected one of {', '.join(BACKENDS)}, or a mapping such as "
            "{backend: gaunt_grid} or {backend: cp, rank: 28}"
        )
    return product
