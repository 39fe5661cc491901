"""Root-mean-square norms of rows with all derivatives up to the second, one kernel each.

With x̂ = x r, r = (mean x² + ε)^(−1/2), means over the channels of a row, and y = g ⊙ x̂:

    backward of ẏ:          u = g ⊙ ẏ,    ẋ = r (u − x̂ mean(u x̂)),    ġ = Σ_rows ẏ ⊙ x̂
    backward of that, for   v = r (w − x̂ mean(w x̂))
    cotangents w of ẋ       ÿ = g ⊙ v + c ⊙ x̂
    and c of ġ:             ẍ = −r² [ x̂ (mean(w u) − 3 mean(w x̂) mean(u x̂)) + w mean(u x̂) + u mean(w x̂) ]
                                + r ( c ⊙ ẏ − x̂ mean(c ẏ x̂) )
                            g̈ = Σ_rows ẏ ⊙ v

torch decomposes the second line into eight and the others into thirty operations, each of which reads and writes all
rows. A program takes a few rows; nothing but x is kept between passes. Bytes: each array once.

Source: Zhang, Sennrich, arXiv:1910.07467 (the norm); the derivatives by hand.
"""

# ruff: noqa: ANN001, ANN201 - Triton reads annotations, and knows none but its own

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from sciml.kernels.launch import launch, sum_type

# Numbers of a program, which keeps a few arrays of as many in registers.
_NUMBERS = 2048


@triton.jit(do_not_specialize=["rows"])
def forward_kernel(x, g, y, rows, epsilon, C: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, SUM: tl.constexpr):  # type: ignore[no-untyped-def]
    """y, of ROWS rows."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, BLOCK)
    inside = (row < rows)[:, None] & (channel < C)[None, :]
    place = row[:, None] * C + channel[None, :]
    of_x = tl.load(x + place, mask=inside, other=0.0).to(SUM)
    of_g = tl.load(g + channel, mask=channel < C, other=0.0).to(SUM)
    r = 1 / tl.sqrt(tl.sum(of_x * of_x, axis=1) / C + epsilon)
    tl.store(y + place, of_x * r[:, None] * of_g[None, :], mask=inside)


@triton.jit(do_not_specialize=["rows"])
def backward_kernel(  # type: ignore[no-untyped-def]
    dy, x, g, dx, dg, rows, epsilon, C: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, SUM: tl.constexpr
):
    """ẋ of ROWS rows, and their part of ġ, (programs, C)."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, BLOCK)
    inside = (row < rows)[:, None] & (channel < C)[None, :]
    place = row[:, None] * C + channel[None, :]
    of_x = tl.load(x + place, mask=inside, other=0.0).to(SUM)
    of_dy = tl.load(dy + place, mask=inside, other=0.0).to(SUM)
    of_g = tl.load(g + channel, mask=channel < C, other=0.0).to(SUM)
    r = (1 / tl.sqrt(tl.sum(of_x * of_x, axis=1) / C + epsilon))[:, None]
    x_hat = of_x * r
    u = of_dy * of_g[None, :]
    mean = (tl.sum(u * x_hat, axis=1) / C)[:, None]
    tl.store(dx + place, r * (u - x_hat * mean), mask=inside)
    tl.store(dg + tl.program_id(0) * C + channel, tl.sum(of_dy * x_hat, axis=0), mask=channel < C)


@triton.jit(do_not_specialize=["rows"])
def double_backward_kernel(  # type: ignore[no-untyped-def]
    w,
    c,
    dy,
    x,
    g,
    ddy,
    ddx,
    ddg,
    rows,
    epsilon,
    C: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    SUM: tl.constexpr,
):
    """ÿ and ẍ of ROWS rows, and their part of g̈, (programs, C)."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, BLOCK)
    inside = (row < rows)[:, None] & (channel < C)[None, :]
    place = row[:, None] * C + channel[None, :]
    of_x = tl.load(x + place, mask=inside, other=0.0).to(SUM)
    of_dy = tl.load(dy + place, mask=inside, other=0.0).to(SUM)
    of_w = tl.load(w + place, mask=inside, other=0.0).to(SUM)
    of_g = tl.load(g + channel, mask=channel < C, other=0.0).to(SUM)[None, :]
    of_c = tl.load(c + channel, mask=channel < C, other=0.0).to(SUM)[None, :]
    r = (1 / tl.sqrt(tl.sum(of_x * of_x, axis=1) / C + epsilon))[:, None]
    x_hat = of_x * r
    u = of_dy * of_g
    mean_u = (tl.sum(u * x_hat, axis=1) / C)[:, None]
    mean_w = (tl.sum(of_w * x_hat, axis=1) / C)[:, None]
    mean_wu = (tl.sum(of_w * u, axis=1) / C)[:, None]
    s = of_c * of_dy
    mean_s = (tl.sum(s * x_hat, axis=1) / C)[:, None]
    v = r * (of_w - x_hat * mean_w)
    bent = x_hat * (mean_wu - 3 * mean_w * mean_u) + of_w * mean_u + u * mean_w
    tl.store(ddy + place, of_g * v + of_c * x_hat, mask=inside)
    tl.store(ddx + place, r * (s - x_hat * mean_s) - r * r * bent, mask=inside)
    tl.store(ddg + tl.program_id(0) * C + channel, tl.sum(of_dy * v, axis=0), mask=channel < C)


def _shape(x: Tensor) -> tuple[int, int, dict[str, Any]]:
    """Rows, programs, and constants of the kernels."""
    channels = x.shape[-1]
    block = triton.next_power_of_2(channels)
    at_once = max(1, _NUMBERS // block)
    rows = x.numel() // channels
    return rows, triton.cdiv(rows, at_once), {"C": channels, "ROWS": at_once, "BLOCK": block, "SUM": sum_type(x.dtype)}


class _Norm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, g: Tensor, epsilon: float) -> Tensor:
        ctx.save_for_backward(x, g)
        ctx.epsilon = epsilon
        rows, programs, constants = _shape(x)
        y = torch.empty_like(x)
        if rows:
            launch(forward_kernel, (programs,), x, g, y, rows, epsilon, **constants)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None]:
        x, g = ctx.saved_tensors
        return (*_NormBackward.apply(dy.contiguous(), x, g, ctx.epsilon), None)


class _NormBackward(Function):
    @staticmethod
    def forward(ctx: Any, dy: Tensor, x: Tensor, g: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(dy, x, g)
        ctx.epsilon = epsilon
        rows, programs, constants = _shape(x)
        dx, dg = torch.empty_like(x), x.new_zeros(programs, x.shape[-1])
        if rows:
            launch(backward_kernel, (programs,), dy, x, g, dx, dg, rows, epsilon, **constants)
        return dx, dg.sum(dim=0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, w: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        dy, x, g = ctx.saved_tensors
        rows, programs, constants = _shape(x)
        ddy, ddx, ddg = torch.empty_like(x), torch.empty_like(x), x.new_zeros(programs, x.shape[-1])
        if rows:
            given = (w.contiguous(), c.contiguous(), dy, x, g)
            launch(double_backward_kernel, (programs,), *given, ddy, ddx, ddg, rows, ctx.epsilon, **constants)
        return ddy, ddx, ddg.sum(dim=0), None


def rms_norm(x: Tensor, g: Tensor, epsilon: float) -> Tensor:
    """G ⊙ x (mean x² + ε)^(−1/2) along the last axis; twice differentiable.

    Args:
        x: (..., channels).
        g: (channels,), of the dtype of x.
        epsilon: ε.
    """
    return _Norm.apply(x.contiguous(), g.contiguous(), epsilon)
