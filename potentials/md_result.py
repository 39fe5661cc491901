"""Outcome of a molecular dynamics run and what is reported of it."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms

from sciml.potentials.time_series import energy_drift, standard_error

COLUMNS = ("time", "potential", "kinetic", "temperature", "volume", "pressure")


@dataclass(frozen=True)
class MDResult:
    """Time series and speed of a run; each array has one entry per frame.

    Attributes:
        time: fs, since the end of the equilibration.
        potential: eV; the energy whose derivative the forces are.
        kinetic: eV.
        temperature: K, from the momenta that are free (without overall translation and rotation in NVE).
        volume: Å³; NaN unless all axes are periodic.
        pressure: GPa, with its kinetic part; NaN unless npt.
        atoms: the last structure, with momenta and calculator.
        positions: (frames, atoms, 3), Å; None if they were written to a folder.
        velocities: (frames, atoms, 3), Å/fs; None if they were written to a folder.
        steps: number of steps after the equilibration.
        timestep: fs.
        seconds: wall-clock time of these steps.
        stopped: why the run ended before its last step, None if it did not.
    """

    time: np.ndarray
    potential: np.ndarray
    kinetic: np.ndarray
    temperature: np.ndarray
    volume: np.ndarray
    pressure: np.ndarray
    atoms: Atoms
    positions: np.ndarray | None = field(repr=False)
    velocities: np.ndarray | None = field(repr=False)
    steps: int
    timestep: float
    seconds: float
    stopped: str | None = None

    @property
    def total(self) -> np.ndarray:
        """Total energy, eV; conserved in NVE."""
        return self.potential + self.kinetic

    def drift(self) -> tuple[float, float]:
        """Slope of the total energy and its standard error, meV/atom/ps; see `energy_drift`."""
        return energy_drift(self.time, self.total, len(self.atoms))

    def summary(self) -> dict[str, Any]:
        """Numbers to report: means with their standard errors, drift, speed; NaN where there are too few frames."""
        seconds_per_step = self.seconds / self.steps if self.steps and self.seconds else float("nan")
        drift, drift_error = self.drift() if len(self.time) >= 3 else (float("nan"), float("nan"))
        return {
            "atoms": len(self.atoms),
            "steps": self.steps,
            "timestep_fs": self.timestep,
            "frames": len(self.time),
            "temperature_K": float(self.temperature.mean()),
            "temperature_error_K": standard_error(self.temperature),
            "potential_eV": float(self.potential.mean()),
            "potential_error_eV": standard_error(self.potential),
            "volume_A3": float(self.volume.mean()),
            "volume_error_A3": standard_error(self.volume),
            "pressure_GPa": float(self.pressure.mean()),
            "pressure_error_GPa": standard_error(self.pressure),
            "drift_meV_per_atom_per_ps": drift,
            "drift_error_meV_per_atom_per_ps": drift_error,
            "ms_per_step": 1e3 * seconds_per_step,
            "ns_per_day": 86400 / seconds_per_step * self.timestep * 1e-6,
            "atom_steps_per_second": len(self.atoms) / seconds_per_step,
        }
