"""The three findings of The Price of Freedom about tensor products, measured here and now rather than quoted."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from sciml.tensor_products.backends import reachable, tensor_product
from sciml.tensor_products.costs import flops
from sciml.tensor_products.expressivity import expressivity, interactability, measure_couplings
from sciml.tensor_products.interface import TensorProduct
from sciml.tensor_products.problem import TensorProductProblem


@dataclass(frozen=True)
class Finding:
    """A claim, the numbers that were measured for it, and whether they bear it out.

    Attributes:
        claim: one sentence.
        holds: the verdict.
        numbers: what was measured, by name; times in seconds.
    """

    claim: str
    holds: bool
    numbers: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def natural_problem(lmax: int, *, channels: int = 1) -> TensorProductProblem:
    """0e+1o+2e+… ⊗ 0e+1o+2e+… up to `lmax`, pairing equal channels ("uuu"), into all that the rules allow.

    >>> natural_problem(1, channels=8).irreps_in1
    8x0e+8x1o
    """
    if lmax < 0 or channels < 1:
        raise ValueError(f"got lmax={lmax}, channels={channels}; expected lmax ≥ 0 and channels ≥ 1")
    irreps = "+".join(f"{channels}x{l}{'eo'[l % 2]}" for l in range(lmax + 1))
    return TensorProductProblem(irreps, irreps, mode="uuu")


def grid_beats_fourier(
    lmax: int = 4, *, batch: int = 256, channels: int = 8, repeats: int = 15, seed: int = 0
) -> Finding:
    """Time the Gaunt product on the grid and by Fourier series, in turns, on equal float32 inputs.

    Args:
        lmax: largest degree of x and y; z has degrees to 2 lmax.
        batch: samples.
        channels: of x, y and z.
        repeats: timed calls of each, of which the fastest counts.
        seed: of the inputs.

    Raises:
        ValueError: for sizes below 1.
    """
    problem = _reached(natural_problem(lmax, channels=channels), "gaunt_grid")
    products = {name: tensor_product(problem, name) for name in ("gaunt_grid", "gaunt_fourier")}
    seconds = _times(problem, products, batch=batch, repeats=repeats, seed=seed)
    operations = {name: next(iter(flops(tp).values())) for name, tp in products.items()}
    speedup = seconds["gaunt_fourier"] / seconds["gaunt_grid"]
    return Finding(
        f"the grid beats the Fourier series at L = {lmax}",
        speedup > 1,
        {
            "lmax": lmax,
            "batch": batch,
            "channels": channels,
            "seconds": seconds,
            "flops_per_sample": operations,
            "fourier_over_grid_time": speedup,
            "fourier_over_grid_flops": operations["gaunt_fourier"] / operations["gaunt_grid"],
        },
    )


def gain_shrinks_per_expressivity(
    degrees: Sequence[int] = (1, 2, 3, 4), *, batch: int = 256, channels: int = 8, repeats: int = 9, seed: int = 0
) -> Finding:
    """Compare the Gaunt grid's gain over Clebsch-Gordan with the same gain per degree of freedom, as L grows.

        gain = t_CG / t_grid,    gain per expressivity = gain · E_grid / E_CG

    Clebsch-Gordan produces all its paths, the grid all it can reach. The finding holds if the gain grows from the first
    to the last degree, and the gain per expressivity grows less and is below the gain throughout. (E_grid / E_CG falls
    as 1/L², so that only the growth of the gain is a matter of times.)

    Args:
        degrees: values of L, at least two, ascending.
        batch: samples.
        channels: of x, y and z.
        repeats: timed calls of each, of which the fastest counts.
        seed: of the inputs.

    Raises:
        ValueError: for fewer than two degrees, degrees that do not ascend, or sizes below 1.
    """
    if len(degrees) < 2 or list(degrees) != sorted(set(degrees)):
        raise ValueError(f"got degrees={tuple(degrees)}; expected at least two, ascending, such as (1, 2, 3, 4)")
    rows: list[dict[str, Any]] = []
    for lmax in degrees:
        problem = natural_problem(lmax, channels=channels)
        products, expressed = {}, {}
        for name in ("clebsch_gordan", "gaunt_grid"):
            products[name] = tensor_product(_reached(problem, name), name)
            expressed[name], _ = expressivity(measure_couplings(_reached(problem, name), name), seed=seed)
        seconds = _times(problem, products, batch=batch, repeats=repeats, seed=seed)
        gain = seconds["clebsch_gordan"] / seconds["gaunt_grid"]
        rows.append(
            {
                "lmax": lmax,
                "seconds": seconds,
                "expressivity": expressed,
                "gain": gain,
                "gain_per_expressivity": gain * expressed["gaunt_grid"] / expressed["clebsch_gordan"],
            }
        )
    growth, growth_per_expressivity = (rows[-1][name] / rows[0][name] for name in ("gain", "gain_per_expressivity"))
    below = all(row["gain_per_expressivity"] < row["gain"] for row in rows)
    return Finding(
        f"per expressivity, less is left of the grid's gain over Clebsch-Gordan, and it grows less, from "
        f"L = {degrees[0]} to {degrees[-1]}",
        growth > 1 and growth_per_expressivity < growth and below,
        {
            "batch": batch,
            "channels": channels,
            "rows": rows,
            "growth_of_gain": growth,
            "growth_of_gain_per_expressivity": growth_per_expressivity,
        },
    )


def odd_sums_need_vector_signals(lmax: int = 3) -> Finding:
    """Count the triples (l1, l2, l3) that interact under the Gaunt and under the vector-signal product.

    The finding holds if Gaunt couples exactly those of even l1+l2+l3, and the vector signal exactly those of odd sum.
    Where l1 or l2 is zero, l3 = l1+l2 is the only path, and its sum is even: the two together have all.

    Args:
        lmax: largest degree of x and y.

    Raises:
        ValueError: for lmax below 1, where no sum is odd.
    """
    if lmax < 1:
        raise ValueError(f"got lmax={lmax}; expected at least 1, since 1 ⊗ 1 → 1 is the first odd sum")
    problem = natural_problem(lmax)
    tables = {
        name: interactability(problem, measure_couplings(_reached(problem, name), name))
        for name in ("gaunt_grid", "vector_signal")
    }
    odd = {triple: sum(int(irrep[:-1]) for irrep in triple) % 2 == 1 for triple in tables["gaunt_grid"]}
    counts = {
        f"{name}_{parity}": sum(table[triple] for triple in table if odd[triple] == (parity == "odd"))
        for name, table in tables.items()
        for parity in ("even", "odd")
    }
    return Finding(
        f"odd l1+l2+l3 do not interact under Gaunt, and vector signals complete it, up to L = {lmax}",
        all(
            tables["gaunt_grid"][triple] != odd[triple] and tables["vector_signal"][triple] == odd[triple]
            for triple in odd
        ),
        {"lmax": lmax, "even_paths": len(odd) - sum(odd.values()), "odd_paths": sum(odd.values()), **counts},
    )


def _reached(problem: TensorProductProblem, backend: str) -> TensorProductProblem:
    return replace(problem, irreps_out=reachable(problem, backend))


def _times(
    problem: TensorProductProblem, products: Mapping[str, TensorProduct], *, batch: int, repeats: int, seed: int
) -> dict[str, float]:
    """Seconds of the fastest call of each product: other work on the machine only adds. They take turns."""
    if batch < 1 or repeats < 1:
        raise ValueError(f"got batch={batch}, repeats={repeats}; expected at least 1")
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(batch, i.dim, generator=generator) for i in (problem.irreps_in1, problem.irreps_in2))
    seconds: dict[str, list[float]] = {name: [] for name in products}
    with torch.no_grad():
        for repeat in range(repeats + 2):
            for name, tp in products.items():
                start = time.perf_counter()
                tp(x, y)
                if repeat >= 2:  # the first calls allocate
                    seconds[name].append(time.perf_counter() - start)
    return {name: min(values) for name, values in seconds.items()}
