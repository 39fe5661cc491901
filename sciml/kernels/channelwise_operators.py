"""The channelwise convolution as operators of torch, differentiable to any order; `torch.compile` sees their kernels.

    sciml::channelwise_convolution             z
    sciml::channelwise_backward                its derivatives by x, y and the weights
    sciml::channelwise_double_backward         the derivatives of those, which training on forces needs

Further derivatives are compositions of the first two, because z is linear in each of its arguments.

Weights are (weights, None), per edge; (basis, matrix), radial; or (None, None), ones.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sciml.kernels.channelwise import Edges, Optional, weights_kind
from sciml.kernels.channelwise_derivatives import derivatives
from sciml.kernels.launch import operator


def _letters(weights: Optional, matrix: Optional) -> str:
    """Letters of x, y and the two weight arguments."""
    return {"ones": "xy", "dense": "xyw", "radial": "xybm"}[weights_kind(weights, matrix)[0]]


def _named(x: Tensor, y: Tensor, weights: Optional, matrix: Optional) -> dict[str, Optional]:
    given = (x, y, weights, matrix)
    return dict(zip(_letters(weights, matrix), given, strict=False))


def _in_order(found: dict[str, Tensor], letters: str, number: int, like: Tensor) -> list[Tensor]:
    results = [found[letter] if letter in found else like.new_empty(0) for letter in letters]
    return results + [like.new_empty(0) for _ in range(number - len(results))]


def _wanted(letters: str, needs: Sequence[bool]) -> str:
    return "".join(letter for letter, need in zip(letters, needs, strict=False) if need)


def _gradients(results: Sequence[Tensor], letters: str, wants: str) -> list[Optional]:
    """Results of the wanted letters; None for the others."""
    return [result if letter in wants else None for letter, result in zip(letters, results, strict=False)]


# --- z ----------------------------------------------------------------------------------------------------------------


def _save_convolution(ctx: Any, inputs: tuple, output: Tensor) -> None:  # noqa: ARG001
    ctx.set_materialize_grads(False)
    ctx.key = inputs[0]
    ctx.save_for_backward(*inputs[1:])


def _convolution_gradients(ctx: Any, g: Optional) -> tuple:
    x, y, weights, matrix, *graph = ctx.saved_tensors
    letters = _letters(weights, matrix)
    wants = _wanted(letters, ctx.needs_input_grad[1:])
    nothing = (None,) * len(ctx.needs_input_grad)
    if g is None or not wants:
        return nothing
    results = channelwise_backward(ctx.key, wants, g, x, y, weights, matrix, *graph)
    found = _gradients(results, letters, wants)
    return (None, *found, *nothing[1 + len(found) :])


@operator("sciml::channelwise_convolution", setup=_save_convolution, backward=_convolution_gradients)
def channelwise_convolution(
    key: str,
    x: Tensor,
    y: Tensor,
    weights: Tensor | None,
    matrix: Tensor | None,
    senders: Tensor,
    receivers: Tensor,
    receiver_starts: Tensor,
    sender_order: Tensor | None,
    sender_starts: Tensor | None,
) -> Tensor:
    """z_i = Σ_{edges j → i} of the channelwise product of x_j and y_ij.

    Args:
        key: of `channelwise_couplings.problem_key`.
        x: (nodes, rows1 · U), rows of one channel each outside, channels inside.
        y: (edges, rows2).
        weights: (edges, paths · U), or the radial basis (edges, K), or None.
        matrix: None, or that of radial weights (K, paths · U).
        senders: (edges,), int64.
        receivers: (edges,), int64, ascending.
        receiver_starts: (nodes + 1,), int64.
        sender_order: (edges,), int64, or None if edge e has the sender e.
        sender_starts: (nodes + 1,), int64, or None likewise.

    Returns:
        (nodes, rows_out · U).
    """
    edges = Edges(senders, receivers, receiver_starts, sender_order, sender_starts)
    return derivatives(key, "g", "", _named(x, y, weights, matrix), edges, weights_kind(weights, matrix))["g"]


# --- first derivatives ------------------------------------------------------------------------------------------------


def _save_derivative(ctx: Any, inputs: tuple, output: tuple) -> None:  # noqa: ARG001
    ctx.set_materialize_grads(False)
    ctx.key, ctx.wants = inputs[:2]
    ctx.save_for_backward(*inputs[2:])


def _backward_gradients(ctx: Any, *tangents: Optional) -> tuple:
    g, x, y, weights, matrix, *graph = ctx.saved_tensors
    letters = _letters(weights, matrix)
    wants = _wanted("g" + letters, ctx.needs_input_grad[2:])
    given = [t if letter in ctx.wants else None for letter, t in zip(letters, tangents, strict=False)]
    given += [None] * (4 - len(given))
    nothing = (None,) * len(ctx.needs_input_grad)
    if not wants or all(t is None for t in given):
        return nothing
    results = channelwise_double_backward(ctx.key, wants, *given, g, x, y, weights, matrix, *graph)
    found = _gradients(results, "g" + letters, wants)
    return (None, None, *found, *nothing[2 + len(found) :])


@operator("sciml::channelwise_backward", setup=_save_derivative, backward=_backward_gradients)
def channelwise_backward(
    key: str,
    wants: str,
    g: Tensor,
    x: Tensor,
    y: Tensor,
    weights: Tensor | None,
    matrix: Tensor | None,
    senders: Tensor,
    receivers: Tensor,
    receiver_starts: Tensor,
    sender_order: Tensor | None,
    sender_starts: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Derivatives of Σ g z by x, y, the weights and the matrix; those not among the letters of `wants` are empty."""
    edges = Edges(senders, receivers, receiver_starts, sender_order, sender_starts)
    inputs = _named(x, y, weights, matrix) | {"g": g}
    found = derivatives(key, wants, "", inputs, edges, weights_kind(weights, matrix))
    results = _in_order(found, _letters(weights, matrix), 4, x)
    return results[0], results[1], results[2], results[3]


