"""The non-zero Clebsch-Gordan coefficients of a channelwise ("uvu", one channel of y) problem, as plain numbers."""

from functools import lru_cache
from typing import NamedTuple

from sciml.tensor_products.couplings import path_tensor, separate_coefficients
from sciml.tensor_products.problem import TensorProductProblem


class PathCoupling(NamedTuple):
    """One path: rows of x, y and z that it couples, and its coefficients.

    Attributes:
        name: such as "0e x 1o -> 1o".
        rows1: rows i of x, one channel each.
        rows2: rows j of y.
        rows_out: rows k of z.
        entries: (i, j, k, α_p C_ijk) of the non-zeros, by rows of the whole x, y and z.
    """

    name: str
    rows1: range
    rows2: range
    rows_out: range
    entries: tuple[tuple[int, int, int, float], ...]


class Couplings(NamedTuple):
    """All paths of a problem.

    Attributes:
        channels: U.
        num_rows1: rows of x; x is (nodes, rows, U).
        num_rows2: components of y.
        num_rows_out: rows of z, those of one path after those of another.
        paths: in the order of their weights and outputs.
    """

    channels: int
    num_rows1: int
    num_rows2: int
    num_rows_out: int
    paths: tuple[PathCoupling, ...]


def why_not_channelwise(problem: TensorProductProblem) -> str | None:
    """Why a problem is not channelwise, or None if it is."""
    if problem.mode != "uvu":
        return f"its mode is {problem.mode}, and kernels are written for uvu"
    if len({mul for mul, _ in problem.irreps_in1}) != 1:
        return f"the multiplicities of x, {problem.irreps_in1}, are not equal"
    if any(mul != 1 for mul, _ in problem.irreps_in2):
        return f"y, {problem.irreps_in2}, has more than one channel"
    return None


def problem_key(problem: TensorProductProblem) -> str:
    """A string that `couplings` reads: operators of torch take strings, not problems."""
    return f"{problem.irreps_in1} | {problem.irreps_in2} | {problem.irreps_out}"


@lru_cache(maxsize=256)
def couplings(key: str) -> Couplings:
    """The couplings of the channelwise problem with this key."""
    problem = TensorProductProblem(*key.split("|"), mode="uvu")
    irreps1, irreps2 = problem.irreps_in1, problem.irreps_in2
    rows1 = _rows([ir.dim for _, ir in irreps1])
    rows2 = _rows([ir.dim for _, ir in irreps2])
    rows_out = _rows([path.irrep_out.dim for path in problem.paths])
    paths = []
    for path, alpha, k in zip(problem.paths, separate_coefficients(problem), rows_out, strict=True):
        tensor = alpha * path_tensor(problem, path)
        i, j = rows1[path.block1], rows2[path.block2]
        entries = tuple(
            (i[a], j[b], k[c], tensor[a, b, c].item()) for a, b, c in (tensor.abs() > 1e-12).nonzero().tolist()
        )
        name = f"{irreps1[path.block1].ir} x {irreps2[path.block2].ir} -> {path.irrep_out}"
        paths.append(PathCoupling(name, i, j, k, entries))
    return Couplings(irreps1[0].mul, rows1[-1].stop, rows2[-1].stop, rows_out[-1].stop, tuple(paths))


def _rows(dims: list[int]) -> list[range]:
    rows, start = [], 0
    for dim in dims:
        rows.append(range(start, start + dim))
        start += dim
    return rows
