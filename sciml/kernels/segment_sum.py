"""Sums of rows that lie anywhere, by segments of an index: z_n = Σ_{e in segment n} messages[order[e]]."""

# ruff: noqa: ANN001, ANN201 - Triton reads annotations, and knows none but its own

import triton
import triton.language as tl
from torch import Tensor

from sciml.kernels.launch import launch, sum_type

BLOCK = 256


@triton.jit(do_not_specialize=["first_row", "last_row"])
def segment_sum_kernel(  # type: ignore[no-untyped-def]
    messages,
    order,
    starts,
    z,
    ROW: tl.constexpr,
    first_row,
    last_row,
    ADD: tl.constexpr,
    SUM: tl.constexpr,
    BLOCK: tl.constexpr,
    AT_ONCE: tl.constexpr,
):
    """One program per segment and block of columns, which reads a few rows at a time; always added in the same order.

    Bytes: messages once, z once; no operation but additions.
    """
    node = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < ROW
    step = tl.arange(0, AT_ONCE)
    totals = tl.zeros([AT_ONCE, BLOCK], dtype=SUM)
    first = tl.load(starts + node)
    last = tl.load(starts + node + 1)
    for position in range(first, last, AT_ONCE):
        there = position + step < last
        rows = tl.load(order + position + step, mask=there, other=0)
        here = there & (rows >= first_row) & (rows < last_row)
        pointers = messages + (rows - first_row)[:, None] * ROW + column[None, :]
        totals += tl.load(pointers, mask=here[:, None] & inside[None, :], other=0.0).to(SUM)
    total = tl.sum(totals, axis=0)
    if ADD:
        total += tl.load(z + node * ROW + column, mask=inside, other=0.0).to(SUM)
    tl.store(z + node * ROW + column, total, mask=inside)


def segment_sum(
    messages: Tensor,
    order: Tensor,
    starts: Tensor,
    *,
    rows: tuple[int, int] | None = None,
    into: Tensor | None = None,
) -> Tensor:
    """Add rows, (edges, columns) → (segments, columns), bitwise reproducibly.

    Args:
        messages: (edges, columns), contiguous.
        order: (edges,), int64, rows sorted by segment.
        starts: (segments + 1,), int64.
        rows: first and last (exclusive) of the rows that `messages` holds, if not all.
        into: (segments, columns), contiguous, to add the sums to; if None they are returned alone.
    """
    num_segments, columns = starts.shape[0] - 1, messages.shape[1]
    z = messages.new_empty(num_segments, columns) if into is None else into
    if z.numel():
        launch(
            segment_sum_kernel,
            (num_segments, triton.cdiv(columns, BLOCK)),
            messages,
            order,
            starts,
            z,
            columns,
            *(rows or (0, messages.shape[0])),
            ADD=into is not None,
            SUM=sum_type(messages.dtype),
            BLOCK=BLOCK,
            AT_ONCE=4,
            num_warps=2,
        )
    return z
