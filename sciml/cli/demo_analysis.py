"""What the demo reads off two trajectories of one molecule: energies, bond lengths and vibrations."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.io import read
from ase.neighborlist import build_neighbor_list, natural_cutoffs
from scipy.signal import find_peaks

from sciml.potentials.time_series import energy_drift, standard_error, velocity_spectrum

# cm^-1: distance of two points of a spectrum. 5 ps then make five half-overlapping windows.
RESOLUTION = 20.0


@dataclass(frozen=True, eq=False)
class Trajectory:
    """An NVE trajectory of `sciml md`, its first part left out as equilibration.

    Attributes:
        time: (frames,), fs.
        potential: (frames,), eV.
        kinetic: (frames,), eV.
        temperature: (frames,), K.
        positions: (frames, atoms, 3), Å.
        velocities: (frames, atoms, 3), Å/fs.
        atoms: the first frame.
    """

    time: np.ndarray
    potential: np.ndarray
    kinetic: np.ndarray
    temperature: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray
    atoms: Atoms

    @classmethod
    def load(cls, folder: Path, *, start: float) -> "Trajectory":
        """Read the frames from `start` (fs) on."""
        table = np.genfromtxt(folder / "energies.csv", delimiter=",", names=True)
        kept = table["time"] >= start
        frames = [frame for frame, keep in zip(read(folder / "trajectory.xyz", index=":"), kept, strict=True) if keep]
        columns = {name: table[name][kept] for name in ("time", "potential", "kinetic", "temperature")}
        return cls(
            **columns,
            positions=np.array([frame.positions for frame in frames]),
            velocities=np.array([frame.get_velocities() for frame in frames]) * units.fs,
            atoms=frames[0],
        )

    @property
    def interval(self) -> float:
        """Time between two frames, fs."""
        return float(self.time[1] - self.time[0])

    @property
    def total(self) -> np.ndarray:
        """Total energy, eV."""
        return self.potential + self.kinetic

    @property
    def drift(self) -> tuple[float, float]:
        """Slope of the total energy and its standard error, meV/atom/ps."""
        return energy_drift(self.time, self.total, len(self.atoms))

    @property
    def mean_temperature(self) -> tuple[float, float]:
        """Mean and its standard error, K."""
        return float(self.temperature.mean()), standard_error(self.temperature)

    @cached_property
    def spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        """Wavenumbers (cm^-1) and the mass-weighted power spectrum of the velocities (cm)."""
        return velocity_spectrum(self.velocities, self.interval, self.atoms.get_masses(), resolution=RESOLUTION)

    def bond_lengths(self, bonds: np.ndarray) -> np.ndarray:
        """Lengths of `bonds` (bonds, 2), Å; (frames, bonds)."""
        first, second = bonds.T
        return np.linalg.norm(self.positions[:, first] - self.positions[:, second], axis=2)

    def stretch_spectrum(self, bonds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Wavenumbers (cm^-1) and the power spectrum (cm) of the rates d|r|/dt = (v_i - v_j) · r/|r| of `bonds`."""
        first, second = bonds.T
        r = self.positions[:, first] - self.positions[:, second]  # (frames, bonds, 3)
        direction = r / np.linalg.norm(r, axis=2, keepdims=True)
        rate = ((self.velocities[:, first] - self.velocities[:, second]) * direction).sum(axis=2, keepdims=True)
        signal = np.concatenate([rate, np.zeros_like(direction[..., :2])], axis=2)
        return velocity_spectrum(signal, self.interval, np.ones(len(bonds)), resolution=RESOLUTION)


def bonds_by_kind(atoms: Atoms) -> dict[str, np.ndarray]:
    """Bonds (bonds, 2) by the elements that they join, such as "C-H"; a bond is shorter than 1.2 sums of radii."""
    pairs = build_neighbor_list(atoms, natural_cutoffs(atoms, mult=1.2), self_interaction=False, skin=0.0)
    kinds: dict[str, list[tuple[int, int]]] = {}
    for i in range(len(atoms)):
        for j in pairs.get_neighbors(i)[0]:
            first, second = sorted((i, int(j)), key=lambda k: (atoms.symbols[k] == "H", atoms.symbols[k]))
            kinds.setdefault(f"{atoms.symbols[first]}-{atoms.symbols[second]}", []).append((first, second))
    return {kind: np.array(bonds) for kind, bonds in sorted(kinds.items())}


def peaks(wavenumbers: np.ndarray, spectrum: np.ndarray) -> np.ndarray:
    """Positions of the peaks, cm^-1, the highest first, down to a twentieth of its height.

    Each is the vertex of the parabola through its three highest points.
    """
    tops, properties = find_peaks(spectrum, height=0.05 * spectrum.max())
    tops = tops[np.argsort(-properties["peak_heights"], kind="stable")]
    left, middle, right = spectrum[tops - 1], spectrum[tops], spectrum[tops + 1]
    shift = 0.5 * (left - right) / (left - 2 * middle + right)
    return wavenumbers[tops] + shift * (wavenumbers[1] - wavenumbers[0])


def same_peak(reference: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> tuple[float, float]:
    """The highest peak of the reference and the nearest one of the other spectrum, cm^-1; NaN without a peak.

    Not the highest of both: how high a peak is depends on the energy that the vibration happens to have.
    """
    first, second = peaks(*reference), peaks(*other)
    if not len(first) or not len(second):
        return math.nan, math.nan
    return float(first[0]), float(second[np.abs(second - first[0]).argmin()])


def overlap(x: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """∫ min(f, g) dx of two densities on equidistant points: 1 if they are equal, 0 if they exclude each other."""
    return float(np.minimum(first, second).sum() * (x[1] - x[0]))


def densities(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Histograms of two samples on common bins: centres, and two densities that integrate to one."""
    bins = int(np.clip(np.sqrt(first.size), 8, 60))
    edges = np.histogram_bin_edges(np.concatenate([first.ravel(), second.ravel()]), bins=bins)
    centres = 0.5 * (edges[1:] + edges[:-1])
    return centres, *(np.histogram(sample, bins=edges, density=True)[0] for sample in (first, second))
