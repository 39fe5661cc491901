"""z = C (A x)^ν at points that stay in registers, and its derivatives of every order.

The derivative of one product of signals at the points is another one,

    z = c T₀ᵀ Π_k (T_k v_k)^{e_k}   ⇒   (∂z/∂v_k)ᵀ g = c e_k T_kᵀ [ (T_k v_k)^{e_k - 1} Π_{j≠k} (T_j v_j)^{e_j} T₀ g ],

where T is the transform of x or that of z: one operator, whose backward pass calls it again. Its kernels are those of
`bilinear`: one program takes 128 (sample, channel) pairs, one a thread; factors are literals, and orbits of reflections
share them.

Bytes: each v and the result once. FLOPs of a sample and channel: 2 d R / G for each transform, and the powers.
"""

from typing import Any

from torch import Tensor
from torch.library import triton_op

from sciml.kernels.bilinear import run_pass
from sciml.kernels.point_form import FORMS, Operand, Pass, Result


def point_power(x: Tensor, exponent: int, heights: Tensor, form: str) -> Tensor:
    """C (A x)^ν, (batch, dim of z).

    Args:
        x: (batch, dim).
        exponent: ν.
        heights: of `Form.heights`, float32 or float64.
        form: its name in `FORMS`, with the sides x and z.
    """
    return point_product([x], [exponent], [0], heights, 1, 1, form)


@triton_op("sciml::point_product", mutates_args={})
def point_product(
    values: list[Tensor], exponents: list[int], sides: list[int], heights: Tensor, result: int, scale: int, form: str
) -> Tensor:
    """T₀ᵀ c Π_k (T_k v_k)^{e_k} with c = `scale`, T₀ that of the side `result`."""
    described = FORMS[form]
    names = [f"v{k}" for k in range(len(values))]
    operands = tuple(Operand(name, side, e) for name, side, e in zip(names, sides, exponents, strict=True))
    wanted = Pass((Result("product", result, operands, scale),))
    rows = values[0].shape[0]
    out = values[0].new_empty(rows, sum(mul * dim for mul, dim in described.sides[result].sizes))
    run_pass(form, wanted, dict(zip(names, values, strict=True)), {"product": out}, {"heights": heights}, rows)
    return out


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    values, ctx.exponents, ctx.sides, heights, ctx.result, ctx.scale, ctx.form = inputs
    ctx.save_for_backward(heights, *values)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    heights, *values = ctx.saved_tensors
    needed = ctx.needs_input_grad[0]
    grads: list[Tensor | None] = []
    for k, exponent in enumerate(ctx.exponents):
        if not (needed[k] if isinstance(needed, (list, tuple)) else needed):
            grads.append(None)
            continue
        left = [(v, e - (j == k), s) for j, (v, e, s) in enumerate(zip(values, ctx.exponents, ctx.sides, strict=True))]
        left = [term for term in left if term[1]] + [(grad, 1, ctx.result)]
        factors, exponents, sides = (list(column) for column in zip(*left, strict=True))
        grads.append(point_product(factors, exponents, sides, heights, ctx.sides[k], ctx.scale * exponent, ctx.form))
    return grads, None, None, None, None, None, None


point_product.register_autograd(_backward, setup_context=_setup)
