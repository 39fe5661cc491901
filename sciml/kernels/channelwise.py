"""Launchers of the channelwise ("uvu") Clebsch-Gordan convolution and its derivatives (`channelwise_source`).

Bytes of float32, per edge: the convolution reads 4 P U of dense weights once (P paths, U channels) and little else; its
backward pass reads them, writes as many gradients, and writes and reads the gradients of the senders' features, 8 d1 U.
With radial weights it moves features only. Operations per edge and channel: 2 (n_ik + ...) with n_ik about the number
of non-zero coefficients, three to four times that in the backward pass.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
import triton.language as tl
from torch import Tensor

from sciml.kernels.channelwise_couplings import Couplings, couplings
from sciml.kernels.channelwise_form import Pass, Tuning
from sciml.kernels.channelwise_source import matrix_kernel, node_kernel, split_paths
from sciml.kernels.generated import import_source
from sciml.kernels.launch import launch
from sciml.kernels.segment_sum import segment_sum

Optional = Tensor | None

# Most slices of edges, and fewest edges of one, whose gradients of the radial matrix are formed side by side. They
# depend on the number of edges alone, so that sums are in the same order on every device.
SLICES, EDGES_PER_SLICE = 256, 16


def tuning_of(couplings: Couplings, what: Pass) -> Tuning:
    """Block, warps and so on, by the problem alone.

    Measured on an H100 for layers of 40 to 71 rows of z, 64 and 128 channels. The convolution is fastest with all the
    channels of an edge in one program, as its accumulators then fit the registers of half the paths; derivatives, which
    keep more, with one channel a thread.
    """
    if set(what.wants) <= {"g"} and not what.tangents:
        block = max(32, min(128, 1 << (couplings.channels - 1).bit_length()))
        return Tuning(block, block // 32, groups=-(-couplings.num_rows_out // 48), unroll=2)
    if "m" in what.wants:
        return Tuning(32, 1, groups=-(-len(couplings.paths) // 6))
    return Tuning(32, 1, hold=what.weights == "dense" and not what.tangents)


def weights_kind(weights: Optional, matrix: Optional) -> tuple[str, int]:
    """Kind of weights and number of radial functions."""
    if weights is None:
        return "ones", 0
    return ("dense", 0) if matrix is None else ("radial", weights.shape[1])


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


@lru_cache(maxsize=1024)
def plan_of(key: str, what: Pass, tuning: Tuning | None = None) -> Plan:
    """The plan of a pass, made once, with the tuning of `tuning_of` unless one is given."""
    c = couplings(key)
    tuning = tuning or tuning_of(c, what)
    write = matrix_kernel if "m" in what.wants else node_kernel
    kernel = import_source("channelwise", write(c, what, tuning)).kernel
    names = ["x", "y", *{"ones": "", "dense": "w", "radial": "bm"}[what.weights]]
    names += ["g"] if set(what.wants) - {"g"} else []
    names += [f"t{letter}" for letter in what.tangents]
    num_groups = len(split_paths(c.paths, tuning.groups))
    return Plan(c, tuning, kernel, -(-c.channels // tuning.block), num_groups, tuple(names))


def sum_type(dtype: torch.dtype) -> Any:
    """Triton's type of sums: float64 for float64, else float32."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def node_pass(
    key: str,
    what: Pass,
    graph: tuple[Tensor, Tensor],
    inputs: dict[str, Optional],
    *,
    tuning: Tuning | None = None,
) -> dict[str, Tensor]:
    """Run one kernel over the edges of every receiver; see `channelwise_source.node_kernel`.

    Args:
        key: of the problem.
        what: derivatives wanted, of "gxywb".
        graph: receiver_starts and senders.
        inputs: by letter: x (nodes, rows1·U), y (edges, rows2), w or b and m, g (nodes, rows_out·U), and tangents as
            "tx", "ty" and so on.
        tuning: if not that of `tuning_of`.

    Returns:
        By letter: g (nodes, rows_out·U), x by edge (edges, rows1·U), y (edges, rows2), w (edges, paths·U),
        b (edges, basis functions).
    """
    plan = plan_of(key, what, tuning)
    c, tuning, num_blocks = plan.couplings, plan.tuning, plan.num_blocks
    starts, senders = graph
    x = inputs["x"]
    assert x is not None
    num_nodes, num_edges = starts.shape[0] - 1, senders.shape[0]
    shapes = {
        "g": (num_nodes, c.num_rows_out * c.channels),
        "x": (num_edges, c.num_rows1 * c.channels),
        "y": (num_blocks, num_edges, c.num_rows2),
        "w": (num_edges, len(c.paths) * c.channels),
        "b": (num_blocks, num_edges, what.num_basis),
    }
    wider = torch.float64 if x.dtype == torch.float64 else torch.float32
    results = {letter: x.new_empty(shapes[letter], dtype=wider if letter in "yb" else x.dtype) for letter in what.wants}
    if num_edges == 0:
        for result in results.values():
            result.zero_()
    elif num_nodes:
        launch(
            plan.kernel,
            (num_nodes * num_blocks * plan.num_groups,),
            starts,
            num_edges,
            senders,
            *_arguments(plan, inputs),
            *(results[letter] for letter in what.wants),
            SUM=sum_type(x.dtype),
            BLOCK=tuning.block,
            num_warps=tuning.warps,
        )
    for letter in set("yb") & set(results):
        results[letter] = results[letter].sum(dim=0).to(x.dtype)
    return results


