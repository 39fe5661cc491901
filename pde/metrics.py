"""How far one rollout is from another: of a surrogate from its solver, or of one solver from another.

Fields are (..., channels, num_x, num_y), in physical units. All but `nrmse` reduce over the grid alone; what comes
before stays, so that means over samples and times are the caller's.
"""

import math

import torch
from torch import Tensor

_GRID = (-2, -1)


def scaled_l2(predicted: Tensor, true: Tensor) -> Tensor:
    """‖predicted − true‖ / ‖true‖ over the grid, (..., channels); components of vectors count by themselves.

    Source: the error of SineNet, arXiv:2403.19507, which is its mean over samples, times and channels.
    """
    _check(predicted, true)
    return (predicted - true).norm(dim=_GRID) / true.norm(dim=_GRID)


def nrmse(predicted: Tensor, true: Tensor) -> Tensor:
    """Root mean square error over the root mean square of the truth, both over everything but channels, (channels,)."""
    _check(predicted, true)
    samples = tuple(dim for dim in range(true.dim()) if dim != true.dim() - 3)
    return (predicted - true).square().mean(dim=samples).sqrt() / true.square().mean(dim=samples).sqrt()


def vrmse(predicted: Tensor, true: Tensor) -> Tensor:
    """√( mean (predicted − true)² / var true ), (..., channels): 1 for who predicts the mean.

    Source: the Well, arXiv:2412.00568.
    """
    _check(predicted, true)
    return ((predicted - true).square().mean(dim=_GRID) / true.var(dim=_GRID, correction=0)).sqrt()


def correlation(predicted: Tensor, true: Tensor) -> Tensor:
    """Pearson correlation over the grid, (..., channels); NaN where a field is uniform."""
    _check(predicted, true)
    a, b = (u - u.mean(dim=_GRID, keepdim=True) for u in (predicted, true))
    return (a * b).sum(dim=_GRID) / (a.norm(dim=_GRID) * b.norm(dim=_GRID))


def correlation_time(predicted: Tensor, true: Tensor, *, frame_time: float = 1.0, threshold: float = 0.8) -> Tensor:
    """First time at which the mean correlation of the channels falls below a threshold, (samples,); ∞ if it never does.

    A rollout that is no number from some frame on has no correlation there.

    Args:
        predicted: (samples, times, channels, num_x, num_y), the first frame at one frame's time.
        true: likewise.
        frame_time: time between frames.
        threshold: of the correlation.
    """
    mean = correlation(predicted, true).mean(dim=-1).nan_to_num(-1.0)  # (samples, times)
    below = mean < threshold
    first = below.to(torch.int64).argmax(dim=1)
    return torch.where(below.any(dim=1), (first + 1) * frame_time, math.inf)


def spectrum(u: Tensor, lengths: tuple[float, float] = (1.0, 1.0)) -> tuple[Tensor, Tensor]:
    """Mean square of a periodic field by the size of its wave, in bins as wide as the longest wave's number.

    The bins sum to the mean square (Parseval): each wave is in one bin, and those that a real transform leaves out
    count twice.

    Args:
        u: (..., num_x, num_y).
        lengths: of the box.

    Returns:
        Wavenumbers of the bins' centres (bins,), in 2π / length, and the part of the mean square in each, (..., bins).
    """
    num_x, num_y = u.shape[-2:]
    coefficients = torch.fft.rfft2(u, norm="forward").abs().square()
    twice = torch.full((num_y // 2 + 1,), 2.0, dtype=u.dtype, device=u.device)
    twice[0] = 1
    if num_y % 2 == 0:
        twice[-1] = 1
    n_x = torch.fft.fftfreq(num_x, lengths[0] / num_x, dtype=torch.float64, device=u.device)[:, None]
    n_y = torch.fft.rfftfreq(num_y, lengths[1] / num_y, dtype=torch.float64, device=u.device)[None, :]
    width = 1 / max(lengths)
    bins = ((n_x**2 + n_y**2).sqrt() / width).round().long().flatten()
    energy = (coefficients * twice).flatten(-2)
    result = energy.new_zeros(*energy.shape[:-1], int(bins.max()) + 1).index_add(-1, bins, energy)
    return torch.arange(result.shape[-1], dtype=u.dtype, device=u.device) * width, result


def spectral_error(predicted: Tensor, true: Tensor, lengths: tuple[float, float] = (1.0, 1.0)) -> tuple[Tensor, Tensor]:
    """Mean square error by the size of the wave: wavenumbers (bins,), and (..., channels, bins), which sum to it."""
    _check(predicted, true)
    return spectrum(predicted - true, lengths)


def divergence(u: Tensor, spacings: tuple[float, float]) -> Tensor:
    """∂_x v_x + ∂_y v_y of a periodic velocity (..., 2, num_x, num_y) by central differences, (..., num_x, num_y)."""
    return sum(  # type: ignore[return-value]
        (u[..., axis, :, :].roll(-1, axis - 2) - u[..., axis, :, :].roll(1, axis - 2)) / (2 * spacings[axis])
        for axis in (0, 1)
    )


def drift(values: Tensor) -> Tensor:
    """Relative change of a quantity since the first time, (..., times), of its values (..., times)."""
    first = values[..., :1]
    return (values - first) / first.abs().clamp_min(torch.finfo(values.dtype).tiny)


def _check(predicted: Tensor, true: Tensor) -> None:
    if predicted.shape != true.shape or predicted.dim() < 3:
        raise ValueError(
            f"got fields of shapes {tuple(predicted.shape)} and {tuple(true.shape)}; expected the same, "
            "(..., channels, num_x, num_y)"
        )
