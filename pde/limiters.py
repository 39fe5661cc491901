"""Slopes inside cells, from the differences to the cells on both sides."""

from collections.abc import Callable

import torch
from torch import Tensor


def monotonised_central(back: Tensor, ahead: Tensor) -> Tensor:
    """The central slope, but at most twice either one-sided slope, and zero at extrema (van Leer, 1977)."""
    sign = torch.sign(back)
    size = torch.minimum(0.5 * (back + ahead).abs(), 2 * torch.minimum(back.abs(), ahead.abs()))
    return torch.where(back * ahead > 0, sign * size, 0)


def van_leer(back: Tensor, ahead: Tensor) -> Tensor:
    """The harmonic mean of both slopes, zero at extrema (van Leer, 1974)."""
    product = back * ahead
    return torch.where(product > 0, 2 * product / torch.where(product > 0, back + ahead, 1), 0)


def unlimited(back: Tensor, ahead: Tensor) -> Tensor:
    """The central slope: second order everywhere, for smooth flow only (Fromm, 1968)."""
    return 0.5 * (back + ahead)


def first_order(back: Tensor, ahead: Tensor) -> Tensor:
    """No slope (Godunov, 1959)."""
    return 0 * (back + ahead)


LIMITERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "monotonised_central": monotonised_central,
    "van_leer": van_leer,
    "unlimited": unlimited,
    "first_order": first_order,
}
