"""Statistics of time series, whose samples are not independent: effective sizes, block bootstrap, sizes of effects."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import gaussian_kde, rankdata

Array = NDArray[Any]


def correlation_time(values: ArrayLike) -> float:
    """τ = 1 + 2 Σ ρ_k of a series, in samples, summed until the window is 5 τ long (A. D. Sokal 1997); at least 1.

    Raises:
        ValueError: for fewer than 8 samples.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size < 8:
        raise ValueError(f"got a series of shape {x.shape}; expected at least 8 samples")
    x = x - x.mean()
    padded = np.fft.rfft(x, 2 * x.size)
    correlation = np.fft.irfft(np.abs(padded) ** 2)[: x.size]
    if correlation[0] <= 0:
        return float(x.size)  # a constant says one thing
    sums = 2 * np.cumsum(correlation / correlation[0]) - 1
    window = int(np.argmax(np.arange(x.size) >= 5 * np.maximum(sums, 1)))
    return float(np.clip(sums[window or -1], 1, x.size))


def effective_size(values: ArrayLike) -> float:
    """How many independent samples have a mean as uncertain as that of the series."""
    return np.size(values) / correlation_time(values)


def block_bootstrap(
    values: ArrayLike,
    statistic: Callable[[Array], float] = np.mean,
    *,
    rng: np.random.Generator,
    samples: int = 999,
    block: int | None = None,
) -> Array:
    """Values of a statistic on series that are put together of blocks of the given one, (samples,).

    Circular blocks of constant length, by default three correlation times: D. N. Politis, J. P. Romano (1992).
    """
    x = np.asarray(values, dtype=np.float64)
    block = block or max(1, min(x.size, round(3 * correlation_time(x))))
    starts = rng.integers(0, x.size, size=(samples, -(-x.size // block)))
    index = (starts[:, :, None] + np.arange(block)) % x.size
    return np.array([statistic(x[one.ravel()[: x.size]]) for one in index])


class Comparison(NamedTuple):
    """Of two series.

    Attributes:
        difference: of the means, first less second.
        interval: 95 % confidence interval of it, by block bootstrap.
        p_value: of no difference, two-sided, from the bootstrap of both series moved to a common mean.
        cliffs_delta: P(first > second) − P(first < second), from −1 to 1.
        effective_sizes: of both.
    """

    difference: float
    interval: tuple[float, float]
    p_value: float
    cliffs_delta: float
    effective_sizes: tuple[float, float]


def compare(first: ArrayLike, second: ArrayLike, *, rng: np.random.Generator, samples: int = 999) -> Comparison:
    """Whether the means of two correlated series differ, and by how much."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    drawn = block_bootstrap(a, rng=rng, samples=samples) - block_bootstrap(b, rng=rng, samples=samples)
    difference = float(a.mean() - b.mean())
    extreme = int(np.count_nonzero(np.abs(drawn - difference) >= abs(difference)))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Comparison(
        difference,
        (float(low), float(high)),
        (extreme + 1) / (samples + 1),
        cliffs_delta(a, b),
        (effective_size(a), effective_size(b)),
    )


def cliffs_delta(first: ArrayLike, second: ArrayLike) -> float:
    """P(a > b) − P(a < b), by ranks."""
    a, b = np.ravel(first), np.ravel(second)
    ranks = rankdata(np.concatenate([a, b]))[: a.size]
    return float(2 * (ranks.sum() - a.size * (a.size + 1) / 2) / (a.size * b.size) - 1)


def kernel_density(values: ArrayLike, points: ArrayLike) -> Array:
    """Density of correlated samples at points, by Gaussians whose width goes with the effective size (Scott's rule)."""
    x = np.ravel(np.asarray(values, dtype=np.float64))
    return gaussian_kde(x, bw_method=effective_size(x) ** -0.2)(np.asarray(points))
