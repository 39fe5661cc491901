"""CP factors T_ijk ≈ Σ_r A_ir B_jr C_kr of Clebsch-Gordan tensors: shipped, cached, or computed.

`python -m sciml.tensor_products.cp_factors [NAME ...]` recomputes the shipped files, or those named.
"""

import functools
import itertools
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from e3nn.o3 import wigner_3j
from filelock import FileLock
from safetensors.torch import load_file, save_file
from torch import Tensor

from sciml.files import atomic_write
from sciml.tensor_products.cp_als import als, balance, compose

FAMILIES = ("so3", "natural")
FOLDER = Path(__file__).parent / "factors"
EXACT_BELOW = 1e-10

Degrees = tuple[int, int, int]

logger = logging.getLogger("sciml.tensor_products")


class CPFactors(NamedTuple):
    """T_ijk ≈ Σ_r in1_ir in2_jr out_kr, float64, columns of equal norm; shared between callers: do not write to them.

    Attributes:
        in1: (d1, R).
        in2: (d2, R).
        out: (d3, R).
        error: ‖T - Σ‖ / ‖T‖ in the Frobenius norm, T with equal path weights (see `compute`).
    """

    in1: Tensor
    in2: Tensor
    out: Tensor
    error: float


class Recipe(NamedTuple):
    """Arguments of `als` that are known to succeed, and how often its result is projected and fitted again."""

    seed: int
    sweeps: int = 300
    polish: int = 60
    ridge: float = 0.1
    decay: float = 0.4
    projections: int = 0


SHIPPED: dict[tuple[str, Degrees, int], Recipe] = {
    ("so3", (1, 1, 1), 7): Recipe(0, projections=30),
    ("so3", (1, 1, 1), 8): Recipe(0),
    ("so3", (1, 1, 2), 12): Recipe(0),
    ("so3", (1, 2, 2), 18): Recipe(1),
    ("so3", (1, 2, 3), 23): Recipe(0),
    ("so3", (1, 3, 3), 32): Recipe(0),
    ("so3", (2, 2, 2), 28): Recipe(7, polish=100, decay=0.7),
    ("so3", (2, 2, 2), 30): Recipe(0),
    ("so3", (2, 2, 3), 42): Recipe(0),
    ("so3", (2, 3, 3), 62): Recipe(0, decay=0.25),
    ("so3", (3, 3, 3), 63): Recipe(7, sweeps=6000, polish=0),
    ("so3", (3, 3, 3), 90): Recipe(0, decay=0.25),
    ("natural", (1, 1, 1), 9): Recipe(0),
    ("natural", (1, 2, 2), 24): Recipe(0),
    ("natural", (1, 3, 3), 44): Recipe(0, decay=0.25),
    ("natural", (2, 2, 2), 42): Recipe(0, decay=0.5),
    ("natural", (2, 3, 3), 96): Recipe(0, sweeps=4000, polish=0),
    ("natural", (3, 3, 3), 144): Recipe(0, sweeps=6000, polish=0),
}


def cp_factors(family: str, degrees: Degrees, rank: int | str) -> CPFactors:
    """CP factors of `base_tensor(family, degrees)`.

    A given rank is looked up among the files of the package, then in the folder `cp_factors` of the user's cache
    ($SCIML_CACHE, else ~/.cache/sciml), else computed by `als` and cached there. "exact" never computes for long: it is
    the smallest of the shipped exact factors of these degrees, those of permuted or of larger degrees (whose rows it
    takes), and the construction by pairs (`pair_factors`). The ranks are upper bounds found by search, not proven
    minima.

    Args:
        family: "so3" or "natural".
        degrees: largest degrees (L1, L2, L3) of the first input, the second input and the output.
        rank: number of terms, or "exact" for relative errors below 1e-10 at whatever rank is known to reach that.

    Raises:
        ValueError: for an unknown family, degrees that are not three integers ≥ 0, or a rank that is neither an integer
            ≥ 1 nor "exact".
    """
    degrees = _check(family, degrees)
    if isinstance(rank, bool) or (rank != "exact" and not (isinstance(rank, int) and rank >= 1)):
        raise ValueError(f"got rank={rank!r}; expected an integer of at least 1 or 'exact'")
    return _exact(family, degrees) if rank == "exact" else _of_rank(family, degrees, rank)