def matrix_pass(
    key: str,
    what: Pass,
    graph: tuple[Tensor, Tensor],
    inputs: dict[str, Optional],
    *,
    tuning: Tuning | None = None,
) -> dict[str, Tensor]:
    """Gradient of the radial matrix, "m" (K, paths·U).

    Args:
        key: of the problem.
        what: wants "m".
        graph: receivers and senders.
        inputs: as in `node_pass`.
        tuning: if not that of `tuning_of`.
    """
    plan = plan_of(key, what, tuning)
    c, tuning = plan.couplings, plan.tuning
    receivers, senders = graph
    x = inputs["x"]
    assert x is not None
    num_edges = senders.shape[0]
    wider = torch.float64 if x.dtype == torch.float64 else torch.float32
    num_slices = min(SLICES, max(1, -(-num_edges // EDGES_PER_SLICE)))
    partial = x.new_empty(num_slices, what.num_basis, len(c.paths) * c.channels, dtype=wider)
    launch(
        plan.kernel,
        (num_slices, plan.num_blocks, plan.num_groups),
        receivers,
        num_edges,
        -(-num_edges // num_slices),
        senders,
        *_arguments(plan, inputs),
        partial,
        SUM=sum_type(x.dtype),
        BLOCK=tuning.block,
        num_warps=tuning.warps,
    )
    return {"m": partial.sum(dim=0).to(x.dtype)}


def _arguments(plan: Plan, inputs: dict[str, Optional]) -> list[Tensor]:
    """What the kernel reads, contiguous."""
    given = [inputs[name] for name in plan.arguments]
    assert all(tensor is not None for tensor in given)
    return [tensor.contiguous() for tensor in given if tensor is not None]


# --- passes that operators are made of --------------------------------------------------------------------------------


class Edges:
    """The index tensors of a graph, as operators pass them on."""

    def __init__(
        self,
        senders: Tensor,
        receivers: Tensor,
        receiver_starts: Tensor,
        sender_order: Optional,
        sender_starts: Optional,
    ) -> None:
        self.senders, self.receivers, self.receiver_starts = senders, receivers, receiver_starts
        self.sender_order, self.sender_starts = sender_order, sender_starts

    def by_sender(self, messages: Tensor) -> Tensor:
        """Add the rows of the edges of each sender; without an order every edge is a sender of its own."""
        if self.sender_order is None or self.sender_starts is None:
            return messages
        return segment_sum(messages, self.sender_order, self.sender_starts)


def derivatives(
    key: str, wants: str, tangents: str, inputs: dict[str, Optional], edges: Edges, kind: tuple[str, int]
) -> dict[str, Tensor]:
    """All derivatives wanted, of "gxyw" or "gxybm", each with the fewest passes."""
    weights, num_basis = kind
    in_nodes = "".join(letter for letter in wants if letter in "gxywb")
    results: dict[str, Tensor] = {}
    if in_nodes:
        what = Pass(in_nodes, tangents, weights, num_basis)
        results |= node_pass(key, what, (edges.receiver_starts, edges.senders), inputs)
        if "x" in results:
            results["x"] = edges.by_sender(results["x"])
    if "m" in wants:
        what = Pass("m", tangents, weights, num_basis)
        results |= matrix_pass(key, what, (edges.receivers, edges.senders), inputs)
    return results
