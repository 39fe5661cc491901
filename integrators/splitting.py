"""Symplectic splitting schemes as tables of coefficients, for H = T(π) + U(φ) and for H = H_linear + U_rest.

A step of length h runs through the stages i = 1…s: a drift by a_i h (φ moves under T, or both under the linear part),
then a kick by b_i h (π += b_i h F(φ)). All schemes are palindromes, hence symmetric in time.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from sciml.messages import did_you_mean


@dataclass(frozen=True)
class SplittingScheme:
    """Coefficients of a scheme.

    Attributes:
        name: by which it is asked for.
        order: the error after a fixed time is O(h^order).
        drifts: a_i.
        kicks: b_i, as many.
        needs_quadratic_kinetic: whether the order holds only if T is quadratic in π with a constant metric and the
            kicks are functions of φ alone (Runge-Kutta-Nyström); a linear part must not be rotated with it.
        source: where the coefficients are from.
    """

    name: str
    order: int
    drifts: tuple[float, ...]
    kicks: tuple[float, ...]
    needs_quadratic_kinetic: bool
    source: str

    @cached_property
    def forces_per_step(self) -> int:
        """Evaluations of the force in a step; the last one of a step serves the next one too where it can."""
        kicks = sum(b != 0 for b in self.kicks)
        return kicks - (1 if self.drifts[0] == 0 and self.kicks[-1] != 0 else 0)

    @cached_property
    def stability_limit(self) -> float:
        """Largest hω below which φ'' = −ω²φ stays bounded (2 for Störmer-Verlet): |trace| <= 2 of its matrix."""

        def trace(z: float) -> float:
            matrix = np.eye(2)
            for a, b in zip(self.drifts, self.kicks, strict=True):
                matrix = np.array([[1, 0], [-b * z * z, 1]]) @ np.array([[1, a], [0, 1]]) @ matrix
            return float(np.trace(matrix))

        z = np.arange(1, 20001) * 1e-3
        unstable = [value for value in z if abs(trace(value)) > 2 + 1e-9]
        low, high = unstable[0] - 1e-3, unstable[0]
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (low, middle) if abs(trace(middle)) > 2 + 1e-9 else (middle, high)
        return low


def composition(name: str, order: int, half: Sequence[float], *, source: str) -> SplittingScheme:
    """Symmetric composition of Störmer-Verlet steps γ_1 h, …, γ_1 h.

    `half` gives all but the middle one, which makes their sum 1.
    """
    lengths = [*half, 1 - 2 * math.fsum(half), *reversed(half)]
    drifts = [lengths[0] / 2, *((x + y) / 2 for x, y in pairwise(lengths)), lengths[-1] / 2]
    return SplittingScheme(name, order, tuple(drifts), (*lengths, 0.0), False, source)


def nystrom(
    name: str, order: int, *, drifts: Sequence[float], kicks: Sequence[float], middle: str, source: str
) -> SplittingScheme:
    """A palindrome from the independent halves of its coefficients; the last drift and kick make the sums 1.

    Args:
        name: of the scheme.
        order: of the scheme.
        drifts: a_1, a_2, … but the last.
        kicks: b_1, b_2, … but the last.
        middle: what stands in the middle of the palindrome: "drift" or "kick".
        source: of the coefficients.
    """
    a, b = list(drifts), list(kicks)
    if middle == "drift":
        b.append(0.5 - math.fsum(b))
        a, b = [*a, 1 - 2 * math.fsum(a), *reversed(a)], [*b, *reversed(b)]
    else:
        a.append(0.5 - math.fsum(a))
        a, b = [*a, *reversed(a)], [*b, 1 - 2 * math.fsum(b), *reversed(b)]
    if len(b) > len(a):  # begins with a kick
        return SplittingScheme(name, order, (0.0, *a), tuple(b), True, source)
    return SplittingScheme(name, order, tuple(a), (*b, 0.0), True, source)


_YOSHIDA = "H. Yoshida, Phys. Lett. A 150, 262 (1990), doi:10.1016/0375-9601(90)90092-3"
_KAHAN_LI = "W. Kahan, R.-C. Li, Math. Comput. 66, 1089 (1997), doi:10.1090/S0025-5718-97-00873-9"
_BLANES_MOAN = "S. Blanes, P. C. Moan, J. Comput. Appl. Math. 142, 313 (2002), doi:10.1016/S0377-0427(01)00492-7"

STORMER_VERLET = composition("stormer_verlet", 2, (), source="L. Verlet, Phys. Rev. 159, 98 (1967)")
YOSHIDA_4 = composition("yoshida_4", 4, (1 / (2 - 2 ** (1 / 3)),), source=_YOSHIDA)
YOSHIDA_6 = composition(
    "yoshida_6",
    6,
    (0.78451361047755726382, 0.23557321335935813368, -1.17767998417887100695),
    source=_YOSHIDA,
)
YOSHIDA_8 = composition(
    "yoshida_8",
    8,
    (
        0.74167036435061295345, -0.40910082580003159400, 0.19075471029623837995, -0.57386247111608226666,
        0.29906418130365592384, 0.33462491824529818378, 0.31529309239676659663,
    ),
    source=f"{_YOSHIDA}, solution D",
)  # fmt: skip
KAHAN_LI_8 = composition(
    "kahan_li_8",
    8,
    (
        0.13020248308889008088, 0.56116298177510838456, -0.38947496264484728641, 0.15884190655515560090,
        -0.39590389413323757734, 0.18453964097831570709, 0.25837438768632204729, 0.29501172360931029887,
    ),
    source=f"{_KAHAN_LI}, s17odr8a",
)  # fmt: skip
BLANES_MOAN_4 = nystrom(
    "blanes_moan_4",
    4,
    drifts=(0.245298957184271, 0.604872665711080),
    kicks=(0.0829844064174052, 0.396309801498368, -0.0390563049223486),
    middle="kick",
    source=f"{_BLANES_MOAN}, SRKN_6^b",
)
BLANES_MOAN_6 = nystrom(
    "blanes_moan_6",
    6,
    drifts=(0.123229775946271, 0.290553797799558, -0.127049212625417, -0.246331761062075, 0.357208872795928),
    kicks=(0.0414649985182624, 0.198128671918067, -0.0400061921041533, 0.0752539843015807, -0.0115113874206879),
    middle="drift",
    source=f"{_BLANES_MOAN}, SRKN_11^b",
)
BLANES_MOAN_6_14 = nystrom(
    "blanes_moan_6_14",
    6,
    drifts=(
        0.0378593198406116, 0.102635633102435, -0.0258678882665587, 0.314241403071477,
        -0.130144459517415, 0.106417700369543, -0.00879424312851058,
    ),
    kicks=(
        0.09171915262446165, 0.183983170005006, -0.05653436583288827, 0.004914688774712854,
        0.143761127168358, 0.328567693746804,
    ),
    middle="drift",
    source=f"{_BLANES_MOAN}, SRKN_14^a",
)  # fmt: skip

SCHEMES: dict[str, SplittingScheme] = {
    scheme.name: scheme
    for scheme in (
        STORMER_VERLET,
        YOSHIDA_4,
        YOSHIDA_6,
        YOSHIDA_8,
        KAHAN_LI_8,
        BLANES_MOAN_4,
        BLANES_MOAN_6,
        BLANES_MOAN_6_14,
    )
}


def splitting_scheme(name: str) -> SplittingScheme:
    """The scheme of that name.

    Raises:
        ValueError: if there is none.
    """
    if name not in SCHEMES:
        hint = did_you_mean(name, SCHEMES) or "."
        raise ValueError(f"unknown scheme {name!r}{hint} There is {', '.join(SCHEMES)}")
    return SCHEMES[name]
