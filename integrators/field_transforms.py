"""Transforms between the coefficients of a field and its values on a grid, for numba, into given arrays.

Each function has the signature (coefficients, work, points, table) of contiguous float64 vectors: complex coefficients
lie there as (real, imaginary) pairs. `points` may be finer than the coefficients need: then going up pads with zeros,
and going down drops what they cannot hold, so that no aliasing reaches them. `work` is scratch. With N coefficients of
a field and M ≥ N points:

    periodic       f(x) = Σ_n c_n exp(2πi n x/L),  |n| ≤ N/2                    real FFT of M points
    antiperiodic   f(x) = Re Σ_k c_k exp(2πi (κ_k + ½) x/L),  κ_k even          complex FFT of M/2 points
    cosine         f(x) = c_0 + 2 Σ_n c_n cos(π n x/L),  n < N                  DCT-II and DCT-III on midpoints
    odd sine       f(x) = 2 Σ_n c_n sin(π (n + ½) x/L),  n < N                  DST-IV on midpoints

The transforms are those of pocketfft (M. Reinecke), compiled into numba by rocket-fft. The real antiperiodic transform
of M points by a complex one of M/2: L. R. Rabiner, IEEE Trans. ASSP 27, 165 (1979), doi:10.1109/TASSP.1979.1163228.
"""

# ruff: noqa: ANN001, ANN201, ARG001 - numba infers the types of compiled functions from their signatures

from functools import cache
from typing import Any

import numba
import numpy as np
from rocket_fft import c2c, c2r, dct, dst, r2c

VECTOR = numba.types.float64[::1]
SIGNATURE = numba.types.void(VECTOR, VECTOR, VECTOR, VECTOR)
TRANSFORM = numba.types.FunctionType(SIGNATURE)

_FIRST, _BOTH = np.array([0]), np.array([0, 1])  # axes


@cache
def compiled(name: str) -> Any:
    """One of the functions below, compiled when first needed and then kept on the disk."""
    return numba.njit(SIGNATURE, cache=True)(globals()[name])


def periodic_up(coefficients, work, points, table):  # type: ignore[no-untyped-def]
    """Values at x_j = L j/M; where M > N the coefficient of the shortest wave, which stands for two, is left out."""
    if points.size == coefficients.size - 2:
        c2r(coefficients.view(np.complex128), points, _FIRST, False, 1.0, 1)
        return
    kept = coefficients.size - 2
    work[:kept] = coefficients[:kept]
    work[kept:] = 0
    c2r(work.view(np.complex128), points, _FIRST, False, 1.0, 1)


def periodic_down(coefficients, work, points, table):  # type: ignore[no-untyped-def]
    """Coefficients of values at x_j = L j/M."""
    if points.size == coefficients.size - 2:
        r2c(points, coefficients.view(np.complex128), _FIRST, True, 1.0 / points.size, 1)
        return
    r2c(points, work.view(np.complex128), _FIRST, True, 1.0 / points.size, 1)
    kept = coefficients.size - 2
    coefficients[:kept] = work[:kept]
    coefficients[kept:] = 0


def antiperiodic_up(coefficients, work, points, table):  # type: ignore[no-untyped-def]
    """Values at x_j = L j/M; `table` holds (cos, sin) of πj/M for j < M/2."""
    half, n = points.size // 2, coefficients.size // 2
    work[:n] = coefficients[:n]
    work[n : work.size - n] = 0
    work[work.size - n :] = coefficients[n:]
    z = work.view(np.complex128)
    c2c(z, z, _FIRST, False, 1.0, 1)
    for j in range(half):
        c, s = table[2 * j], table[2 * j + 1]
        points[j] = work[2 * j] * c - work[2 * j + 1] * s
        points[j + half] = -(work[2 * j] * s + work[2 * j + 1] * c)


def antiperiodic_down(coefficients, work, points, table):  # type: ignore[no-untyped-def]
    """Coefficients of values at x_j = L j/M."""
    half, n = points.size // 2, coefficients.size // 2
    for j in range(half):
        c, s = table[2 * j], table[2 * j + 1]
        work[2 * j] = points[j] * c - points[j + half] * s
        work[2 * j + 1] = -points[j] * s - points[j + half] * c
    z = work.view(np.complex128)
    c2c(z, z, _FIRST, True, 1.0 / half, 1)
    coefficients[:n] = work[:n]
    coefficients[n:] = work[work.size - n :]


