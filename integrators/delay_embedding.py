"""Phase spaces out of one time series: (x(t), x(t + τ), …), with τ and the dimension by named criteria."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

Array = NDArray[Any]


def embed(values: ArrayLike, *, dimension: int, delay: int) -> Array:
    """Rows (x_i, x_{i+τ}, …), (samples − (dimension − 1) τ, dimension).

    Source: F. Takens, Lect. Notes Math. 898, 366 (1981), doi:10.1007/BFb0091924.

    Raises:
        ValueError: if the series is too short.
    """
    x = np.asarray(values, dtype=np.float64)
    number = x.size - (dimension - 1) * delay
    if dimension < 1 or delay < 1 or number < 2:
        raise ValueError(f"a series of {x.size} samples has no embedding of dimension {dimension} with delay {delay}")
    return np.stack([x[i * delay : i * delay + number] for i in range(dimension)], axis=1)


def mutual_information(values: ArrayLike, delay: int, *, bins: int = 32) -> float:
    """Between x_i and x_{i+τ}, in nats, with equally filled bins."""
    x = np.asarray(values, dtype=np.float64)
    ranks = np.argsort(np.argsort(x, kind="stable"), kind="stable") * bins // x.size
    joint = np.bincount(ranks[: x.size - delay] * bins + ranks[delay:], minlength=bins * bins).reshape(bins, bins)
    p = joint / joint.sum()
    expected = p.sum(axis=1, keepdims=True) * p.sum(axis=0, keepdims=True)
    return float(np.sum(p[p > 0] * np.log(p[p > 0] / expected[p > 0])))


def first_minimum_delay(values: ArrayLike, *, longest: int = 200, bins: int = 32) -> int:
    """Delay of the first minimum of the mutual information; the longest if there is none.

    Source: A. M. Fraser, H. L. Swinney, Phys. Rev. A 33, 1134 (1986), doi:10.1103/PhysRevA.33.1134.
    """
    information = [mutual_information(values, delay, bins=bins) for delay in range(1, longest + 1)]
    for i in range(1, len(information) - 1):
        if information[i] <= min(information[max(0, i - 5) : i + 6]):  # estimates are noisy
            return i + 1
    return longest


def false_neighbours(values: ArrayLike, *, dimension: int, delay: int, ratio: float = 15.0) -> float:
    """Share of nearest neighbours that part when a dimension is added: distances grow by more than `ratio`.

    Source: M. B. Kennel, R. Brown, H. D. I. Abarbanel, Phys. Rev. A 45, 3403 (1992), doi:10.1103/PhysRevA.45.3403.
    """
    higher = embed(values, dimension=dimension + 1, delay=delay)
    points = higher[:, :dimension]
    distances, neighbours = cKDTree(points).query(points, k=2)
    near, index = distances[:, 1], neighbours[:, 1]
    scale = np.std(np.asarray(values, dtype=np.float64))
    grown = np.abs(higher[:, -1] - higher[index, -1])
    counted = near > 1e-9 * scale  # a neighbour at no distance says nothing
    false = (grown[counted] > ratio * near[counted]) | (grown[counted] > 2 * scale)
    return float(np.mean(false)) if counted.any() else 0.0


def embedding_dimension(values: ArrayLike, *, delay: int, largest: int = 10, share: float = 0.01) -> int:
    """The least dimension with fewer false neighbours than a share; the largest if there is none."""
    for dimension in range(1, largest + 1):
        if false_neighbours(values, dimension=dimension, delay=delay) < share:
            return dimension
    return largest
