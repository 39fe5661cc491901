"""Derivatives of the channelwise convolution from its passes, for all edges at once or in parts that bound the memory.

In parts the edges come in ranges that are small enough for

- the gradients of x by edge ("messages") of the backward pass, which are formed and summed by sender one range after
  the other (the double backward pass, which sums by receiver too, forms all at once);
- the weights of many radial functions, such as the last layer of a radial network gives them, w = b M: matrix products
  of a range, in and out of the kernels for weights per edge, so that those of all edges never exist.
"""

import torch
from torch import Tensor

from sciml.kernels.channelwise import Edges, Optional, edge_pass, matrix_pass, node_pass
from sciml.kernels.channelwise_couplings import couplings
from sciml.kernels.channelwise_form import Pass
from sciml.kernels.segment_sum import segment_sum

# Most bytes of what is formed of edges at a time, where there is a choice.
PART_BYTES = {"dense": 2**30, "ones": 2**28, "radial": 48 * 2**20}

# Radial functions up to which kernels form the weights themselves, by as many loads and multiplications.
MOST_RADIAL_FUNCTIONS = 16


def derivatives(
    key: str, wants: str, tangents: str, inputs: dict[str, Optional], edges: Edges, kind: tuple[str, int]
) -> dict[str, Tensor]:
    """All derivatives wanted.

    Args:
        key: of the problem.
        wants: letters of "gxyw" or "gxybm".
        tangents: letters of the tangents given; none for derivatives of the form itself.
        inputs: as in `node_pass`.
        edges: the graph.
        kind: of weights, and number of radial functions, see `weights_kind`.

    Returns:
        By letter, in the shapes of the arguments and of z.
    """
    weights, num_basis = kind
    inputs = {name: tensor if tensor is None else tensor.contiguous() for name, tensor in inputs.items()}
    if weights == "radial" and num_basis > MOST_RADIAL_FUNCTIONS:
        assert inputs["x"] is not None
        with torch.autocast(inputs["x"].device.type, enabled=False):  # kernels want weights in the dtype of x
            return _of_many_radial_functions(key, wants, tangents, inputs, edges)
    results: dict[str, Tensor] = {}
    of_edges = "".join(letter for letter in wants if letter in "gxywb")
    if of_edges:
        what = Pass(of_edges, tangents, weights, num_basis)
        row = inputs["x"].shape[1] if "x" in wants and "g" not in wants else 0  # type: ignore[union-attr]
        parts = _parts(edges, row, weights, inputs)
        results |= _in_parts(key, what, inputs, edges, parts) if len(parts) > 1 else _at_once(key, what, inputs, edges)
    if "m" in wants:
        results |= matrix_pass(key, Pass("m", tangents, weights, num_basis), edges, inputs)
    return results


def _at_once(key: str, what: Pass, inputs: dict[str, Optional], edges: Edges) -> dict[str, Tensor]:
    results = (node_pass if "g" in what.wants else edge_pass)(key, what, edges, inputs)
    if "x" in results and edges.sender_order is not None and edges.sender_starts is not None:
        results["x"] = segment_sum(results["x"], edges.sender_order, edges.sender_starts)
    return results


def _in_parts(
    key: str, what: Pass, inputs: dict[str, Optional], edges: Edges, parts: list[tuple[int, int]]
) -> dict[str, Tensor]:
    sums = _Sums(key, what.wants, inputs, edges)
    for part in parts:
        given = {n: t[slice(*part)] if n in ("w", "tw") and t is not None else t for n, t in inputs.items()}
        sums.add(part, edge_pass(key, what, edges, given, rows=part))
    return sums.results()


