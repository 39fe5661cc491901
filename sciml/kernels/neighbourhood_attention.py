"""Operators of neighbourhood attention: launchers of its three passes, and the derivatives that tie them together.

    neighbourhood_attention → neighbourhood_attention_backward → neighbourhood_attention_double_backward

each differentiates the one before; a third derivative goes through the torch reference. `torch.compile` sees through
the operators. Sums over heads are taken from buffers in a fixed order: results are the same bits in every run.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sciml.kernels.available import interpreted
from sciml.kernels.launch import launch, operator, traced
from sciml.kernels.legendre import MAX_DEGREE
from sciml.kernels.neighbourhood_attention_double_backward import double_backward_kernel
from sciml.kernels.neighbourhood_attention_passes import backward_kernel, forward_kernel

MAX_SLOTS = 64
MAX_CHANNELS = 128  # of a head
DTYPES = (torch.float32, torch.float64, torch.bfloat16)

# Of tensor cores: TF32 loses 13 bits of a float32 number, and three products of its halves lose none that matter.
_PRECISION = {torch.float32: "tf32x3", torch.float64: "ieee", torch.bfloat16: "bf16"}
_NUM_WARPS = {"forward": 4, "backward": 4, "double_backward": 4}  # a warpgroup: it multiplies 64 rows at once


def unsupported(slots: int, channels: int, groups: Sequence[int], dtype: torch.dtype) -> str | None:
    """Why the kernels cannot do a case, or None if they can."""
    if dtype not in DTYPES:
        return f"got {dtype}; the kernels take {', '.join(str(d).removeprefix('torch.') for d in DTYPES)}"
    if slots > MAX_SLOTS:
        return f"got {slots} slots; the kernels take up to {MAX_SLOTS}"
    if channels > MAX_CHANNELS:
        return f"got {channels} channels per head; the kernels take up to {MAX_CHANNELS}"
    if len(groups) > MAX_DEGREE + 1:
        return f"got groups of degrees up to {len(groups) - 1}; the kernels have up to {MAX_DEGREE}"
    return None


def _launch(name: str, kernel: Any, tensors: Sequence[Tensor], q: Tensor, groups: Sequence[int], scale: float) -> None:
    atoms, slots, heads, channels = q.shape
    if q.numel() == 0:
        return
    firsts = [sum(groups[:l]) for l in range(len(groups))]
    precision = _PRECISION[q.dtype]
    if precision == "bf16" and interpreted():  # which multiplies the bits of bfloat16 numbers as integers
        precision = "tf32x3"
    # Three programs fit a multiprocessor at once instead of two; torch.compile does not take the option.
    fewer = name == "forward" and q.dtype == torch.float32 and not traced() and not interpreted()
    launch(
        kernel,
        (atoms * heads,),
        *tensors,
        slots,
        HEADS=heads,
        D=channels,
        SIZES=_packed(groups),
        FIRSTS=_packed(firsts),
        LMAX=len(groups) - 1,
        SCALE=scale,
        BLOCK=16 if slots <= 16 else 32 if slots <= 32 else 64,
        PRECISION=precision,
        num_warps=_NUM_WARPS[name] if q.dtype != torch.float64 else 8,
        num_stages=1,
        **({"maxnreg": 168} if fewer else {}),
    )


def _packed(numbers: Sequence[int]) -> int:
    """Numbers below 1024 in one integer, 10 bits each: a static argument that every version of Triton takes."""
    return sum(number << (10 * l) for l, number in enumerate(numbers))


def _terms(q: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Buffers in the kernels' own precision for terms of the sums over heads: of mask, and of directions."""
    atoms, slots, heads, _ = q.shape
    dtype = torch.promote_types(q.dtype, torch.float32)
    return (
        q.new_empty(atoms, heads, slots, dtype=dtype),
        q.new_empty(atoms, heads, slots, directions.shape[2], dtype=dtype),
    )