def output_rows(family: str, degrees: Degrees) -> list[tuple[int, int]]:
    """(l3, sector) of each block of 2 l3 + 1 output rows, in their order.

    Family "so3" has the degrees 0..L3, all of sector 0. Family "natural" has inputs of parity (-1)^l; first come the
    degrees reached by even l1 + l2 + l3, of natural parity (-1)^l3 and sector +1, then those reached by odd ones, of
    the opposite parity and sector -1.

    Raises:
        ValueError: for an unknown family, or degrees that are not three integers ≥ 0.
    """
    degrees = _check(family, degrees)
    if family == "so3":
        return [(l, 0) for l in range(degrees[2] + 1)]
    reached = {((-1) ** (l1 + l2 + l3), l3) for l1, l2, l3 in _paths(degrees)}
    return [(l, sector) for sector in (1, -1) for l in range(degrees[2] + 1) if (sector, l) in reached]


def base_tensor(family: str, degrees: Degrees) -> Tensor:
    """T = Σ_{l1 ≤ L1, l2 ≤ L2, l3 ≤ L3} C^{l1 l2 l3}, each path once with weight 1.

    C is e3nn's real `wigner_3j` of unit norm. Rows of the inputs are those of the degrees 0..L1 and 0..L2; those of the
    output are `output_rows`.

    Returns:
        ((L1 + 1)², (L2 + 1)², d3), float64.

    Raises:
        ValueError: for an unknown family, or degrees that are not three integers ≥ 0.
    """
    dim = sum(2 * l + 1 for l, _ in output_rows(family, degrees))
    tensor = torch.zeros((degrees[0] + 1) ** 2, (degrees[1] + 1) ** 2, dim, dtype=torch.float64)
    for block, coupling in _blocks(family, degrees):
        tensor[block] += coupling
    return tensor


def equivariant_part(tensor: Tensor, family: str, degrees: Degrees) -> Tensor:
    """Σ_paths ⟨T, C⟩ C: the orthogonal projection of T on the equivariant tensors, of the shape of `base_tensor`."""
    projected = torch.zeros_like(tensor)
    for block, coupling in _blocks(family, degrees):
        projected[block] += (tensor[block] * coupling).sum() * coupling
    return projected


def tdn_rank(L: int) -> int:
    """Rank 7 L² (1 at L = 0) of Tensor Decomposition Networks for the largest degree L of inputs and outputs.

    Below the exact rank from L = 1 on, hence only approximately equivariant from L = 2 on (for L = 1 see `compute`).

    Source: Y. Lin et al., arXiv:2507.01131.
    """
    return max(7 * L**2, 1)


def pair_factors(tensor: Tensor) -> CPFactors:
    """The exact T_ijk = Σ_(m, n) e_im e_jn T_mnk, one term for each pair (m, n) of indices with entries.

    The dense axis, here k, is the one that leaves the fewest pairs, at most the product of the other two dimensions.
    """
    dense = min(range(3), key=lambda axis: int(tensor.any(dim=axis).sum()))
    moved = tensor.movedim(dense, 2)
    first, second = moved.any(dim=2).nonzero(as_tuple=True)
    values = moved[first, second].T
    size = values.norm(dim=0) ** (1 / 3)
    factors = [
        torch.eye(moved.shape[0], dtype=torch.float64)[:, first] * size,
        torch.eye(moved.shape[1], dtype=torch.float64)[:, second] * size,
    ]
    factors.insert(dense, values / size**2)
    in1, in2, out = factors
    return _measured(tensor, in1, in2, out)


