"""Factors of bilinear products whose points come in orbits of reflections, which halves their FLOPs once for each one.

    z_k = Σ_r C_rk (Σ_i A_ir x_i) (Σ_j B_jr y_j)

Points of a grid that reflections map to each other, p and g p for the G = 2^n elements g of their group, have the same
factors up to signs: A_i,gp = χ_i(g) A_i,p. Every row belongs to one of G characters c, (-1)^{bits of c & g}, so that

    (Aᵀx)_gp = Σ_c (-1)^{|c & g|} Σ_{i in c} A_ip x_i

takes d FLOPs for a whole orbit, and a fast Walsh-Hadamard transform, G log2 G additions, for its G values. A sphere
has three reflections; the sum and the difference of signals of both parities are one more.

Where orbits are a grid of planes (heights) times places on each (azimuths), A_i,(h,j) = P_ih T_m(i),j separates, and
the M sums over the components of the same m are made once for each plane.

Source: Fino and Algazi, IEEE Trans. Comput. C-25, 1142 (1976), doi:10.1109/TC.1976.1674569 (the fast transform).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]


class OrbitFactor(NamedTuple):
    """One of the matrices A, B, C, by orbit.

    Attributes:
        values: (terms, rows, orbits), at the first point of each orbit.
        characters: (terms, rows), int, c of each row.
        planes: for each term, the same as a product.
    """

    values: Matrix
    characters: npt.NDArray[np.int64]
    planes: tuple["PlaneFactor", ...]

    @property
    def num_multiplications(self) -> tuple[int, int]:
        """By components of each orbit, and by planes."""
        num_places = self.planes[0].places.shape[1]
        num_planes = self.values.shape[2] // num_places
        by_planes = sum(num_planes * (len(plane.group) + num_places * len(plane.places)) for plane in self.planes)
        return int((self.values != 0).sum()), by_planes


class PlaneFactor(NamedTuple):
    """A_i,(h,j) = P_ih T_m(i),j.

    Attributes:
        group: (rows,), int, m of each row.
        heights: (rows, planes), P.
        places: (groups, places on a plane), T.
        characters: (groups,), int.
    """

    group: npt.NDArray[np.int64]
    heights: Matrix
    places: Matrix
    characters: npt.NDArray[np.int64]


def orbit_factor(matrix: Matrix, *, num_terms: int, orbit_size: int, num_planes: int = 1) -> OrbitFactor:
    """Find the characters of the rows of a matrix.

    Args:
        matrix: (rows, terms · G · orbits), columns in this order.
        num_terms: terms, products that are added at each point.
        orbit_size: G, a power of 2.
        num_planes: orbits are ordered as planes times places on each.

    Raises:
        ValueError: for a row that is not symmetric, or not a product.
    """
    blocks = matrix.reshape(len(matrix), num_terms, orbit_size, -1).transpose(1, 2, 0, 3)  # (terms, G, rows, orbits)
    first = blocks[:, 0]
    characters = np.zeros(first.shape[:2], dtype=np.int64)
    for bit in range(orbit_size.bit_length() - 1):
        overlap = (blocks[:, 1 << bit] * first).sum(axis=-1)
        characters |= np.where(overlap < 0, 1 << bit, 0)
    for g in range(orbit_size):
        signs = np.vectorize(lambda bits: (-1.0) ** int(bits).bit_count())(characters & g)
        if not np.allclose(blocks[:, g], signs[..., None] * first, rtol=0, atol=1e-12 * np.abs(matrix).max()):
            raise ValueError(f"got a matrix of shape {matrix.shape} whose columns are no orbits of {orbit_size} points")
    values = np.where(np.abs(first) > 1e-14 * np.abs(matrix).max(), first, 0.0)
    planes = tuple(_planes(v.reshape(len(matrix), num_planes, -1), c) for v, c in zip(values, characters, strict=True))
    return OrbitFactor(np.ascontiguousarray(values), characters, planes)


def _planes(values: Matrix, characters: npt.NDArray[np.int64]) -> PlaneFactor:
    group: list[int] = []
    heights: list[Matrix] = []
    places: list[Matrix] = []  # of each group, with its character
    found: list[int] = []
    for row, character in zip(values, characters, strict=True):
        profile = row[np.abs(row).max(axis=1).argmax()]
        largest = profile[np.abs(profile).argmax()]
        profile = profile / largest if largest else profile
        same = (
            m for m, p in enumerate(places) if found[m] == character and np.allclose(p, profile, rtol=0, atol=1e-11)
        )
        m = next(same, len(places))
        if m == len(places):
            places.append(profile)
            found.append(character)
        height = row @ places[m] / max(places[m] @ places[m], 1.0)
        if not np.allclose(np.outer(height, places[m]), row, rtol=0, atol=1e-11 * max(np.abs(values).max(), 1e-300)):
            raise ValueError(f"got values of shape {values.shape} at planes and places that are no products")
        group.append(m)
        heights.append(height)
    return PlaneFactor(np.array(group), np.stack(heights), np.stack(places), np.array(found))


class Signed(NamedTuple):
    """± a variable of the source; None stands for zero."""

    sign: int
    name: str


class Writer:
    """Lines of the source of a kernel, with fresh names."""

    def __init__(self, indent: str = "    ") -> None:
        self.lines: list[str] = []
        self.indent = indent
        self._count = 0

    def line(self, text: str) -> None:
        """Append a line."""
        self.lines.append(self.indent + text)

    def let(self, expression: str) -> str:
        """Name an expression."""
        name = f"t{self._count}"
        self._count += 1
        self.line(f"{name} = {expression}")
        return name

    def walsh_hadamard(self, values: Sequence[Signed | None]) -> list[Signed | None]:
        """v_g = Σ_c (-1)^{|c & g|} s_c."""
        result = list(values)
        step = 1
        while step < len(result):
            for start in range(len(result)):
                if not start & step:
                    low, high = result[start], result[start | step]
                    result[start] = self._sum(low, high, 1)
                    result[start | step] = self._sum(low, high, -1)
            step *= 2
        return result

    def _sum(self, a: Signed | None, b: Signed | None, sign: int) -> Signed | None:
        if b is None:
            return a
        if a is None:
            return Signed(sign * b.sign, b.name)
        operator = "+" if a.sign == sign * b.sign else "-"
        return Signed(a.sign, self.let(f"{a.name} {operator} {b.name}"))

    def at_points(
        self, components: Sequence[str], factor: OrbitFactor, orbit_size: int, term: int, orbits: Sequence[int]
    ) -> list[list[Signed | None]]:
        """Values of a signal at the points of some orbits, read component by component for all of them."""
        sums: list[list[Signed | None]] = [[None] * orbit_size for _ in orbits]
        for i, component in enumerate(components):
            character = int(factor.characters[term, i])
            for place, orbit in enumerate(orbits):
                coefficient = float(factor.values[term, i, orbit])
                if coefficient:
                    product = f"{component} * {coefficient!r}"
                    old = sums[place][character]
                    sums[place][character] = Signed(1, self.let(f"{old.name} + {product}" if old else product))
        return [self.walsh_hadamard(s) for s in sums]

    def over_groups(
        self, components: Sequence[str], factor: PlaneFactor, heights: Sequence[str | None]
    ) -> list[str | None]:
        """Σ P_ih x_i over the components of each group; P by name."""
        sums: list[str | None] = [None] * len(factor.places)
        for component, height, m in zip(components, heights, factor.group, strict=True):
            if height is not None:
                product = f"{component} * {height}"
                sums[m] = self.let(product if sums[m] is None else f"{sums[m]} + {product}")
        return sums

    def at_places(
        self, sums: Sequence[str | None], factor: PlaneFactor, orbit_size: int, place: int
    ) -> list[Signed | None]:
        """Values at the points of an orbit from the sums over groups."""
        found: list[Signed | None] = [None] * orbit_size
        for m, name in enumerate(sums):
            coefficient, character = float(factor.places[m, place]), int(factor.characters[m])
            if name is not None and coefficient:
                product, old = f"{name} * {coefficient!r}", found[character]
                found[character] = Signed(1, self.let(f"{old.name} + {product}" if old else product))
        return self.walsh_hadamard(found)

    def from_places(
        self, values: Sequence[Signed | None], factor: PlaneFactor, place: int, into: list[str | None]
    ) -> None:
        """Add the values at the points of an orbit to sums over places, `into`, of each group."""
        sums = self.walsh_hadamard(values)
        for m, old in enumerate(into):
            coefficient, found = float(factor.places[m, place]), sums[int(factor.characters[m])]
            if coefficient and found:
                product = f"{found.name} * {found.sign * coefficient!r}"
                into[m] = self.let(f"{old} + {product}" if old else product)

    def from_groups(
        self, sums: Sequence[str | None], factor: PlaneFactor, heights: Sequence[str | None], into: Sequence[str]
    ) -> None:
        """Add P times the sums of each group to the components named `into`."""
        for component, height, m in zip(into, heights, factor.group, strict=True):
            if height is not None and sums[m] is not None:
                self.line(f"{component} = {component} + {sums[m]} * {height}")

    def from_points(
        self, values: Sequence[Signed | None], factor: OrbitFactor, term: int, orbit: int, into: Sequence[str]
    ) -> None:
        """Add C times the values at the points of an orbit to the components named `into`."""
        sums = self.walsh_hadamard(values)
        for i, component in enumerate(into):
            coefficient, found = float(factor.values[term, i, orbit]), sums[int(factor.characters[term, i])]
            if coefficient and found:
                self.line(f"{component} = {component} + {found.name} * {found.sign * coefficient!r}")
