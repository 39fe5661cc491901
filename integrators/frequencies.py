"""Frequencies in time series, to many more digits than the resolution of their Fourier transform."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

Array = NDArray[Any]


def leading_frequencies(values: ArrayLike, dt: float, *, number: int = 1, window: int = 3) -> tuple[Array, Array]:
    """Angular frequencies and complex amplitudes of the strongest lines of a real series, by decreasing strength.

    Numerical analysis of fundamental frequencies: the maximum of |∫ f(t) e^(−iωt) w(t) dt|, w ∝ (1 + cos)^p, is found
    from the peak of the Fourier transform by search; the line is subtracted and the next one is sought. Errors fall as
    T^(−2p−2) with the length T where lines are apart.

    Args:
        values: f at equal distances in time, (samples,); its mean is subtracted.
        dt: the distance.
        number: of lines.
        window: p.

    Raises:
        ValueError: for fewer than 16 samples or values that are not finite.

    Source: J. Laskar, Physica D 67, 257 (1993), doi:10.1016/0167-2789(93)90210-R.
    """
    rest = np.array(values, dtype=np.float64)
    if rest.ndim != 1 or rest.size < 16 or not np.isfinite(rest).all():
        raise ValueError(f"got a series of shape {rest.shape}; expected at least 16 finite numbers")
    rest = rest - rest.mean()
    n = rest.size
    t = (np.arange(n) - (n - 1) / 2) * dt
    weight = (1 + np.cos(2 * np.pi * t / (n * dt))) ** window
    weight /= weight.sum()
    frequencies, amplitudes = [], []
    for _ in range(number):
        spectrum = np.abs(np.fft.rfft(rest * weight))
        peak = 2 * np.pi / (n * dt) * (1 + int(np.argmax(spectrum[1:])))
        width = 2 * np.pi / (n * dt)

        def strength(omega: float, rest: Array = rest) -> float:
            return -abs(np.dot(rest * weight, np.exp(-1j * omega * t)))

        omega = float(
            minimize_scalar(strength, bounds=(peak - width, peak + width), method="bounded", options={"xatol": 1e-13}).x
        )
        basis = np.stack([np.cos(omega * t), np.sin(omega * t)], axis=1)
        cosine, sine = np.linalg.lstsq(basis * weight[:, None] ** 0.5, rest * weight**0.5, rcond=None)[0]
        rest = rest - basis @ np.array([cosine, sine])
        frequencies.append(omega)
        amplitudes.append(complex(cosine, -sine))
    return np.array(frequencies), np.array(amplitudes)
