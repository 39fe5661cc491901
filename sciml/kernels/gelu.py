"""The second derivative of GELU in one kernel, which torch decomposes into twenty operations.

    f(x) = x Φ(x),    f′ = Φ + x φ,    f″ = (2 − x²) φ ,    Φ, φ: distribution and density of the normal distribution

A backward pass is ẋ = ẏ f′(x); with the cotangent w of ẋ its own is  ÿ = w f′(x),  ẍ = w ẏ f″(x).

Source: Hendrycks, Gimpel, arXiv:1606.08415.
"""

# ruff: noqa: ANN001, ANN201 - Triton reads annotations, and knows none but its own

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import gelu as torch_gelu

from sciml.kernels.launch import launch, sum_type

_BLOCK = 512


@triton.jit(do_not_specialize=["number"])
def double_backward_kernel(w, dy, x, ddy, ddx, number, BLOCK: tl.constexpr, SUM: tl.constexpr):  # type: ignore[no-untyped-def]
    """ÿ and ẍ of BLOCK numbers."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < number
    of_w = tl.load(w + place, mask=inside, other=0.0).to(SUM)
    of_dy = tl.load(dy + place, mask=inside, other=0.0).to(SUM)
    of_x = tl.load(x + place, mask=inside, other=0.0).to(SUM)
    density = 0.3989422804014327 * tl.exp(-0.5 * of_x * of_x)
    distribution = 0.5 * (1 + tl.erf(of_x * 0.7071067811865476))
    tl.store(ddy + place, of_w * (distribution + of_x * density), mask=inside)
    tl.store(ddx + place, of_w * of_dy * (2 - of_x * of_x) * density, mask=inside)


class _Gelu(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch_gelu(x)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return _GeluBackward.apply(dy.contiguous(), x)


class _GeluBackward(Function):
    @staticmethod
    def forward(ctx: Any, dy: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(dy, x)
        return torch.ops.aten.gelu_backward(dy, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, w: Tensor) -> tuple[Tensor, Tensor]:
        dy, x = ctx.saved_tensors
        ddy, ddx = torch.empty_like(x), torch.empty_like(x)
        if x.numel():
            grid = (triton.cdiv(x.numel(), _BLOCK),)
            number, total = x.numel(), sum_type(x.dtype)
            launch(double_backward_kernel, grid, w.contiguous(), dy, x, ddy, ddx, number, BLOCK=_BLOCK, SUM=total)
        return ddy, ddx


def gelu(x: Tensor) -> Tensor:
    """X Φ(x), twice differentiable."""
    return _Gelu.apply(x.contiguous())
