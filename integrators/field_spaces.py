"""The functions that a field may be: its basis by boundary condition, in one dimension and on a plane.

A space knows the wavenumbers of its coefficients, how they make values on a grid, and what they weigh in integrals, so
that the solver and the diagnostics are the same for all.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike, NDArray

from sciml.integrators.field_transforms import compiled
from sciml.messages import did_you_mean

Array = NDArray[Any]

BOUNDARIES: dict[str, str] = {
    "periodic": "φ(x + L) = φ(x)",
    "antiperiodic": "φ(x + L) = −φ(x), for a single kink between vacua of opposite sign",
    "neumann": "∂φ/∂x = 0 at both ends, for any kink",
    "odd": "antiperiodic and φ(−x) = −φ(x), on half the points: a kink that stays in the middle",
    "even": "∂φ/∂x = 0 at both ends and φ(−x) = φ(x), on half the points: a breather, or a kink and its mirror image",
    "absorbing": "waves are damped in a layer at either end, and ∂φ/∂x = 0 behind it",
}


@dataclass(frozen=True)
class Space:
    """Fields of one boundary condition on [−L/2, L/2] along each axis, with 1 or 2 axes.

    Attributes:
        boundary: one of BOUNDARIES.
        lengths: L of each axis.
        shape: points of each axis, even in number (a multiple of 4 if antiperiodic, odd or even).

    Raises:
        ValueError: if the boundary is unknown, or has no such points or axes.
    """

    boundary: str
    lengths: tuple[float, ...]
    shape: tuple[int, ...]
    _tables: dict[int, Array] = field(default_factory=dict, init=False, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        if self.boundary not in BOUNDARIES:
            hint = did_you_mean(self.boundary, BOUNDARIES) or "."
            raise ValueError(f"unknown boundary {self.boundary!r}{hint} There is {', '.join(BOUNDARIES)}")
        if len(self.lengths) != len(self.shape) or len(self.shape) not in (1, 2):
            raise ValueError(f"got lengths {self.lengths} and points {self.shape}; expected one or two of each")
        if len(self.shape) == 2 and self.boundary not in ("periodic", "neumann", "absorbing"):
            raise ValueError(f"a plane cannot be {self.boundary}; use periodic, neumann or absorbing")
        divisor = 4 if self.boundary in ("antiperiodic", "odd", "even") else 2
        for points, length in zip(self.shape, self.lengths, strict=True):
            if points < 8 or points % divisor:
                raise ValueError(f"got {points} points; expected a multiple of {divisor}, at least 8")
            if not 0 < length < np.inf:
                raise ValueError(f"got a length of {length}; it must be positive")

    @cached_property
    def kind(self) -> str:
        """Which transform it uses: periodic, antiperiodic, cosine or odd_sine."""
        return {"periodic": "periodic", "antiperiodic": "antiperiodic", "odd": "odd_sine"}.get(self.boundary, "cosine")

    @cached_property
    def halved(self) -> bool:
        """Whether only the points with x > 0 are stored."""
        return self.boundary in ("odd", "even")

    @cached_property
    def stored_shape(self) -> tuple[int, ...]:
        """Points that the transforms see."""
        return (self.shape[0] // 2,) if self.halved else self.shape

    @property
    def volume(self) -> float:
        """∏ L."""
        return float(np.prod(self.lengths))

    @cached_property
    def coordinates(self) -> tuple[Array, ...]:
        """Points along each axis: from −L/2 on if (anti)periodic, else the midpoints of cells."""
        shift = 0.0 if self.kind in ("periodic", "antiperiodic") else 0.5
        return tuple(
            (np.arange(n) + shift - n // 2) * (length / n) for n, length in zip(self.shape, self.lengths, strict=True)
        )

    @cached_property
    def wavenumbers(self) -> tuple[Array, ...]:
        """Of each coefficient along each axis, flat; signed where coefficients are complex, which have it twice."""
        if len(self.shape) == 1:
            (n,), (length,) = self.shape, self.lengths
            if self.kind == "periodic":
                return (np.repeat(np.arange(n // 2 + 1) * (2 * np.pi / length), 2),)
            if self.kind == "antiperiodic":
                even = 2.0 * np.arange(n // 2)
                return (np.repeat((np.where(even < n // 2, even, even - n) + 0.5) * (2 * np.pi / length), 2),)
            if self.kind == "odd_sine":
                return ((np.arange(n // 2) + 0.5) * (2 * np.pi / length),)
            count, end = (n // 2, length / 2) if self.halved else (n, length)
            return (np.arange(count) * (np.pi / end),)
        (nx, ny), (lx, ly) = self.shape, self.lengths
        if self.kind == "periodic":
            kx, ky = np.fft.fftfreq(nx, lx / nx / (2 * np.pi)), np.arange(ny // 2 + 1) * (2 * np.pi / ly)
            grids = np.meshgrid(kx, ky, indexing="ij")
            return tuple(np.repeat(k.ravel(), 2) for k in grids)
        grids = np.meshgrid(np.arange(nx) * (np.pi / lx), np.arange(ny) * (np.pi / ly), indexing="ij")
        return tuple(k.ravel() for k in grids)

    @cached_property
    def squared(self) -> Array:
        """|k|² of each coefficient."""
        return np.sum([k**2 for k in self.wavenumbers], axis=0)

    @property
    def size(self) -> int:
        """Number of coefficients, counting real and imaginary parts."""
        return self.squared.size

    @cached_property
    def weights(self) -> Array:
        """Those w with ∫ f g = Σ w f_i g_i over the coefficients, as by a sum over the points."""
        if self.kind == "antiperiodic":
            return np.full(self.size, self.volume / 2)
        if self.kind == "odd_sine":
            return np.full(self.size, 2 * self.volume)
        if self.kind == "periodic":
            ny = self.shape[-1]
            last = np.full(ny // 2 + 1, 2.0)
            last[[0, -1]] = 1
            rows = np.repeat(last, 2)
            return self.volume * (rows if len(self.shape) == 1 else np.tile(rows, self.shape[0]))
        axes = [np.where(np.arange(n) == 0, 1.0, 2.0) for n in self.stored_shape]
        weights = axes[0] if len(axes) == 1 else np.outer(axes[0], axes[1]).ravel()
        return self.volume * weights

    @property
    def functions(self) -> tuple[Any, Any]:
        """Compiled transforms up to points and down to coefficients."""
        name = f"{self.kind}{'_plane' if len(self.shape) == 2 else ''}"
        return compiled(f"{name}_up"), compiled(f"{name}_down")

    def table(self, padding: int = 1) -> Array:
        """What the transforms need to know besides."""
        if padding not in self._tables:
            if len(self.shape) == 2:
                table = np.array([*self.shape, *(padding * n for n in self.shape)], dtype=float)
            elif self.kind == "antiperiodic":
                points = padding * self.shape[0]
                angle = np.pi / points * np.arange(points // 2)
                table = np.stack([np.cos(angle), np.sin(angle)], axis=1).ravel()
            else:
                table = np.zeros(1)
            self._tables[padding] = table
        return self._tables[padding]

    def buffers(self, padding: int = 1) -> tuple[Array, Array]:
        """New arrays `work` and `points` for the transforms."""
        stored = [padding * n for n in self.stored_shape]
        points = int(np.prod(stored))
        if self.kind == "periodic":
            return np.zeros(int(np.prod(stored[:-1])) * (stored[-1] + 2)), np.zeros(points)
        return np.zeros(points), np.zeros(points)

    def to_coefficients(self, values: ArrayLike) -> Array:
        """Of values on the grid, (*shape,)."""
        values = np.asarray(values, dtype=np.float64)
        if values.shape != self.shape:
            raise ValueError(f"got a field of shape {values.shape}; expected {self.shape}")
        if not np.isfinite(values).all():
            raise ValueError("the field has values that are not finite numbers; check what it was made of")
        if self.halved:
            values = values[self.shape[0] // 2 :]
        work, points = self.buffers()
        coefficients = np.zeros(self.size)
        points[:] = values.ravel()
        self.functions[1](coefficients, work, points, self.table())
        return coefficients

    def to_points(self, coefficients: Array) -> Array:
        """Values on the grid, (*shape,)."""
        work, points = self.buffers()
        self.functions[0](np.ascontiguousarray(coefficients), work, points, self.table())
        if self.halved:
            mirrored = points[::-1] if self.boundary == "even" else -points[::-1]
            return np.concatenate([mirrored, points])
        return points.reshape(self.shape).copy()

    def padded_points(self, coefficients: Array, padding: int) -> Array:
        """Values on the stored points, `padding` times finer."""
        work, points = self.buffers(padding)
        self.functions[0](np.ascontiguousarray(coefficients), work, points, self.table(padding))
        return points

    def at(self, x: float) -> Array:
        """Row r with f(x) = r · coefficients, in one dimension; for odd and even spaces x ≥ 0."""
        (k,), (length,) = self.wavenumbers, self.lengths
        if self.kind == "cosine":
            start = 0.0 if self.halved else -length / 2
            return np.where(k == 0, 1.0, 2.0) * np.cos(k * (x - start))
        if self.kind == "odd_sine":
            return 2 * np.sin(k * x)
        phase = k * (x + length / 2)
        row = np.where(np.arange(k.size) % 2 == 0, np.cos(phase), -np.sin(phase))
        return row * (self.weights / self.volume if self.kind == "periodic" else 1.0)

    def slope_at_points(self, values: ArrayLike) -> Array:
        """∂f/∂x on the grid of a field on it, (num_x,), by its basis; in one dimension."""
        a = self.to_coefficients(values)
        inner = self.derivative(a)
        if inner is not None:
            return self.to_points(inner)
        (k,) = self.wavenumbers
        if self.kind == "odd_sine":
            half = scipy.fft.dct(k * a, type=4)
            return np.concatenate([half[::-1], half])
        slopes = scipy.fft.dst(np.append((-k * a)[1:], 0.0), type=3)
        return np.concatenate([-slopes[::-1], slopes]) if self.halved else slopes

    def derivative(self, coefficients: Array, axis: int = 0) -> Array | None:
        """Coefficients of ∂f/∂x in the same space, (..., size); None where the derivative is of another space."""
        if self.kind not in ("periodic", "antiperiodic"):
            return None
        k = self.wavenumbers[axis].copy()
        if self.kind == "periodic":
            k[np.abs(k) > np.abs(k).max() * (1 - 1e-12)] = 0  # the shortest wave stands for both ways
        pairs = coefficients.reshape(*coefficients.shape[:-1], -1, 2)
        turned = np.stack([-pairs[..., 1], pairs[..., 0]], axis=-1).reshape(coefficients.shape)
        return k * turned
