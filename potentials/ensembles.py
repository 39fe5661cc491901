"""Thermal momenta, and ASE's integrators for the ensembles NVE, NVT and NPT."""

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.md import MolecularDynamics
from ase.md.velocitydistribution import Stationary, ZeroRotation
from ase.md.verlet import VelocityVerlet

ENSEMBLES = ("nve", "langevin", "npt")


class UnstableDynamicsError(ValueError):
    """A simulation blew up: an energy or force is not finite, or the temperature ran away."""


def thermal_momenta(atoms: Atoms, temperature: float, generator: np.random.Generator) -> None:
    """Draw momenta from the Maxwell-Boltzmann distribution at `temperature` (K), then `remove_drift`.

    They are not rescaled afterwards: the 3N - 6 momenta that remain already have k_B T / 2 each on average, whereas
    rescaling to 3N k_B T / 2 would make a molecule of nine atoms 29 % too hot.
    """
    scale = np.sqrt(units.kB * temperature * atoms.get_masses())[:, None]  # (atoms, 1)
    atoms.set_momenta(scale * generator.standard_normal((len(atoms), 3)))
    remove_drift(atoms)


def remove_drift(atoms: Atoms) -> None:
    """Stop the centre of mass, and the rotation of a structure without periodic axes; not if atoms are constrained."""
    if atoms.constraints:
        return
    Stationary(atoms, preserve_temperature=False)
    if not atoms.pbc.any():
        with np.errstate(invalid="ignore"):  # a linear molecule has a vanishing moment of inertia
            ZeroRotation(atoms, preserve_temperature=False)


def is_at_rest(atoms: Atoms) -> bool:
    """Whether nothing is left for `remove_drift` to stop, up to the rounding of momenta that were read from a file."""
    momenta = atoms.get_momenta()
    scale = 1e-6 * np.linalg.norm(momenta, axis=1).sum()
    arms = np.linalg.norm(atoms.positions - atoms.get_center_of_mass(), axis=1)
    rotates = not atoms.pbc.any() and np.linalg.norm(atoms.get_angular_momentum()) > scale * max(arms.max(), 1.0)
    return bool(np.linalg.norm(momenta.sum(axis=0)) <= scale and not rotates)


def degrees_of_freedom(atoms: Atoms, *, drift_removed: bool) -> int:
    """Number of momenta that are free; at least one, so that a temperature can be formed."""
    if atoms.constraints or not drift_removed:
        return max(1, int(atoms.get_number_of_degrees_of_freedom()))
    rotations = 0
    if not atoms.pbc.any():
        moments = atoms.get_moments_of_inertia()
        rotations = int((moments > 1e-6 * max(moments.max(), 1e-12)).sum())  # 3; linear molecules 2, atoms 0
    return max(1, 3 * len(atoms) - 3 - rotations)


def integrator(
    atoms: Atoms,
    ensemble: str,
    generator: np.random.Generator,
    *,
    timestep: float,
    temperature: float,
    friction: float,
    pressure: float = 0.0,
    barostat_time: float = 1000.0,
    barostat_momentum: float = 0.0,
) -> MolecularDynamics:
    """ASE's integrator for an ensemble, about to take its next step from the present positions and momenta.

    nve is velocity Verlet. langevin is the second-order scheme of Vanden-Eijnden and Ciccotti
    (doi:10.1016/j.cplett.2006.07.086) on all 3N momenta; ASE's `fixcm=True` is not used, since it samples a wrong
    distribution for small systems. npt is the Langevin-Hoover barostat of Quigley and Probert (doi:10.1063/1.1755657)
    for the volume at a fixed shape of the cell, in BAOAB splitting (doi:10.1063/1.4802990). It is preferred to
    Berendsen's, which does not sample an ensemble, and to the Martyna-Tobias-Klein chains, which heat a cell whose
    centre of mass rests by N/(N-1), and whose state is private to ASE, so that a run could not resume from it.

    Args:
        atoms: structure with a calculator.
        ensemble: "nve", "langevin" or "npt".
        generator: random numbers of langevin and npt.
        timestep: fs.
        temperature: K; not used by nve.
        friction: 1/fs; not used by nve.
        pressure: GPa; npt.
        barostat_time: fs; response time of the volume, npt.
        barostat_momentum: momentum of the volume, ASE's units; npt.

    Raises:
        ValueError: if the ensemble is unknown, or npt is asked for without a fully periodic cell.
    """
    step = timestep * units.fs
    if ensemble == "nve":
        return VelocityVerlet(atoms, step)
    if ensemble == "langevin":
        return Langevin(
            atoms, step, temperature_K=temperature, friction=friction / units.fs, fixcm=False, rng=generator
        )
    if ensemble != "npt":
        raise ValueError(f"unknown ensemble {ensemble!r}; choose one of {', '.join(ENSEMBLES)}")
    if not atoms.pbc.all():
        raise ValueError(f"npt changes the volume, so all axes must be periodic; got pbc={atoms.pbc.tolist()}")
    response = barostat_time * units.fs
    dynamics = LangevinBAOAB(
        atoms,
        step,
        temperature_K=temperature,
        externalstress=-pressure * units.GPa,
        hydrostatic=True,
        T_tau=units.fs / friction,
        P_tau=response,
        P_mass=(3 * len(atoms) + 3) * units.kB * temperature * response**2,  # doi:10.1063/1.467468
        rng=generator,
    )
    dynamics.p_eps = barostat_momentum
    return dynamics


def free_energy(atoms: Atoms) -> float:
    """The energy whose negative derivative the forces are, eV; differs from `energy` where electrons are smeared."""
    energy = atoms.get_potential_energy()
    return float(getattr(atoms.calc, "results", {}).get("free_energy", energy))


def check_stable(atoms: Atoms, energy: float, kinetic_temperature: float, *, target: float, where: str) -> None:
    """Raise if the simulation blew up.

    Raises:
        UnstableDynamicsError: if an energy or force is not finite or the temperature is above 5000 K + 10 · target.
    """
    advice = "try a shorter time step, or start from a relaxed structure"
    if not (np.isfinite(energy) and np.isfinite(atoms.get_forces()).all()):
        raise UnstableDynamicsError(f"{where}: the energy or a force is not finite; {advice}")
    if not kinetic_temperature <= 5000 + 10 * target:
        raise UnstableDynamicsError(
            f"{where}: the temperature is {kinetic_temperature:.0f} K, far from {target:g} K; {advice}"
        )
