"""z = C [(Aᵀ x) ⊙ (Bᵀ y)] and its derivatives of every order, over samples or over the edges of a graph.

The form F of `bilinear_source` is linear in x, in y, in the weights and in the cotangent z of its value. One operator
gives its derivative by any of the four, and the derivatives of those are again derivatives of F, with tangents in the
place of what was differentiated: forward and backward passes to every order are this operator with its arguments
permuted.

    over samples:  one program takes 128 (sample, channel) pairs, one a thread.
    over edges:    z sums by receiver, one program a (receiver, block of channels) that passes over its edges in order;
                   x sums by sender in the same way; y and weights are numbers of the edges. No atomics: bitwise
                   reproducible.

Bytes: each argument and result once, weights on the way; a graph's node features once an edge. FLOPs of a sample and
channel, for points in orbits of G: 2 (d1 + d2 + d3) R / G for the transforms, and (3 log2 G + 1) R.

Layouts: with "ir_mul" the threads of a warp read neighbouring channels: whole lines. With "mul_ir" they are 2l+1 apart:
the 2l+1 loads of a block share its lines, which the cache holds meanwhile, so that the bytes from memory are the same,
but a warp's load touches 2l+1 lines instead of one.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from sciml.kernels.bilinear_source import source
from sciml.kernels.generated import import_source
from sciml.kernels.launch import launch, operator, reads_directly
from sciml.kernels.point_form import FORMS, Form, Operand, Pass, Result

SLOTS = ("x", "weights", "y", "z")
_GRAPH = ("senders", "receivers", "receiver_starts", "sender_order", "sender_starts")
# Numbers of a thread with which two results in one kernel take fewer instructions than in two, though some leave the
# registers: counted in the machine code for L = 6 (375 numbers, 13 % fewer) and L = 8 (575, as many).
_MOST_HELD = 450
_SIDES = {"x": 0, "y": 1, "z": 2}
_ROWS = {"z": "receivers", "x": "senders", "y": "edges", "weights": "edges"}


def bilinear_product(x: Tensor, y: Tensor, weights: Tensor | None, heights: Tensor, form: str) -> Tensor:
    """z, (batch, dim).

    Args:
        x: (batch, dim).
        y: (batch, dim).
        weights: (batch or 1, number of weights), or None for ones.
        heights: of `Form.heights`, float32 or float64.
        form: its name in `FORMS`.
    """
    (z,) = bilinear_form(x, _rows_of(weights, x.shape[0]), y, None, [], heights, form, "z")
    return z


def bilinear_convolution(
    x: Tensor, y: Tensor, weights: Tensor | None, graph: Sequence[Tensor], heights: Tensor, form: str
) -> Tensor:
    """z_i = Σ_{edges j → i} of the product of x_j and y_ij, (nodes, dim).

    Args:
        x: (nodes, dim).
        y: (edges, dim).
        weights: (edges or 1, number of weights), or None for ones.
        graph: senders, receivers, receiver_starts, sender_order, sender_starts.
        heights: of `Form.heights`, float32 or float64.
        form: its name in `FORMS`.
    """
    (z,) = bilinear_form(x, _rows_of(weights, y.shape[0]), y, None, list(graph), heights, form, "z")
    return z


def _rows_of(weights: Tensor | None, rows: int) -> Tensor | None:
    return weights if weights is None else weights.expand(rows, -1)


def _result(name: str) -> Result:
    slot = "x" if name == "weights" else name
    return Result(name, _SIDES[slot], tuple(Operand(other, side) for other, side in _SIDES.items() if other != slot))


def _fused(form: Form, names: list[str]) -> list[list[str]]:
    """Results to compute in one kernel: all, unless so many numbers would not stay in registers."""
    sizes = [len(side.factor.planes[0].group) + len(side.factor.planes[0].places) for side in form.sides]
    if sum(sizes) + sum(sizes[_SIDES[name]] for name in names if name != "weights") <= _MOST_HELD:
        return [names]
    # What x and its weights get is one product at the points.
    of_x = [name for name in names if name in ("x", "weights")]
    return [*([of_x] if of_x else []), *([name] for name in names if name not in of_x)]


def _side(form: Form, name: str) -> Any:
    return form.sides[_SIDES[name]]


def _dim(form: Form, name: str) -> int:
    if name == "weights":
        return sum(form.weight_muls)
    return sum(mul * dim for mul, dim in _side(form, name).sizes)


def run_pass(
    form: str,
    wanted: Pass,
    given: dict[str, Tensor],
    outs: dict[str, Tensor],
    others: dict[str, Tensor],
    num_rows: int,
) -> None:
    """Launch the kernel of a pass; tensors by the names in its source."""
    if num_rows == 0:
        return
    kernel, arguments = _kernel(form, wanted)
    tensors = {name: _components_contiguous(t) for name, t in given.items()}
    tensors |= {f"{name}_out": t for name, t in outs.items()}
    values: dict[str, Any] = tensors | others | {f"{name}_stride": t.stride(0) for name, t in tensors.items()}
    values["num_rows"], values["zero"] = num_rows, 0
    described = FORMS[form]
    rows, channels = (1, described.tile[1]) if wanted.rows in ("receivers", "senders") else described.tile
    summed = any(described.sides[result.side].shared for result in wanted.results)
    blocks = 1 if summed else -(-described.num_channels // channels)
    reference = next(iter(outs.values()))
    launch(
        kernel,
        (-(-num_rows // rows), blocks),
        *(values[name] for name in arguments),
        DOUBLE=reference.dtype == torch.float64,
        DIRECT=reads_directly({t.dtype for t in tensors.values()}),
        num_warps=max(rows * channels // 32, 1),
        enable_fp_fusion=True,
    )


@lru_cache(maxsize=512)
def _kernel(form: str, wanted: Pass) -> tuple[Any, list[str]]:
    names, text = source(FORMS[form], wanted)
    return import_source("bilinear", text).kernel, names


def _components_contiguous(t: Tensor) -> Tensor:
    return t if t.stride(-1) == 1 or t.shape[-1] == 1 else t.contiguous()


def _setup(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:  # noqa: ARG001
    ctx.set_materialize_grads(False)
    *slots, graph, heights, form, results = inputs
    ctx.save_for_backward(*slots, heights, *graph)
    ctx.form, ctx.results = form, results


def _backward(ctx: Any, grads: list[Tensor | None]) -> tuple[Any, ...]:
    saved = ctx.saved_tensors
    given = dict(zip(SLOTS, saved, strict=False))
    heights, *graph = saved[len(SLOTS) :]
    wanted = [name for i, name in enumerate(SLOTS) if ctx.needs_input_grad[i]]
    found: dict[str, Tensor] = {}
    for result, grad in zip(ctx.results.split(), grads, strict=True):
        names = [name for name in wanted if name != result]
        if grad is None or not names:
            continue
        slots = given | {result: grad}
        parts = bilinear_form(*(slots[name] for name in SLOTS), graph, heights, ctx.form, " ".join(names))
        for name, part in zip(names, parts, strict=True):
            found[name] = found[name] + part if name in found else part
    return (*(found.get(name) for name in SLOTS), [None] * len(graph), None, None, None)


@operator("sciml::bilinear_form", setup=_setup, backward=_backward)
def bilinear_form(
    x: Tensor | None,
    weights: Tensor | None,
    y: Tensor | None,
    z: Tensor | None,
    graph: list[Tensor],
    heights: Tensor,
    form: str,
    results: str,
) -> list[Tensor]:
    """Derivatives of F by those of x, weights, y and z that are named, "x y", say; see `bilinear_source`."""
    names = results.split()
    given = {"x": x, "weights": weights, "y": y, "z": z}
    described = FORMS[form]
    reference = next(t for t in given.values() if t is not None)
    rows = {"samples": reference.shape[0]}
    if graph:
        nodes, edges = graph[2].shape[0] - 1, graph[0].shape[0]
        rows = {"receivers": nodes, "senders": nodes, "edges": edges}
    weighted = weights is not None and names != ["weights"]
    outs = {}
    for name in names:
        shape = (rows[_ROWS[name] if graph else "samples"], _dim(described, name))
        whole = name == "weights" or all(mul <= described.num_channels for mul, _ in _side(described, name).sizes)
        outs[name] = reference.new_empty(shape) if whole else reference.new_zeros(shape)
    passes = {name: _ROWS[name] if graph else "samples" for name in names}
    for kind in dict.fromkeys(passes.values()):
        for together in _fused(described, [name for name in names if passes[name] == kind]):
            run_pass(
                form,
                Pass(tuple(map(_result, together)), weighted, kind),
                {name: t for name, t in given.items() if t is not None},
                {name: outs[name] for name in together},
                dict(zip(_GRAPH, graph, strict=False)) | {"heights": heights},
                rows[kind],
            )
    return list(outs.values())
