"""Nonlinear Klein-Gordon fields φ_tt = Δφ − V'(φ): pseudo-spectral in space, symplectic splitting in time."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sciml.integrators import field_checks as checks
from sciml.integrators.field_diagnostics import Diagnostics, diagnose
from sciml.integrators.field_loop import compiled
from sciml.integrators.field_potentials import Potential, named_potential
from sciml.integrators.field_run import FieldRun, FieldState
from sciml.integrators.field_spaces import Space
from sciml.integrators.fixed_point import FixedPointLoop
from sciml.integrators.splitting import SplittingScheme, splitting_scheme
from sciml.messages import check_positive

Array = NDArray[Any]


@dataclass(frozen=True)
class AbsorbingLayer:
    """Damping −2σ(x) φ_t near the ends, σ = strength · s⁴ where s grows from 0 to 1 through the layer.

    As it stands, less than 1e-5 of waves with ω ≥ 1.5 m comes back (m = 1).

    Attributes:
        width: of the layer at each end.
        strength: σ at the end.
    """

    width: float = 25.0
    strength: float = 1.5


class KleinGordon:
    """φ_t = π, π_t = Δφ − V'(φ) in one dimension or on a plane; c = ħ = 1.

    The state is (φ, π), as coefficients in the basis of the boundary. A splitting scheme with a fixed step conserves
    the energy of the grid up to an error that does not grow, and is its own inverse under π → −π.

    Args:
        potential: a name of POTENTIALS with m = λ = v = 1, or a Potential.
        length: L of each axis; one number or a pair.
        num_x: points of each axis; one number or a pair.
        boundary: one of BOUNDARIES.
        scheme: one of SCHEMES.
        dt: the largest step; the one that is taken divides the time between two frames. By default `courant` times
            what is stable.
        courant: of the default step.
        dealias: whether V' is taken on twice as many points, which is exact if it is a polynomial of at most third
            degree (a cubic force needs twice, not one and a half times, the points); three half more cost.
        exponential: whether the linear part −Δφ + M²φ about `reference` is solved exactly and only the rest is kicked.
            Exact for the linear potential. No CFL bound holds, but steps with ω_k dt near a multiple of π resonate.
            It pays where the field is near one vacuum: each length in another one has an error of its own.
        smooth: with `exponential` and stormer_verlet: the force is −∇U(Sφ) with S = sinc(ω dt), the mollified impulse
            method, which removes the resonances.
        reference: φ_r of `exponential`, on the grid; by default the vacuum if both ends of the initial field are in the
            same one that is in the space, else the initial field.
        compensated: whether sums are compensated (Kahan), for phases over thousands of periods.
        fixed_point: whether the state are integers, so that runs are reversed bit by bit.
        layer: of the absorbing boundary; given with the boundaries even, odd or neumann, it absorbs at their ends.

    Raises:
        ValueError: for unknown names, and for settings that do not go together.

    Source: E. Hairer, C. Lubich, G. Wanner, Geometric Numerical Integration (2006), ch. II, VIII and XIII; the
    mollified impulse: B. García-Archilla, J. M. Sanz-Serna, R. D. Skeel, SIAM J. Sci. Comput. 20, 930 (1998),
    doi:10.1137/S1064827596313851.
    """

    def __init__(
        self,
        potential: Potential | str,
        length: float | Sequence[float],
        *,
        num_x: int | Sequence[int],
        boundary: str = "periodic",
        scheme: SplittingScheme | str = "blanes_moan_6",
        dt: float | None = None,
        courant: float = 0.5,
        dealias: bool = False,
        exponential: bool = False,
        smooth: bool = False,
        reference: ArrayLike | None = None,
        compensated: bool = False,
        fixed_point: bool = False,
        layer: AbsorbingLayer | None = None,
    ) -> None:
        self.potential = named_potential(potential) if isinstance(potential, str) else potential
        lengths = (float(length),) if isinstance(length, int | float) else tuple(float(one) for one in length)
        shape = (num_x,) if isinstance(num_x, int) else tuple(num_x)
        self.space = Space(boundary, lengths, shape)
        self.scheme = splitting_scheme(scheme) if isinstance(scheme, str) else scheme
        check_positive({"courant": courant} | ({} if dt is None else {"dt": dt}))
        self.dt, self.courant = dt, courant
        self.padding = 2 if dealias else 1
        self.exponential, self.smooth = exponential, smooth
        self.compensated, self.fixed_point = compensated, fixed_point
        self.reference = None if reference is None else self.space.to_coefficients(reference)
        self.layer = layer or (AbsorbingLayer() if boundary == "absorbing" else None)
        checks.check_settings(self)

    # --- what a run needs ---------------------------------------------------------------------------------------------

    def run(
        self,
        phi: ArrayLike,
        pi: ArrayLike | None = None,
        *,
        time: float,
        frames: int = 101,
        check: bool = True,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> FieldRun:
        """Solve from φ and π = φ_t (zero by default), both (*shape,), for a time.

        Args:
            phi: φ at t = 0.
            pi: φ_t at t = 0.
            time: how long; negative runs back.
            frames: saved times, equally spaced, with both ends.
            check: whether fields are refused that the boundary does not fit or whose ends are in no vacuum.
            on_progress: called with the number of finished frames and their total.

        Raises:
            ValueError: for such fields, NaN, a step beyond stability, or if the field stops being a number.
        """
        phi = np.asarray(phi, dtype=np.float64)
        pi = np.zeros_like(phi) if pi is None else np.asarray(pi, dtype=np.float64)
        state = FieldState(self.space.to_coefficients(phi), self.space.to_coefficients(pi))
        if check:
            checks.check_field(self, phi, pi)
        if frames < 2 or not math.isfinite(time) or time == 0:
            raise ValueError(f"got time={time} and frames={frames}; expected some time and at least 2 frames")
        interval = time / (frames - 1)
        steps = self._steps(phi, abs(interval))
        linear = self._linear_part(phi)
        if self.fixed_point:
            state = FixedPointLoop.encode(state)
        run = FieldRun.start(self, state, interval=interval, steps=steps, linear=linear)
        return self._continue(run, frames - 1, on_progress)

    def resume(self, run: FieldRun, *, frames: int, on_progress: Callable[[int, int], None] | None = None) -> FieldRun:
        """The run with as many further frames, bit by bit what a longer run would have given.

        Raises:
            ValueError: if the run was made by a solver with other settings.
        """
        checks.check_same(self, run)
        return self._continue(run, frames, on_progress)

    def _continue(self, run: FieldRun, frames: int, on_progress: Callable[[int, int], None] | None) -> FieldRun:
        loop = FixedPointLoop(self, run) if self.fixed_point else _FloatLoop(self, run)
        # One call of the compiled loop takes about a tenth of a second, so that progress can be reported.
        work = run.steps * self.scheme.forces_per_step * self.space.size * self.padding
        at_once = max(1, min(frames, int(4e6 / work) if on_progress else frames))
        parts, state, done = [run], run.state, 0
        while done < frames:
            number = min(at_once, frames - done)
            phis, pis, taken, state = loop.advance(state, number)
            finite = np.isfinite(phis).all(axis=1) & np.isfinite(pis).all(axis=1)
            if not finite.all():
                at = run.t[-1] + (done + int(np.argmin(finite)) + 1) * run.interval
                raise ValueError(
                    f"the field stopped being a number before t = {at:g}; give a smaller dt than {abs(run.dt):.3g}, or "
                    "a potential that is bounded below"
                )
            parts.append(run.following(self, phis, pis, taken, state, after=done))
            done += number
            if on_progress is not None:
                on_progress(done, frames)
        return FieldRun.joined(parts)

    def diagnostics(self, phis: Array, pis: Array) -> Diagnostics:
        """Energy, momentum and topological charge of coefficients, (frames, size)."""
        return diagnose(self.space, self.potential, self.padding, phis, pis)

    def energy(self, phi: ArrayLike, pi: ArrayLike | None = None) -> float:
        """∫ π²/2 + |∇φ|²/2 + V(φ) of fields on the grid, (*shape,)."""
        phi = self.space.to_coefficients(phi)
        pi = np.zeros_like(phi) if pi is None else self.space.to_coefficients(pi)
        return float(self.diagnostics(phi[None], pi[None]).energy[0])

    def largest_step(self, phi: ArrayLike) -> float:
        """Beyond which kicks and drifts are unstable for such a field; infinite if the linear part is exact."""
        if self.exponential:
            return math.inf
        return self.scheme.stability_limit / checks.largest_frequency(self, np.asarray(phi))

    def _steps(self, phi: Array, interval: float) -> int:
        limit = self.largest_step(phi)
        if self.exponential:
            curvature = checks.largest_curvature(self, phi)
            default = self.courant / math.sqrt(max(curvature, 1e-2))
        else:
            default = self.courant * limit
        steps = max(1, math.ceil(interval / (self.dt or default) * (1 - 1e-12)))
        if interval / steps > limit:
            raise ValueError(
                f"steps of {interval / steps:.4g} are beyond the stability of {self.scheme.name} on this grid; at most "
                f"{limit:.4g} is stable: give a smaller dt, a coarser grid, or exponential=True"
            )
        if self.exponential and not self.potential.is_linear:
            checks.warn_of_resonance(self, phi, interval / steps)
        return steps

    def _linear_part(self, phi: Array) -> tuple[float, Array]:
        """M² and the reference's coefficients."""
        reference = np.zeros(self.space.size)
        if not self.exponential:
            return 0.0, reference
        if self.potential.is_linear:
            return self.potential.parameters["m"] ** 2, reference
        ends = checks.ends(phi)
        vacuum = float(np.mean(ends))
        if self.reference is not None:
            reference = self.reference
        elif np.ptp(ends) < 1e-3 and self.space.boundary not in ("antiperiodic", "odd"):
            reference = self.space.to_coefficients(np.full(self.space.shape, vacuum))
        else:
            reference = self.space.to_coefficients(phi)
        return self.potential.mass(float(ends[0])) ** 2, reference

    # --- the settings, for the record ---------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """What defines the solver, as plain values."""
        return {
            "potential": self.potential.name,
            **{f"potential_{name}": value for name, value in self.potential.parameters.items()},
            "boundary": self.space.boundary,
            "length": list(self.space.lengths),
            "num_x": list(self.space.shape),
            "scheme": self.scheme.name,
            "dealias": self.padding == 2,
            "exponential": self.exponential,
            "smooth": self.smooth,
            "compensated": self.compensated,
            "fixed_point": self.fixed_point,
            **({} if self.layer is None else {"layer": [self.layer.width, self.layer.strength]}),
        }

    def arguments(self, *, step: float, linear: tuple[float, Array]) -> tuple[Any, ...]:
        """What the compiled loops take after the state: the scheme with this step, and the functions."""
        space, scheme = self.space, self.scheme
        mass_squared, reference = linear
        drifts, kicks = np.array(scheme.drifts) * step, np.array(scheme.kicks) * step
        omega = np.sqrt(space.squared + mass_squared)
        rows = np.zeros((3, len(drifts), omega.size if self.exponential else 1))
        smoothing, offset, stiffness = np.zeros(0), np.zeros(space.size), space.squared
        if self.exponential:
            angle = drifts[:, None] * omega
            sine = np.where(omega > 0, np.sin(angle) / np.where(omega > 0, omega, 1), drifts[:, None])
            rows = np.stack([-2 * np.sin(angle / 2) ** 2, sine, -omega * np.sin(angle)])
            offset, stiffness = -(omega**2) * reference, np.full(space.size, -mass_squared)
            if self.potential.is_linear:
                kicks = np.zeros_like(kicks)
            if self.smooth:
                smoothing = np.sinc(omega * step / np.pi)
        damping = np.zeros(0)
        work, points = space.buffers(self.padding)
        if self.layer is not None:
            damping = np.exp(-2 * checks.damping_rate(self.layer, space, self.padding) * abs(step))
        slope = self.potential.functions[1]
        return (
            drifts, kicks, self.exponential, rows[0], rows[1], rows[2], reference, stiffness, offset, smoothing,
            damping, space.weights, *space.functions, space.table(self.padding), slope, self.potential.numbers,
            work.size, points.size,
        )  # fmt: skip


class _FloatLoop:
    """The compiled loop of a run in float64."""

    def __init__(self, solver: KleinGordon, run: FieldRun) -> None:
        self.arguments = solver.arguments(step=run.dt, linear=(run.mass_squared, run.reference))
        self.compensated, self.steps = solver.compensated, run.steps

    def advance(self, state: FieldState, frames: int) -> tuple[Array, Array, Array, FieldState]:
        """Coefficients of φ and π at the next frames, the energy that the layer takes before each, and the state."""
        phi, pi = state.phi.copy(), state.pi.copy()
        phi_error = np.zeros_like(phi) if state.phi_error is None else state.phi_error.copy()
        pi_error = np.zeros_like(pi) if state.pi_error is None else state.pi_error.copy()
        phis, pis, taken = np.zeros((frames, phi.size)), np.zeros((frames, phi.size)), np.zeros(frames)
        compiled("record_field")(
            phi, pi, phi_error, pi_error, self.compensated, *self.arguments, self.steps, phis, pis, taken
        )
        errors = (phi_error, pi_error) if self.compensated else (None, None)
        return phis, pis, taken, FieldState(phi, pi, *errors)
