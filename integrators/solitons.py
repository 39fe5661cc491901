"""Exact solutions (φ, φ_t) of Klein-Gordon fields on the line: waves, kinks, breathers, and pairs of kinks.

All take points x and a time t and return two arrays of x's shape. Lengths in 1/m, velocities in c. Kinks of the φ⁴ and
of the sine-Gordon potential honour their parameters (m, λ, v): R. Rajaraman, Solitons and Instantons (1982), ch. 2;
T. Vachaspati, Kinks and Domain Walls (2006), doi:10.1017/CBO9780511535192.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sciml.integrators.field_potentials import Potential

Array = NDArray[Any]
Fields = tuple[Array, Array]


def lorentz_factor(velocity: float) -> float:
    """γ = 1/√(1 − u²).

    Raises:
        ValueError: for velocities of 1 or more.
    """
    if not abs(velocity) < 1:
        raise ValueError(f"got a velocity of {velocity}; it must be below that of light, 1")
    return 1 / math.sqrt((1 - velocity) * (1 + velocity))


def kink_mass(potential: Potential) -> float:
    """Energy of a kink at rest: (2√2/3) √λ v³ for φ⁴, 8 m v² for sine-Gordon.

    Raises:
        ValueError: for other potentials.
    """
    m, lam, v = _parameters(potential, "a closed form of the kink's mass")
    return 2 * math.sqrt(2 * lam) / 3 * v**3 if potential.name == "phi4" else 8 * m * v**2


def kink(
    potential: Potential, x: ArrayLike, *, t: float = 0.0, velocity: float = 0.0, center: float = 0.0, sign: int = 1
) -> Fields:
    """A kink (`sign` 1) or antikink (−1) at `center` + u t.

    φ⁴: ± v tanh(√(λ/2) v γ(x − x_0 − ut)), from ∓v to ±v. Sine-Gordon: 4v arctan exp(± m γ(x − x_0 − ut)).

    Raises:
        ValueError: for other potentials, or velocities of 1 or more.
    """
    m, lam, v = _parameters(potential, "kinks in closed form")
    gamma = lorentz_factor(velocity)
    y = sign * gamma * (np.asarray(x, dtype=np.float64) - center - velocity * t)
    if potential.name == "phi4":
        inverse = math.sqrt(lam / 2) * v
        phi, slope = v * np.tanh(inverse * y), v * inverse * _sech(inverse * y) ** 2
    else:
        phi = 4 * v * np.arctan(np.exp(np.minimum(m * y, 700)))
        slope = 2 * v * m * _sech(m * y)
    return phi, -sign * gamma * velocity * slope


def kink_antikink(
    potential: Potential, x: ArrayLike, *, velocity: float, separation: float, antikink_first: bool = False
) -> Fields:
    """A kink at −s/2 with velocity u and its mirror image, in one vacuum at both ends.

    The sum of two solutions less a constant: exact up to e^(−m s). With `antikink_first`, the antikink is on the left.

    Raises:
        ValueError: for other potentials than φ⁴ and sine-Gordon, velocities of 1 or more, or overlapping kinks.
    """
    if not separation > 0:
        raise ValueError(f"got a separation of {separation}; it must be positive")
    sign = -1 if antikink_first else 1
    left = kink(potential, x, velocity=velocity, center=-separation / 2, sign=sign)
    right = kink(potential, x, velocity=-velocity, center=separation / 2, sign=-sign)
    _, _, v = _parameters(potential, "kinks in closed form")
    between = sign * v if potential.name == "phi4" else (2 * np.pi * v if sign > 0 else 0.0)
    return left[0] + right[0] - between, left[1] + right[1]


def breather(potential: Potential, x: ArrayLike, *, frequency: float, t: float = 0.0, velocity: float = 0.0) -> Fields:
    """The sine-Gordon breather φ = 4v arctan[(κ/ω) sin(ωt) / cosh(κx)], κ = √(m² − ω²), perhaps boosted.

    Its energy at rest is 16 v² κ, its peak 4v arctan(κ/ω). φ = 0 at t = 0 if it rests.

    Raises:
        ValueError: for other potentials, 0 < ω < m violated, or velocities of 1 or more.
    """
    m, _, v = _parameters(potential, "breathers", only="sine_gordon")
    if not 0 < frequency < m:
        raise ValueError(f"got a frequency of {frequency}; breathers have 0 < ω < m = {m}")
    gamma, kappa = lorentz_factor(velocity), math.sqrt((m - frequency) * (m + frequency))
    x = np.asarray(x, dtype=np.float64)
    time, place = gamma * (t - velocity * x), gamma * (x - velocity * t)
    ratio, inverse = kappa / frequency, _sech(kappa * place)
    height = ratio * np.sin(frequency * time) * inverse
    by_time = ratio * frequency * np.cos(frequency * time) * inverse
    by_place = -kappa * np.tanh(kappa * place) * height
    return 4 * v * np.arctan(height), 4 * v * gamma * (by_time - velocity * by_place) / (1 + height**2)


def sine_gordon_collision(potential: Potential, x: ArrayLike, *, t: float, velocity: float) -> Fields:
    """A sine-Gordon kink and antikink that meet in x = 0 at t = 0: φ = 4v arctan[sinh(mγut) / (u cosh(mγx))].

    They pass through each other, each ahead by 2 ln(1/u)/(mγ) of where it would be alone.

    Raises:
        ValueError: for other potentials, or velocities that are not between 0 and 1.
    """
    m, _, v = _parameters(potential, "this solution", only="sine_gordon")
    gamma = lorentz_factor(velocity)
    if not velocity > 0:
        raise ValueError(f"got a velocity of {velocity}; it must be positive")
    inverse = _sech(m * gamma * np.asarray(x, dtype=np.float64)) / velocity
    height = math.sinh(m * gamma * velocity * t) * inverse
    change = m * gamma * velocity * math.cosh(m * gamma * velocity * t) * inverse
    return 4 * v * np.arctan(height), 4 * v * change / (1 + height**2)


def periodic_linear_wave(phi: ArrayLike, pi: ArrayLike, *, length: float, mass: float, t: float) -> Fields:
    """What becomes of fields on a periodic grid, (N,), under φ_tt = φ_xx − m²φ: each wave turns with ω = √(k² + m²)."""
    n = np.size(phi)
    omega = np.sqrt((2 * np.pi / length * np.arange(n // 2 + 1)) ** 2 + mass**2)
    a, b = np.fft.rfft(phi), np.fft.rfft(pi)
    cosine, sine = np.cos(omega * t), np.sin(omega * t)
    over = np.where(omega > 0, sine / np.where(omega > 0, omega, 1), t)
    return np.fft.irfft(cosine * a + over * b, n), np.fft.irfft(cosine * b - omega * sine * a, n)


def _sech(y: Array) -> Array:
    decay = np.exp(-np.abs(y))
    return 2 * decay / (1 + decay**2)


def _parameters(potential: Potential, what: str, *, only: str | None = None) -> tuple[float, float, float]:
    allowed = (only,) if only else ("phi4", "sine_gordon")
    if potential.user is not None or potential.name not in allowed:
        raise ValueError(f"got the potential {potential.name}; there are {what} for {' and '.join(allowed)} only")
    return potential.parameters["m"], potential.parameters["lam"], potential.parameters["v"]
