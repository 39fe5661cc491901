"""Molecular dynamics that continues after a crash, to the last bit as if nothing had happened.

A run is a sequence of segments. Each starts from a state that can be written down (positions, momenta, cell, random
numbers) with a calculator that has forgotten its past, and ends by appending its frames to the files and replacing the
state file. A killed run takes its last segment again; a calculator that carries something along, such as a neighbour
list or an electron density, makes no difference, because it starts each segment afresh in an uninterrupted run too.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator, CalculatorError
from ase.io.jsonio import encode

from sciml.potentials.ensembles import (
    ENSEMBLES,
    UnstableDynamicsError,
    check_stable,
    degrees_of_freedom,
    free_energy,
    integrator,
    is_at_rest,
    remove_drift,
    thermal_momenta,
)
from sciml.potentials.frame_store import FrameStore
from sciml.potentials.md_result import MDResult
from sciml.potentials.restart import DynamicsState
from sciml.potentials.time_series import energy_drift, standard_error, velocity_spectrum

__all__ = ["MDResult", "UnstableDynamicsError", "energy_drift", "run_md", "standard_error", "velocity_spectrum"]


def run_md(
    atoms: Atoms,
    *,
    steps: int,
    ensemble: str = "nve",
    temperature: float = 300.0,
    timestep: float = 0.5,
    equilibration_steps: int = 0,
    friction: float = 0.01,
    pressure: float = 0.0,
    barostat_time: float = 1000.0,
    thermalize: bool = True,
    log_interval: int = 10,
    segment_steps: int = 500,
    seed: int = 0,
    folder: str | Path | None = None,
    new_calculator: Callable[[], Calculator] | None = None,
    provenance: Mapping[str, Any] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    stop_when: Callable[[Atoms], str | None] | None = None,
) -> MDResult:
    """Run molecular dynamics of `atoms` under `atoms.calc`; `atoms` itself is not changed.

    Args:
        atoms: the structure with a calculator.
        steps: steps after the equilibration.
        ensemble: "nve", "langevin" (NVT) or "npt" (volume at a fixed shape), see `sciml.potentials.ensembles`.
        temperature: K; of the first momenta, of the equilibration, and of the thermostat.
        timestep: fs.
        equilibration_steps: steps before the first frame; an NVE run is equilibrated by Langevin dynamics.
        friction: 1/fs, of the thermostat.
        pressure: GPa, npt.
        barostat_time: fs, npt.
        thermalize: whether to draw new momenta; otherwise those of `atoms` are used.
        log_interval: steps between two frames.
        segment_steps: steps between two saved states, at each of which the forces are calculated once more.
        seed: of all random numbers.
        folder: where trajectory.xyz, energies.csv and the state are written, and continued if the same run is there;
            None keeps the frames in memory.
        new_calculator: makes a calculator without a past for each segment. Without it `atoms.calc.reset()` is called,
            which is enough unless a calculator carries more along than its results.
        provenance: further settings that must agree when a run is continued, such as the name of the potential.
        on_progress: called with the steps done and to do, equilibration included.
        stop_when: looks at the structure after each step and returns why the run must stop there, such as an
            `ExtrapolationCheck`, or None. The structure that it objects to is the last frame, also if it comes up in
            the equilibration, at a negative time. The run is then complete and is not continued.

    Raises:
        ValueError: if an argument makes no sense or `folder` has a run with other settings (more `steps` are allowed).
        UnstableDynamicsError: if the simulation blows up.
    """
    arguments: dict[str, Any] = {
        "ensemble": ensemble,
        "temperature": temperature,
        "timestep": timestep,
        "equilibration_steps": equilibration_steps,
        "friction": friction,
        "pressure": pressure,
        "barostat_time": barostat_time,
        "thermalize": thermalize,
        "log_interval": log_interval,
        "segment_steps": segment_steps,
        "seed": seed,
    }
    _check(atoms, steps=steps, **arguments)
    moving = atoms.copy()
    moving.calc = atoms.calc
    generator = np.random.default_rng(seed)
    store = FrameStore(None if folder is None else Path(folder))
    state = store.open({**arguments, "structure": _digest(atoms), **(provenance or {})})
    if state is None:
        if thermalize:
            thermal_momenta(moving, temperature, generator)
        state = DynamicsState.capture(moving, generator, step=-equilibration_steps)
    if state.step > steps:
        raise ValueError(f"{folder} already has {state.step} steps, more than the {steps} asked for")
    state.restore(moving, generator)
    drift_removed = ensemble == "nve" and (thermalize or equilibration_steps > 0 or is_at_rest(atoms))
    freedom = degrees_of_freedom(moving, drift_removed=drift_removed)

    def record(step: int, *, last: bool = False) -> None:
        row = _observables(moving, step * timestep, freedom, with_pressure=ensemble == "npt")
        store.add(moving, row)
        if last:
            return
        where = f"step {step} ({step * timestep:g} fs)"
        check_stable(moving, row["potential"], row["temperature"], target=temperature, where=where)

    def objection(step: int) -> str | None:
        reason = None if stop_when is None else stop_when(moving)
        return reason if reason is None else f"step {step} ({step * timestep:g} fs): {reason}"

    while state.stopped is None and (state.step < steps or (state.step == 0 and state.frames == 0)):
        state.restore(moving, generator)
        _forget(moving, new_calculator)
        equilibrating = state.step < 0
        end = min(state.step + segment_steps, 0 if equilibrating else steps)
        started, stopped = time.perf_counter(), None
        try:
            dynamics = integrator(
                moving, "langevin" if equilibrating and ensemble == "nve" else ensemble, generator, timestep=timestep,
                temperature=temperature, friction=friction, pressure=pressure, barostat_time=barostat_time,
                barostat_momentum=state.barostat,
            )  # fmt: skip
            if state.step == 0 and state.frames == 0:
                record(0)
            for step, _ in enumerate(dynamics.irun(end - state.step), start=state.step):
                # The first is where the segment begins, which the segment before has looked at if there was one.
                if step > state.step or step == -equilibration_steps:
                    stopped = objection(step)
                due = step > max(state.step, 0) and step % log_interval == 0
                if due or (stopped is not None and not step == state.step == 0):
                    record(step, last=stopped is not None)
                if on_progress is not None:
                    on_progress(step + equilibration_steps, steps + equilibration_steps)
                if stopped is not None:
                    end = step
                    break
        except (CalculatorError, RuntimeError, FloatingPointError) as error:
            raise UnstableDynamicsError(
                f"the calculator failed between steps {state.step} and {end}: {error}"
            ) from error
        if end == 0 and drift_removed and stopped is None:
            remove_drift(moving)
        seconds = 0.0 if equilibrating else state.seconds + time.perf_counter() - started
        frames, lengths = state.frames, state.lengths
        state = DynamicsState.capture(moving, generator, step=end)
        state.barostat = float(getattr(dynamics, "p_eps", 0.0))
        state.frames, state.lengths, state.seconds, state.stopped = frames, lengths, seconds, stopped
        store.commit(state)
    return store.result(moving, state, timestep=timestep)


def _observables(atoms: Atoms, time_fs: float, freedom: int, *, with_pressure: bool) -> dict[str, float]:
    kinetic = float(atoms.get_kinetic_energy())
    pressure = float("nan")
    if with_pressure:
        pressure = -np.trace(atoms.get_stress(voigt=False, include_ideal_gas=True)) / 3 / units.GPa
    return {
        "time": time_fs,
        "potential": free_energy(atoms),
        "kinetic": kinetic,
        "temperature": 2 * kinetic / (freedom * units.kB),
        "volume": float(atoms.get_volume()) if atoms.pbc.all() else float("nan"),
        "pressure": float(pressure),
    }


def _forget(atoms: Atoms, new_calculator: Callable[[], Calculator] | None) -> None:
    if new_calculator is not None:
        atoms.calc = new_calculator()
    elif hasattr(atoms.calc, "reset"):
        atoms.calc.reset()


def _digest(atoms: Atoms) -> str:
    """Fingerprint of what a run starts from."""
    arrays = [atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, atoms.get_momenta(), atoms.get_masses()]
    arrays += [array for array in (atoms.get_initial_charges(), atoms.get_initial_magnetic_moments()) if array.any()]
    content = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
    if atoms.constraints:
        content += encode(atoms.constraints).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def _check(atoms: Atoms, *, steps: int, **arguments: Any) -> None:
    if atoms.calc is None:
        raise ValueError("the structure has no calculator; set atoms.calc")
    if arguments["ensemble"] not in ENSEMBLES:
        raise ValueError(f"unknown ensemble {arguments['ensemble']!r}; choose one of {', '.join(ENSEMBLES)}")
    if arguments["ensemble"] == "npt" and not atoms.pbc.all():
        raise ValueError(f"npt changes the volume, so all axes must be periodic; got pbc={atoms.pbc.tolist()}")
    if arguments["ensemble"] == "npt" and not arguments["temperature"] > 0:
        raise ValueError(f"npt needs a positive temperature, got {arguments['temperature']}")
    for name in ("timestep", "friction", "barostat_time", "log_interval", "segment_steps"):
        if not arguments[name] > 0:
            raise ValueError(f"{name} must be positive, got {arguments[name]}")
    for name, value in {"steps": steps, **arguments}.items():
        if name in ("steps", "temperature", "equilibration_steps") and not value >= 0:
            raise ValueError(f"{name} must not be negative, got {value}")