def compute(family: str, degrees: Degrees, rank: int) -> CPFactors:
    """Factors by `als`: from the start of the recipe if the package ships them, else the best of a few starts.

    A recipe may alternate fits with projections on the equivariant tensors, which are those of other path weights.
    Rank 7 of "so3" (1, 1, 1) so becomes equivariant to rounding, where the invariant combination of its path weights
    w_000 w_111² / (w_011 w_101 w_110) is 2/√3: over the complex numbers, Strassen's product of 2x2 matrices.
    """
    tensor = base_tensor(family, degrees)
    recipe = SHIPPED.get((family, degrees, rank))
    if recipe is not None:
        arguments = recipe._asdict()
        projections = arguments.pop("projections")
        in1, in2, out, _ = als(tensor, rank, **arguments)
        for _ in range(projections):
            in1, in2, out, _ = als(equivariant_part(compose(in1, in2, out), family, degrees), rank, **arguments)
        return _measured(tensor, in1, in2, out)
    if tensor.numel() < 2000:
        return CPFactors(*als(tensor, rank, seed=0, restarts=4, decay=0.5))
    return CPFactors(*als(tensor, rank, seed=0, sweeps=3000, polish=15, ridge=1e-6, decay=0.05))


def main(names: list[str] | None = None) -> None:
    """Recompute the shipped files (those whose names are given, else all) and print their ranks and errors."""
    torch.set_num_threads(1)
    for key in SHIPPED:
        if not names or _name(*key) in names:
            start = time.perf_counter()
            factors = compute(*key)
            _save(FOLDER / _name(*key), factors)
            seconds = time.perf_counter() - start
            sys.stdout.write(f"{_name(*key):32s} rank {key[2]:4d}  error {factors.error:8.1e}  {seconds:6.1f} s\n")


@functools.lru_cache(maxsize=64)
def _of_rank(family: str, degrees: Degrees, rank: int) -> CPFactors:
    name = _name(family, degrees, rank)
    if (family, degrees, rank) in SHIPPED and (FOLDER / name).is_file():
        return _load(FOLDER / name)
    folder = Path(os.environ.get("SCIML_CACHE") or Path.home() / ".cache" / "sciml") / "cp_factors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{name}.lock"):
            if not (folder / name).is_file():
                logger.info("computing CP factors %s; takes seconds to minutes, and is cached in %s", name, folder)
                _save(folder / name, compute(family, degrees, rank))
            return _load(folder / name)
    except OSError as error:
        logger.warning("cannot cache CP factors in %s (%s); computing %s", folder, error, name)
        return compute(family, degrees, rank)


@functools.lru_cache(maxsize=64)
def _exact(family: str, degrees: Degrees) -> CPFactors:
    tensor = base_tensor(family, degrees)
    best = pair_factors(tensor)
    for shipped_family, larger, rank in SHIPPED:
        if shipped_family != family or not (FOLDER / _name(family, larger, rank)).is_file():
            continue
        shipped = _of_rank(family, larger, rank)
        if shipped.error > EXACT_BELOW:
            continue
        for axes in itertools.permutations(range(3)) if family == "so3" else ((0, 1, 2), (1, 0, 2)):
            if all(larger[axis] >= degree for axis, degree in zip(axes, degrees, strict=True)):
                factors = _measured(tensor, *_restrict(shipped, family, larger, axes, degrees))
                if factors.in1.shape[1] < best.in1.shape[1] and factors.error < EXACT_BELOW:
                    best = factors
    return best


def _measured(tensor: Tensor, in1: Tensor, in2: Tensor, out: Tensor) -> CPFactors:
    """Balanced factors with their relative error."""
    in1, in2, out = balance(in1, in2, out)
    return CPFactors(in1, in2, out, float((tensor - compose(in1, in2, out)).norm() / tensor.norm()))


