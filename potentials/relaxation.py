"""Relaxation of a structure to a minimum of the energy, or of the enthalpy where the cell moves too."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.filters import FrechetCellFilter
from ase.io.extxyz import write_extxyz
from ase.optimize import BFGS, FIRE, LBFGS
from ase.stress import voigt_6_to_full_3x3_stress

# FIRE needs no line search and no Hessian and survives kinks and flat regions of a learned energy; the quasi-Newton
# methods need fewer steps near a minimum of a smooth one.
OPTIMIZERS: dict[str, Any] = {"fire": FIRE, "lbfgs": LBFGS, "bfgs": BFGS}


@dataclass(frozen=True)
class RelaxationResult:
    """Outcome of a relaxation.

    Attributes:
        atoms: the relaxed structure, with its calculator.
        converged: whether the largest force (and, for a moving cell, stress component) came below the limit.
        steps: optimizer steps taken.
        energy: eV; initial_energy: before.
        max_force: largest norm of a force, eV/Å.
        pressure: GPa, -tr(stress)/3; None unless the structure is periodic along all axes and the calculator knows it.
    """

    atoms: Atoms
    converged: bool
    steps: int
    initial_energy: float
    energy: float
    max_force: float
    pressure: float | None


def relax(
    atoms: Atoms,
    *,
    cell: bool = False,
    pressure: float = 0.0,
    fmax: float = 0.01,
    max_steps: int = 500,
    optimizer: str = "fire",
    path: Path | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> RelaxationResult:
    """Relax positions, and the cell if asked for, under `atoms.calc`; `atoms` itself is not changed.

    With a moving cell the enthalpy E + p V is minimised over positions and the logarithm of the deformation gradient
    (`ase.filters.FrechetCellFilter`), and `fmax` holds for its gradient with respect to both.

    Args:
        atoms: the structure with a calculator.
        cell: whether the cell moves.
        pressure: external pressure p, GPa; only with a moving cell.
        fmax: converged when no force is larger, eV/Å.
        max_steps: stop after this many steps.
        optimizer: "fire", "lbfgs" or "bfgs" (doi:10.1103/PhysRevLett.97.170201 for FIRE).
        path: extended XYZ file for the structures on the way; replaced if it exists.
        on_step: called with the step and the largest force.

    Raises:
        ValueError: if an argument makes no sense, or energy or forces are not finite on the way.
    """
    if atoms.calc is None:
        raise ValueError("the structure has no calculator; set atoms.calc")
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {optimizer!r}; choose one of {', '.join(OPTIMIZERS)}")
    if not fmax > 0 or max_steps < 0:
        raise ValueError(f"got fmax={fmax} and max_steps={max_steps}; fmax must be positive, max_steps not negative")
    if cell and not atoms.pbc.all():
        raise ValueError(f"the cell can be relaxed only if all axes are periodic, got pbc={atoms.pbc.tolist()}")
    if pressure and not cell:
        raise ValueError(f"a pressure of {pressure} GPa has no effect unless the cell is relaxed too; set cell=True")
    relaxed = atoms.copy()
    relaxed.calc = atoms.calc
    target = FrechetCellFilter(relaxed, scalar_pressure=pressure * units.GPa) if cell else relaxed
    initial_energy = relaxed.get_potential_energy()
    minimiser = OPTIMIZERS[optimizer](target, logfile=None)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)

    def observe() -> None:
        forces = target.get_forces()
        largest = float(np.linalg.norm(forces, axis=1).max())
        if not np.isfinite(largest):
            raise ValueError(
                f"the relaxation broke down at step {minimiser.nsteps}: a force is not finite; "
                "start from a structure without overlapping atoms"
            )
        if path is not None:
            with path.open("a") as file:
                write_extxyz(file, [relaxed])
        if on_step is not None:
            on_step(minimiser.nsteps, largest)

    minimiser.attach(observe)
    converged = bool(minimiser.run(fmax=fmax, steps=max_steps))
    return RelaxationResult(
        atoms=relaxed,
        converged=converged,
        steps=minimiser.nsteps,
        initial_energy=float(initial_energy),
        energy=float(relaxed.get_potential_energy()),
        max_force=float(np.linalg.norm(relaxed.get_forces(), axis=1).max()),
        pressure=_pressure(relaxed),
    )


def _pressure(atoms: Atoms) -> float | None:
    """Pressure in GPa, if there is one."""
    if not atoms.pbc.all() or "stress" not in getattr(atoms.calc, "implemented_properties", ()):
        return None
    return float(-np.trace(voigt_6_to_full_3x3_stress(atoms.get_stress())) / 3 / units.GPa)