# --- second derivatives, and beyond -----------------------------------------------------------------------------------


def _double_backward_gradients(ctx: Any, *cotangents: Optional) -> tuple:
    """Through the same derivatives, composed of convolutions and their first derivatives."""
    needed = ctx.needs_input_grad[2:]
    tensors = ctx.saved_tensors  # unpacked once: checkpointing allows no more
    letters = _letters(tensors[7], tensors[8])
    with torch.enable_grad():
        # Aliases: partial derivatives are wanted, while one saved tensor may depend on another.
        saved = [t.view_as(t) if need else t for t, need in zip(tensors, needed, strict=True)]
        results = composed_double_backward(ctx.key, ctx.wants, saved[:4], *saved[4:])
        pairs = [
            (result, cotangent)
            for letter, cotangent in zip("g" + letters, cotangents, strict=False)
            if cotangent is not None and (result := results.get(letter)) is not None and result.requires_grad
        ]
        if not pairs:
            return (None,) * len(ctx.needs_input_grad)
        gradients = iter(
            torch.autograd.grad(
                [result for result, _ in pairs],
                [tensor for tensor, need in zip(saved, needed, strict=True) if need],
                [cotangent for _, cotangent in pairs],
                create_graph=True,
                allow_unused=True,
            )
        )
    return (None, None, *(next(gradients) if need else None for need in needed))


def composed_double_backward(
    key: str,
    wants: str,
    tangents: Sequence[Optional],
    g: Tensor,
    x: Tensor,
    y: Tensor,
    weights: Optional,
    matrix: Optional,
    *graph: Optional,
) -> dict[str, Tensor]:
    """What the double backward pass computes, as Σ_a over its arguments a, each replaced by its tangent in turn.

    Args:
        key: of the problem.
        wants: letters of the results, of g and the arguments.
        tangents: of x, y and the two weight arguments.
        g: (nodes, rows_out · U).
        x: see `channelwise_convolution`.
        y: the same.
        weights: the same.
        matrix: the same.
        graph: the same, its index tensors.
    """
    letters = _letters(weights, matrix)
    arguments = (x, y, weights, matrix)
    totals: dict[str, Tensor] = {}

    def add(letter: str, value: Tensor) -> None:
        totals[letter] = totals[letter] + value if letter in totals else value

    for position, letter in enumerate(letters):
        tangent = tangents[position]
        if tangent is None:
            continue
        replaced = [tangent if n == position else given for n, given in enumerate(arguments)]
        if "g" in wants:
            add("g", channelwise_convolution(key, *replaced, *graph))
        others = "".join(other for other in letters if other != letter and other in wants)
        if others:
            results = channelwise_backward(key, others, g, *replaced, *graph)
            for other, result in zip(letters, results, strict=False):
                if other in others:
                    add(other, result)
    return totals


@operator("sciml::channelwise_double_backward", setup=_save_derivative, backward=_double_backward_gradients)
def channelwise_double_backward(
    key: str,
    wants: str,
    tx: Tensor | None,
    ty: Tensor | None,
    tweights: Tensor | None,
    tmatrix: Tensor | None,
    g: Tensor,
    x: Tensor,
    y: Tensor,
    weights: Tensor | None,
    matrix: Tensor | None,
    senders: Tensor,
    receivers: Tensor,
    receiver_starts: Tensor,
    sender_order: Tensor | None,
    sender_starts: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Derivatives by g, x, y, the weights and the matrix of the first derivatives in the direction of the tangents."""
    edges = Edges(senders, receivers, receiver_starts, sender_order, sender_starts)
    letters = _letters(weights, matrix)
    tangents = dict(zip(letters, (tx, ty, tweights, tmatrix), strict=False))
    inputs = _named(x, y, weights, matrix) | {"g": g} | {f"t{name}": t for name, t in tangents.items()}
    given = "".join(letter for letter in letters if tangents[letter] is not None)
    found = derivatives(key, wants, given, inputs, edges, weights_kind(weights, matrix))
    results = _in_order(found, "g" + letters, 5, x)
    return results[0], results[1], results[2], results[3], results[4]