def cosine_up(coefficients, work, points, table):  # type: ignore[no-untyped-def]
    """Values at x_j = L (j + ½)/M."""
    if points.size == coefficients.size:
        dct(coefficients, points, _FIRST, 3, 1.0, False, 1)
        return
    work[: coefficients.size] = coefficients
    work[coefficients.size :] = 0
    dct(work, points, _FIRST, 3, 1.0, False, 1)


def cosine_down(coefficients, work, points, table):  # type: ignore[no-untyped-def]
    """Coefficients of values at x_j = L (j + ½)/M."""
    if points.size == coefficients.size:
        dct(points, coefficients, _FIRST, 2, 0.5 / points.size, False, 1)
        return
    dct(points, work, _FIRST, 2, 0.5 / points.size, False, 1)
    coefficients[:] = work[: coefficients.size]


def odd_sine_up(coefficients, work, points, table):  # type: ignore[no-untyped-def]
    """Values at x_j = L (j + ½)/M."""
    work[: coefficients.size] = coefficients
    work[coefficients.size :] = 0
    dst(work, points, _FIRST, 4, 1.0, False, 1)


def odd_sine_down(coefficients, work, points, table):  # type: ignore[no-untyped-def]
    """Coefficients of values at x_j = L (j + ½)/M."""
    dst(points, work, _FIRST, 4, 0.5 / points.size, False, 1)
    coefficients[:] = work[: coefficients.size]


def periodic_plane_up(coefficients, work, points, table):  # type: ignore[no-untyped-def]
    """The plane's periodic transform along both axes; `table` holds num_x, num_y and the sizes of `points`."""
    nx, ny, mx, my = int(table[0]), int(table[1]), int(table[2]), int(table[3])
    c = coefficients.view(np.complex128).reshape(nx, ny // 2 + 1)
    w = work.view(np.complex128).reshape(mx, my // 2 + 1)
    if mx == nx:
        w[:] = c
    else:
        w[:] = 0
        w[: nx // 2, : ny // 2] = c[: nx // 2, : ny // 2]
        w[mx - nx // 2 + 1 :, : ny // 2] = c[nx // 2 + 1 :, : ny // 2]
    c2r(w, points.reshape(mx, my), _BOTH, False, 1.0, 1)


def periodic_plane_down(coefficients, work, points, table):  # type: ignore[no-untyped-def]
    """Coefficients of values on a periodic plane."""
    nx, ny, mx, my = int(table[0]), int(table[1]), int(table[2]), int(table[3])
    c = coefficients.view(np.complex128).reshape(nx, ny // 2 + 1)
    w = work.view(np.complex128).reshape(mx, my // 2 + 1)
    r2c(points.reshape(mx, my), w, _BOTH, True, 1.0 / points.size, 1)
    if mx == nx:
        c[:] = w
    else:
        c[:] = 0
        c[: nx // 2, : ny // 2] = w[: nx // 2, : ny // 2]
        c[nx // 2 + 1 :, : ny // 2] = w[mx - nx // 2 + 1 :, : ny // 2]


def cosine_plane_up(coefficients, work, points, table):  # type: ignore[no-untyped-def]
    """The plane's cosine transform along both axes; `table` as for the periodic plane."""
    nx, ny, mx, my = int(table[0]), int(table[1]), int(table[2]), int(table[3])
    w = work.reshape(mx, my)
    w[:] = 0
    w[:nx, :ny] = coefficients.reshape(nx, ny)
    dct(w, points.reshape(mx, my), _BOTH, 3, 1.0, False, 1)


def cosine_plane_down(coefficients, work, points, table):  # type: ignore[no-untyped-def]
    """Coefficients of values on the midpoints of a plane."""
    nx, ny, mx, my = int(table[0]), int(table[1]), int(table[2]), int(table[3])
    w = work.reshape(mx, my)
    dct(points.reshape(mx, my), w, _BOTH, 2, 0.25 / points.size, False, 1)
    coefficients.reshape(nx, ny)[:] = w[:nx, :ny]
