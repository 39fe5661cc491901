"""Many periodic fields at once on a GPU: the kicks and drifts of `KleinGordon` on batches of torch tensors."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn.functional import pad

from sciml.integrators import field_checks as checks
from sciml.integrators.field_ensemble import FieldEnsemble
from sciml.integrators.klein_gordon import KleinGordon


def linear(phi: Tensor, m: float, lam: float, v: float) -> Tensor:
    """m² φ."""
    del lam, v
    return m**2 * phi


def phi4(phi: Tensor, m: float, lam: float, v: float) -> Tensor:
    """λ φ (φ² − v²)."""
    del m
    return lam * phi * (phi * phi - v**2)


def sine_gordon(phi: Tensor, m: float, lam: float, v: float) -> Tensor:
    """m² v sin(φ/v)."""
    del lam
    return m**2 * v * torch.sin(phi / v)


def double_sine_gordon(phi: Tensor, m: float, lam: float, v: float) -> Tensor:
    """m² v sin(φ/v) + λ v sin(φ/2v)/2."""
    return m**2 * v * torch.sin(phi / v) + 0.5 * lam * v * torch.sin(0.5 * phi / v)


SLOPES: dict[str, Callable[[Tensor, float, float, float], Tensor]] = {
    "linear": linear,
    "phi4": phi4,
    "sine_gordon": sine_gordon,
    "double_sine_gordon": double_sine_gordon,
}


def run_ensemble_on_device(
    solver: KleinGordon,
    phi: ArrayLike,
    pi: ArrayLike,
    *,
    time: float,
    frames: int,
    probes: Sequence[float] = (0.0,),
    device: str | torch.device = "cuda",
    slope: Callable[[Tensor], Tensor] | None = None,
) -> FieldEnsemble:
    """As `run_ensemble`, on a device and in float64; results agree to rounding, not to the bit.

    Args:
        solver: periodic, in one dimension, of kicks and drifts.
        phi: φ at t = 0, (members, num_x).
        pi: φ_t at t = 0, (members, num_x).
        time: how long.
        frames: times at which the probes are read, with both ends.
        probes: places x at which φ is read.
        device: of torch.
        slope: V' of a tensor; needed for potentials of your own only.

    Raises:
        ValueError: if the solver or the device cannot do it, or a field stops being a number.
    """
    space = solver.space
    if space.boundary != "periodic" or len(space.shape) != 1 or solver.exponential or solver.fixed_point:
        raise ValueError("ensembles on a device are periodic, in one dimension, of kicks and drifts in float64")
    if solver.compensated:
        raise ValueError("ensembles on a device do not compensate sums; use run_ensemble")
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"got the device {device}, but torch finds no GPU; use run_ensemble, or device='cpu'")
    if slope is None:
        if solver.potential.user is not None:
            raise ValueError("give V' of your potential for tensors: slope=lambda phi: ...")
        parameters, force = solver.potential.parameters, SLOPES[solver.potential.name]

        def slope(phi: Tensor) -> Tensor:
            return force(phi, parameters["m"], parameters["lam"], parameters["v"])

    phi, pi = np.atleast_2d(np.asarray(phi, dtype=float)), np.atleast_2d(np.asarray(pi, dtype=float))
    for one, velocity in zip(phi, pi, strict=True):
        checks.check_field(solver, one, velocity)
    number, interval = space.shape[0], time / (frames - 1)
    steps = solver._steps(phi[int(np.argmax(np.abs(phi).max(axis=1)))], interval)
    step = interval / steps
    options: dict[str, Any] = {"dtype": torch.float64, "device": device}
    a, b = (torch.fft.rfft(torch.tensor(field, **options), norm="forward") for field in (phi, pi))  # (members, waves)
    k2 = torch.tensor(space.squared[::2], **options)
    rows = torch.tensor(np.stack([space.at(x) for x in probes]), **options)  # (probes, 2 waves)
    readings = [_read(a, rows)]
    fine, kept = solver.padding * number, number // 2
    force_is_fresh = False
    acceleration = torch.zeros_like(a)
    start_energy = solver.diagnostics(_pairs(a), _pairs(b)).energy
    for _ in range(frames - 1):
        for _ in range(steps):
            for drift, kick in zip(solver.scheme.drifts, solver.scheme.kicks, strict=True):
                if drift:
                    a = a + drift * step * b
                    force_is_fresh = False
                if kick:
                    if not force_is_fresh:
                        low = a if fine == number else pad(a[:, :kept], (0, fine // 2 + 1 - kept))
                        high = torch.fft.rfft(slope(torch.fft.irfft(low, n=fine, norm="forward")), norm="forward")
                        if fine != number:
                            high = pad(high[:, :kept], (0, 1))
                        acceleration = -k2 * a - high
                        force_is_fresh = True
                    b = b + kick * step * acceleration
        readings.append(_read(a, rows))
    if not bool(torch.isfinite(torch.view_as_real(a)).all()):
        raise ValueError(f"a field of the ensemble is no number any more; give a smaller dt than {step:.3g}")
    end_energy = solver.diagnostics(_pairs(a), _pairs(b)).energy
    return FieldEnsemble(
        np.arange(frames) * interval,
        torch.stack(readings, dim=1).cpu().numpy(),
        torch.fft.irfft(a, n=number, norm="forward").cpu().numpy(),
        torch.fft.irfft(b, n=number, norm="forward").cpu().numpy(),
        np.abs(end_energy / start_energy - 1),
        step,
    )


def _pairs(coefficients: Tensor) -> np.ndarray:
    """Complex coefficients as the (real, imaginary) pairs of the space, (members, size)."""
    pairs: np.ndarray = torch.view_as_real(coefficients).flatten(1).cpu().numpy()
    return pairs


def _read(coefficients: Tensor, rows: Tensor) -> Tensor:
    return torch.view_as_real(coefficients).flatten(1) @ rows.T
