"""What is read off a trajectory: means with honest errors, the drift of an energy, the vibrational spectrum."""

import numpy as np
from scipy.constants import speed_of_light
from scipy.integrate import trapezoid
from scipy.signal import welch

MINIMUM_BLOCKS = 16
WAVENUMBER_PER_FREQUENCY = 1e15 / (100 * speed_of_light)  # 1/fs → 1/cm


def standard_error(series: np.ndarray) -> float:
    """Standard error of the mean of a correlated series, by blocking.

    Means over blocks of 1, 2, 4, ... neighbours are taken while there are at least 16 blocks, and the largest estimate
    s/√(number of blocks) counts: it grows with the size of the blocks until they are independent of each other.
    NaN for less than two values. Source: Flyvbjerg and Petersen, doi:10.1063/1.457480.
    """
    blocks = np.asarray(series, dtype=np.float64)
    if len(blocks) < 2:
        return float("nan")
    errors = [blocks.std(ddof=1) / np.sqrt(len(blocks))]
    while len(blocks) >= 2 * MINIMUM_BLOCKS:
        blocks = _halve(blocks)
        errors.append(blocks.std(ddof=1) / np.sqrt(len(blocks)))
    return float(max(errors))


def energy_drift(time: np.ndarray, energy: np.ndarray, num_atoms: int) -> tuple[float, float]:
    """Slope of a straight line through the energy and its standard error, both in meV/atom/ps.

    The error of a least-squares slope, √(Σ residual² / (n - 2) / Σ (t - mean t)²), holds for independent residuals. As
    in `standard_error` it is taken for block averages of growing size, down to 16 blocks, and the largest one counts.

    Args:
        time: (frames,), fs, equidistant.
        energy: (frames,), eV, of the whole system.
        num_atoms: number of atoms.

    Raises:
        ValueError: if there are less than three frames or the lengths differ.
    """
    time, energy = np.asarray(time, dtype=np.float64), np.asarray(energy, dtype=np.float64)
    if time.shape != energy.shape or time.ndim != 1 or len(time) < 3:
        raise ValueError(f"need at least three times and as many energies, got shapes {time.shape} and {energy.shape}")
    slope, error = _slope(time, energy)
    while len(time) >= 2 * MINIMUM_BLOCKS:
        time, energy = _halve(time), _halve(energy)
        error = max(error, _slope(time, energy)[1])
    unit = 1e6 / num_atoms  # eV/fs → meV/ps
    return slope * unit, error * unit


def velocity_spectrum(
    velocities: np.ndarray, timestep: float, masses: np.ndarray, *, resolution: float = 10.0
) -> tuple[np.ndarray, np.ndarray]:
    """Vibrational density of states: power spectrum of the mass-weighted velocities.

        S(ν) ∝ Σ_i m_i ∫ <v_i(0)·v_i(t)> e^{-2πi c ν t} dt ,        ∫ S dν = 1

    By the Wiener-Khinchin theorem the transform of the autocorrelation is the periodogram, averaged here over
    half-overlapping Hann windows (Welch's method). Source: Thomas et al., doi:10.1039/C3CP44302G.

    Args:
        velocities: (frames, atoms, 3), any unit; frames at equal distances in time.
        timestep: fs between two frames; vibrations up to 1 / (2 c timestep) are seen: 8300 cm^-1 for 2 fs.
        masses: (atoms,), amu.
        resolution: cm^-1; distance of two points. A trajectory too short for it gives what it can.

    Returns:
        Wavenumbers in cm^-1 and S in cm, both (points,).

    Raises:
        ValueError: if the shapes do not fit, or all velocities are zero.
    """
    velocities, masses = np.asarray(velocities, dtype=np.float64), np.asarray(masses, dtype=np.float64)
    if velocities.ndim != 3 or velocities.shape[1:] != (len(masses), 3) or len(velocities) < 8:
        raise ValueError(
            f"velocities must have the shape (frames, {len(masses)}, 3) with at least 8 frames, got {velocities.shape}"
        )
    segment = min(len(velocities), max(8, round(WAVENUMBER_PER_FREQUENCY / (timestep * resolution))))
    frequency, power = welch(velocities, fs=1 / timestep, window="hann", nperseg=segment, detrend=False, axis=0)
    spectrum = np.einsum("fac,a->f", power, masses)  # (points,)
    wavenumbers = frequency * WAVENUMBER_PER_FREQUENCY
    total = trapezoid(spectrum, wavenumbers)
    if not total > 0:
        raise ValueError("all velocities are zero; there is no spectrum")
    return wavenumbers, spectrum / total


def _halve(series: np.ndarray) -> np.ndarray:
    """Means of neighbouring pairs; an odd last value is left out."""
    return series[: len(series) // 2 * 2].reshape(-1, 2).mean(axis=1)


def _slope(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Least-squares slope and its standard error for independent residuals."""
    x, y = x - x.mean(), y - y.mean()
    slope = (x @ y) / (x @ x)
    residual = y - slope * x
    return float(slope), float(np.sqrt(residual @ residual / (len(x) - 2) / (x @ x)))
