"""Launchers of the channelwise ("uvu") Clebsch-Gordan convolution and its derivatives (`channelwise_source`).

Bytes of float32, per edge: the convolution reads 4 P U of dense weights once (P paths, U channels) and little else; its
backward pass reads them, writes as many gradients, and writes and reads the gradients of the senders' features, 8 d1 U.
With radial weights it moves features only. Operations per edge and channel: 2 (n_ik + ...) with n_ik about the number
of non-zero coefficients, three to four times that in the backward pass.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sciml.kernels.channelwise_couplings import Couplings, couplings
from sciml.kernels.channelwise_form import Pass, Tuning
from sciml.kernels.channelwise_source import edge_kernel, matrix_kernel, node_kernel, split_paths
from sciml.kernels.generated import import_source
from sciml.kernels.launch import launch, reads_directly, sum_type

Optional = Tensor | None

# Most slices of edges, and fewest edges of one, whose gradients of the radial matrix are formed side by side. They
# depend on the number of edges alone, so that sums are in the same order on every device.
SLICES, EDGES_PER_SLICE = 256, 16


def tuning_of(couplings: Couplings, what: Pass) -> Tuning:
    """Block, warps and so on, by the problem alone.

    Measured on an H100 for layers of 40 to 71 rows of z, 10 to 17 paths, 64 and 128 channels. The convolution is
    fastest with all the channels of an edge in one program, as its accumulators then fit the registers of half the
    paths; derivatives, which keep more, with one channel a thread.
    """
    num_paths = len(couplings.paths)
    if set(what.wants) <= {"g"} and not what.tangents:
        block = max(32, min(128, 1 << (couplings.channels - 1).bit_length()))
        groups = min(max(2, -(-couplings.num_rows_out // 48)), num_paths)
        ahead = {"unroll": 4} if what.weights == "radial" else {"prefetch": True}
        return Tuning(block, block // 32, groups=groups, direct=True, **ahead)
    if "m" in what.wants:
        return Tuning(32, 1, groups=-(-num_paths // 6), direct=True)
    together = what.weights == "radial" and not what.tangents and num_paths <= 16  # more would not fit the registers
    return Tuning(32, 1, unroll=2 if together else 1, edges=8 if what.tangents else 4, direct=True)


def weights_kind(weights: Optional, matrix: Optional) -> tuple[str, int]:
    """Kind of weights and number of radial functions."""
    if weights is None:
        return "ones", 0
    return ("dense", 0) if matrix is None else ("radial", weights.shape[1])


class Edges(NamedTuple):
    """The index tensors of a graph (`ConvolutionGraph`); without an order every edge is a sender of its own."""

    senders: Tensor
    receivers: Tensor
    receiver_starts: Tensor
    sender_order: Optional = None
    sender_starts: Optional = None


class Plan(NamedTuple):
    """What the launch of a pass needs and is the same for all graphs.

    Attributes:
        couplings: of the problem.
        tuning: block, warps and so on.
        kernel: the compiled function; its source is in a file.
        num_blocks: of channels.
        num_groups: of paths.
        arguments: names of the tensors that the kernel reads, in order.
    """

    couplings: Couplings
    tuning: Tuning
    kernel: Any
    num_blocks: int
    num_groups: int
    arguments: tuple[str, ...]

    @property
    def num_columns_out(self) -> int:
        """Columns of z."""
        return self.couplings.num_rows_out * self.couplings.channels


@lru_cache(maxsize=1024)
def plan_of(key: str, what: Pass, tuning: Tuning | None = None) -> Plan:
    """The plan of a pass, made once, with the tuning of `tuning_of` unless one is given."""
    c = couplings(key)
    tuning = tuning or tuning_of(c, what)
    write = matrix_kernel if "m" in what.wants else node_kernel if "g" in what.wants else edge_kernel
    kernel = import_source("channelwise", write(c, what, tuning)).kernel
    names = ["x", "y", *{"ones": "", "dense": "w", "radial": "bm"}[what.weights]]
    names += ["g"] if set(what.wants) - {"g"} else []
    names += [f"t{letter}" for letter in what.tangents]
    num_groups = len(split_paths(c.paths, tuning.groups))
    return Plan(c, tuning, kernel, -(-c.channels // tuning.block), num_groups, tuple(names))


def node_pass(
    key: str,
    what: Pass,
    edges: Edges,
    inputs: dict[str, Optional],
    *,
    rows: tuple[int, int] | None = None,
    into: Tensor | None = None,
    tuning: Tuning | None = None,
) -> dict[str, Tensor]:
    """Derivatives by g and what else is wanted, by programs of one receiver; see `channelwise_source.node_kernel`.

    Args:
        key: of the problem.
        what: derivatives wanted: g, and any of x, y, w and b.
        edges: the graph.
        inputs: by letter, contiguous: x (nodes, rows1·U), y (edges, rows2), w or b and m, g (nodes, rows_out·U), and
            tangents as "tx", "ty" and so on.
        rows: first and last (exclusive) of the edges, if not all; w and its tangent are of these edges.
        into: g is added to this.
        tuning: if not that of `tuning_of`.

    Returns:
        By letter: g (nodes, rows_out·U); and of the edges x (rows, rows1·U), y (rows, rows2), w (rows, paths·U) and b
        (rows, K).
    """
    plan = plan_of(key, what, tuning)
    first, last = rows or (0, edges.senders.shape[0])
    x, num_nodes = _given(inputs, "x"), edges.receiver_starts.shape[0] - 1
    results = _new_results(plan, what, x, last - first)
    results["g"] = x.new_empty(num_nodes, plan.num_columns_out) if into is None else into
    if last == first and into is None:
        results["g"].zero_()
    elif last > first:
        grid = (num_nodes * plan.num_blocks * plan.num_groups,)
        firsts = (edges.receiver_starts, first, last)
        _launch(plan, grid, firsts, edges, inputs, [results[n] for n in what.wants], ADD=into is not None)
    return _over_blocks(results, x)


def edge_pass(
    key: str,
    what: Pass,
    edges: Edges,
    inputs: dict[str, Optional],
    *,
    rows: tuple[int, int] | None = None,
    tuning: Tuning | None = None,
) -> dict[str, Tensor]:
    """Derivatives that are of an edge, by programs of a few edges; see `channelwise_source.edge_kernel`.

    Args:
        key: of the problem.
        what: derivatives wanted, of x, y, w and b.
        edges: the graph.
        inputs: as in `node_pass`.
        rows: the same.
        tuning: if not that of `tuning_of`.

    Returns:
        As `node_pass`.
    """
    plan = plan_of(key, what, tuning)
    first, last = rows or (0, edges.senders.shape[0])
    x = _given(inputs, "x")
    results = _new_results(plan, what, x, last - first)
    if last > first:
        grid = (-(-(last - first) // plan.tuning.edges) * plan.num_blocks,)
        _launch(plan, grid, (edges.receivers, first, last), edges, inputs, [results[n] for n in what.wants])
    return _over_blocks(results, x)


def matrix_pass(
    key: str, what: Pass, edges: Edges, inputs: dict[str, Optional], *, tuning: Tuning | None = None
) -> dict[str, Tensor]:
    """Gradient of the radial matrix, "m" (K, paths·U).

    Args:
        key: of the problem.
        what: wants "m".
        edges: the graph.
        inputs: as in `node_pass`.
        tuning: if not that of `tuning_of`.
    """
    plan = plan_of(key, what, tuning)
    x, num_edges = _given(inputs, "x"), edges.senders.shape[0]
    num_slices = min(SLICES, max(1, -(-num_edges // EDGES_PER_SLICE)))
    numel = len(plan.couplings.paths) * plan.couplings.channels
    partial = x.new_empty(num_slices, what.num_basis, numel, dtype=torch.promote_types(x.dtype, torch.float32))
    grid = (num_slices, plan.num_blocks, plan.num_groups)
    _launch(plan, grid, (edges.receivers, 0, num_edges, -(-num_edges // num_slices)), edges, inputs, [partial])
    return {"m": partial.sum(dim=0).to(x.dtype)}


def _given(inputs: dict[str, Optional], name: str) -> Tensor:
    tensor = inputs[name]
    assert tensor is not None
    return tensor


def _launch(
    plan: Plan,
    grid: tuple,
    firsts: tuple,
    edges: Edges,
    inputs: dict[str, Optional],
    results: list[Tensor],
    **constants: Any,
) -> None:
    tensors = [_given(inputs, name) for name in plan.arguments]
    if plan.tuning.direct:
        constants["DIRECT"] = reads_directly({tensor.dtype for tensor in tensors})
    launch(
        plan.kernel,
        grid,
        *firsts,
        edges.senders,
        *tensors,
        *results,
        SUM=sum_type(results[0].dtype),
        BLOCK=plan.tuning.block,
        num_warps=plan.tuning.warps,
        **constants,
    )


def _new_results(plan: Plan, what: Pass, x: Tensor, num_edges: int) -> dict[str, Tensor]:
    """What kernels store of edges: y and b by channel block, in the dtype of sums."""
    c, wider = plan.couplings, torch.promote_types(x.dtype, torch.float32)
    shapes = {
        "x": (num_edges, c.num_rows1 * c.channels),
        "y": (plan.num_blocks, num_edges, c.num_rows2),
        "w": (num_edges, len(c.paths) * c.channels),
        "b": (plan.num_blocks, num_edges, what.num_basis),
    }
    return {n: x.new_empty(shapes[n], dtype=wider if n in "yb" else x.dtype) for n in what.wants if n in shapes}


def _over_blocks(results: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    """Gradients of y and b, summed over channel blocks."""
    summed = {n: result[0] if result.shape[0] == 1 else result.sum(dim=0) for n, result in results.items() if n in "yb"}
    return results | {n: result.to(x.dtype) for n, result in summed.items()}
