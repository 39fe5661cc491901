"""Legendre polynomials of degree 0 to 4 and their first two derivatives, elementwise in Triton.

    P₁ = c,    P₂ = (3c² − 1) / 2,    P₃ = (5c³ − 3c) / 2,    P₄ = (35c⁴ − 30c² + 3) / 8

The degree is static. P₀ = 1 and its derivatives are left to the caller, who saves the products with one and zero.
"""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201 - Triton reads the annotations of kernels itself

import triton
import triton.language as tl

MAX_DEGREE = 4


@triton.jit
def legendre(c, DEGREE: tl.constexpr):
    """P_l(c) for l = 1 … 4."""
    tl.static_assert(DEGREE >= 1 and DEGREE <= 4)
    if DEGREE == 1:
        return c
    elif DEGREE == 2:
        return 1.5 * c * c - 0.5
    elif DEGREE == 3:
        return (2.5 * c * c - 1.5) * c
    else:
        return (4.375 * c * c - 3.75) * c * c + 0.375


@triton.jit
def legendre_slope(c, DEGREE: tl.constexpr):
    """P_l′(c) for l = 1 … 4."""
    tl.static_assert(DEGREE >= 1 and DEGREE <= 4)
    if DEGREE == 1:
        return 0.0 * c + 1.0
    elif DEGREE == 2:
        return 3.0 * c
    elif DEGREE == 3:
        return 7.5 * c * c - 1.5
    else:
        return (17.5 * c * c - 7.5) * c


@triton.jit
def legendre_curvature(c, DEGREE: tl.constexpr):
    """P_l″(c) for l = 2 … 4."""
    tl.static_assert(DEGREE >= 2 and DEGREE <= 4)
    if DEGREE == 2:
        return 0.0 * c + 3.0
    elif DEGREE == 3:
        return 15.0 * c
    else:
        return 52.5 * c * c - 7.5