# --- derivatives ------------------------------------------------------------------------------------------------------


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001 - the signature is torch's
    *tensors, ctx.groups, ctx.scale = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grads = attention_backward(grad, *ctx.saved_tensors, ctx.groups, ctx.scale)
    return (*grads, None, None)


def _differentiate_twice(ctx: Any, *dots: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    grads = attention_double_backward(*dots, *saved, ctx.groups, ctx.scale)
    return (*grads, None, None)


def _differentiate_thrice(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
    """Through the reference: its second derivative once more, and the derivative of that."""
    from sciml.nn.neighbourhood_attention import attention_reference

    with torch.enable_grad():
        tensors: list[Tensor] = [x.detach().requires_grad_() for x in ctx.saved_tensors]
        dots, grad, inputs = tensors[:5], tensors[5], tensors[6:]
        q, k, v, mask, directions = inputs
        out = attention_reference(q, k, v, mask, directions, ctx.groups, ctx.scale)
        first = torch.autograd.grad(out, inputs, grad, create_graph=True, materialize_grads=True)
        second = torch.autograd.grad(first, [grad, *inputs], dots, create_graph=True, materialize_grads=True)
        pairs = [(x, y) for x, y in zip(second, cotangents, strict=True) if x.requires_grad]
        if not pairs:
            return (None,) * (len(tensors) + 2)
        outputs, weights = zip(*pairs, strict=True)
        third = torch.autograd.grad(outputs, tensors, weights, create_graph=True, materialize_grads=True)
    return (*third, None, None)


# --- operators -------------------------------------------------------------------------------------------------------


@operator("sciml::neighbourhood_attention", setup=_save, backward=_differentiate)
def attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, directions: Tensor, groups: Sequence[int], scale: float
) -> Tensor:
    """Out, see `sciml.nn.neighbourhood_attention`; directions (atoms, slots, 0) where there is one group."""
    q, k, v, mask, directions = (x.contiguous() for x in (q, k, v, mask, directions))
    out = torch.empty_like(q)
    _launch("forward", forward_kernel, (q, k, v, mask, directions, out), q, groups, scale)
    return out


@operator("sciml::neighbourhood_attention_backward", setup=_save, backward=_differentiate_twice)
def attention_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
    directions: Tensor,
    groups: Sequence[int],
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients by q, k, v, mask and directions."""
    grad, q, k, v, mask, directions = (x.contiguous() for x in (grad, q, k, v, mask, directions))
    grad_q, grad_k, grad_v = (torch.empty_like(q) for _ in range(3))
    terms = _terms(q, directions)
    tensors = (grad, q, k, v, mask, directions, grad_q, grad_k, grad_v, *terms)
    _launch("backward", backward_kernel, tensors, q, groups, scale)
    return grad_q, grad_k, grad_v, terms[0].sum(1).to(mask.dtype), terms[1].sum(1).to(directions.dtype)


@operator("sciml::neighbourhood_attention_double_backward", setup=_save, backward=_differentiate_thrice)
def attention_double_backward(
    dot_q: Tensor,
    dot_k: Tensor,
    dot_v: Tensor,
    dot_mask: Tensor,
    dot_directions: Tensor,
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
    directions: Tensor,
    groups: Sequence[int],
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients by grad, q, k, v, mask and directions of the scalar product of dots with the backward's results."""
    dot_q, dot_k, dot_v = (x.contiguous() for x in (dot_q, dot_k, dot_v))
    grad, q, k, v, mask, directions = (x.contiguous() for x in (grad, q, k, v, mask, directions))
    grad_grad, grad_q, grad_k, grad_v = (torch.empty_like(q) for _ in range(4))
    terms = _terms(q, directions)
    dots = (dot_q, dot_k, dot_v, dot_mask.contiguous(), dot_directions.contiguous())
    grads = (grad_grad, grad_q, grad_k, grad_v)
    tensors = (*dots, grad, q, k, v, mask, directions, *grads, *terms)
    _launch("double_backward", double_backward_kernel, tensors, q, groups, scale)
    return *grads, terms[0].sum(1).to(mask.dtype), terms[1].sum(1).to(directions.dtype)