def _of_many_radial_functions(
    key: str, wants: str, tangents: str, inputs: dict[str, Optional], edges: Edges
) -> dict[str, Tensor]:
    """With the weights w = b M of a part, their tangent ẇ = ḃ M + b Ṁ, and the derivatives of the form by both:

    ∂/∂b = ∂/∂w Mᵀ + ∂/∂ẇ Ṁᵀ ,   ∂/∂M = bᵀ ∂/∂w + ḃᵀ ∂/∂ẇ .
    """
    b, m = inputs["b"], inputs["m"]
    assert b is not None
    assert m is not None
    tb = inputs["tb"] if "b" in tangents else None
    tm = inputs["tm"] if "m" in tangents else None
    of_weights = bool(set(wants) & {"b", "m"})
    dense_wants = "".join(n for n in "gxy" if n in wants) + "w" * of_weights
    dense_tangents = "".join(n for n in "xy" if n in tangents) + "w" * (tb is not None or tm is not None)
    what = Pass(dense_wants, dense_tangents, "dense")
    sums = _Sums(key, wants, inputs, edges)
    for part in _parts(edges, m.shape[1] * (1 + of_weights), "radial", inputs):
        here = slice(*part)
        given = inputs | {"w": b[here] @ m}
        if "w" in dense_tangents:
            terms = ([tb[here] @ m] if tb is not None else []) + ([b[here] @ tm] if tm is not None else [])
            given["tw"] = terms[0] if len(terms) == 1 else terms[0] + terms[1]
        if "g" in wants:
            found = node_pass(key, what, edges, given, rows=part, into=sums.totals["g"])
        else:
            found = edge_pass(key, what, edges, given, rows=part)
        if of_weights:
            dw = found.pop("w")
            dtw = edge_pass(key, Pass("w"), edges, given, rows=part)["w"] if "w" in dense_tangents else None
            if "b" in wants:
                found["b"] = dw @ m.T if dtw is None or tm is None else dw @ m.T + dtw @ tm.T
            if "m" in wants:
                sums.totals["m"] += b[here].T @ dw
                if dtw is not None and tb is not None:
                    sums.totals["m"] += tb[here].T @ dtw
        sums.add(part, found)
    return sums.results()


class _Sums:
    """Results that grow part by part: sums in the dtype of sums, and rows of edges."""

    def __init__(self, key: str, wants: str, inputs: dict[str, Optional], edges: Edges) -> None:
        x, y = inputs["x"], inputs["y"]
        assert x is not None
        assert y is not None
        c, num_nodes = couplings(key), edges.receiver_starts.shape[0] - 1
        self.edges, self.dtype = edges, x.dtype
        wider = torch.promote_types(x.dtype, torch.float32)
        shapes = {"g": (num_nodes, c.num_rows_out * c.channels), "x": x.shape}
        if "m" in wants:
            shapes["m"] = inputs["m"].shape  # type: ignore[union-attr]
        self.totals = {n: x.new_zeros(shape, dtype=wider) for n, shape in shapes.items() if n in wants}
        rows = {n: inputs[n] for n in "ywb" if n in wants}
        self.rows = {n: torch.empty_like(t) for n, t in rows.items() if t is not None}

    def add(self, part: tuple[int, int], found: dict[str, Tensor]) -> None:
        """Add what was found of a range of edges; g is in the totals already."""
        for n, result in found.items():
            if n in self.rows:
                self.rows[n][slice(*part)] = result
        if "x" in found:
            if self.edges.sender_order is None or self.edges.sender_starts is None:
                self.totals["x"][slice(*part)] = found["x"]
            else:
                order, starts = self.edges.sender_order, self.edges.sender_starts
                segment_sum(found["x"], order, starts, rows=part, into=self.totals["x"])

    def results(self) -> dict[str, Tensor]:
        """By letter, in the dtype of x."""
        return self.rows | {n: total.to(self.dtype) for n, total in self.totals.items()}


def _parts(edges: Edges, columns: int, weights: str, inputs: dict[str, Optional]) -> list[tuple[int, int]]:
    """Ranges of edges that have `columns` numbers each; a single one while sizes are traced."""
    num_edges, x = edges.senders.shape[0], inputs["x"]
    assert x is not None
    if not isinstance(num_edges, int) or columns == 0 or num_edges == 0:
        return [(0, num_edges)]
    # Every range passes over the sums of all nodes: it shall not be small beside them.
    most = max(PART_BYTES[weights], 4 * x.numel() * x.element_size())
    number = -(-num_edges * columns * x.element_size() // most)
    size = -(-num_edges // max(number, 1))
    return [(first, min(first + size, num_edges)) for first in range(0, num_edges, size)]