def _restrict(
    shipped: CPFactors, family: str, larger: Degrees, axes: tuple[int, ...], degrees: Degrees
) -> tuple[Tensor, Tensor, Tensor]:
    """Factors of smaller degrees, after a permutation of the axes.

    An odd permutation multiplies C^{l1 l2 l3} by (-1)^(l1 + l2 + l3), which is a sign for each row: (-1)^l of each of
    the three factors, or the sector of the output. Terms that vanish on the rows kept are dropped.
    """
    odd = axes in ((1, 0, 2), (0, 2, 1), (2, 1, 0))
    available = [[(l, 0) for l in range(degree + 1)] for degree in larger[:2]] + [output_rows(family, larger)]
    wanted = [[(l, 0) for l in range(degree + 1)] for degree in degrees[:2]] + [output_rows(family, degrees)]
    factors, kept = (shipped.in1, shipped.in2, shipped.out), []
    for mode, axis in enumerate(axes):
        sizes = [2 * l + 1 for l, _ in available[axis]]
        blocks = dict(zip(available[axis], factors[axis].split(sizes), strict=True))
        signs = {row: (-1) ** row[0] if family == "so3" else (row[1] or 1) for row in wanted[mode]}
        kept.append(torch.cat([blocks[row] * (signs[row] if odd else 1) for row in wanted[mode]]))
    used = torch.stack([factor.norm(dim=0) for factor in kept]).prod(dim=0) > 1e-14
    in1, in2, out = (factor[:, used] for factor in kept)
    return in1, in2, out


def _check(family: str, degrees: Degrees) -> Degrees:
    if family not in FAMILIES:
        raise ValueError(f"got the family {family!r}; expected one of {', '.join(FAMILIES)}")
    given = tuple(degrees)
    if len(given) != 3 or any(isinstance(l, bool) or not isinstance(l, int) or l < 0 for l in given):
        raise ValueError(f"got degrees={degrees!r}; expected three integers of at least 0")
    return given


def _paths(degrees: Degrees) -> list[Degrees]:
    """All (l1, l2, l3) up to the degrees with |l1 - l2| ≤ l3 ≤ l1 + l2."""
    every = itertools.product(*(range(degree + 1) for degree in degrees))
    return [(l1, l2, l3) for l1, l2, l3 in every if abs(l1 - l2) <= l3 <= l1 + l2]


def _blocks(family: str, degrees: Degrees) -> Iterator[tuple[tuple[slice, slice, slice], Tensor]]:
    """The block of `base_tensor` that each path occupies, and its C^{l1 l2 l3} of unit norm."""
    rows = output_rows(family, degrees)
    first = dict(zip(rows, itertools.accumulate((2 * l + 1 for l, _ in rows), initial=0), strict=False))
    for l1, l2, l3 in _paths(degrees):
        k = first[l3, 0 if family == "so3" else (-1) ** (l1 + l2 + l3)]
        block = (slice(l1**2, (l1 + 1) ** 2), slice(l2**2, (l2 + 1) ** 2), slice(k, k + 2 * l3 + 1))
        yield block, wigner_3j(l1, l2, l3, dtype=torch.float64)


def _name(family: str, degrees: Degrees, rank: int) -> str:
    return f"{family}_{'-'.join(map(str, degrees))}_{rank}.safetensors"


def _save(path: Path, factors: CPFactors) -> None:
    tensors = {name: getattr(factors, name).contiguous() for name in ("in1", "in2", "out")}
    tensors["error"] = torch.tensor(factors.error, dtype=torch.float64)
    atomic_write(path, lambda temporary: save_file(tensors, temporary))


def _load(path: Path) -> CPFactors:
    tensors = load_file(path)
    return CPFactors(tensors["in1"], tensors["in2"], tensors["out"], float(tensors["error"]))


if __name__ == "__main__":
    main(sys.argv[1:])
