"""Sums of rows that lie anywhere, by segments of an index: z_n = Σ_{e in segment n} messages[order[e]]."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from sciml.kernels.launch import launch

BLOCK = 256


@triton.jit
def segment_sum_kernel(
    messages: Any,
    order: Any,
    starts: Any,
    z: Any,
    ROW: tl.constexpr,
    SUM: tl.constexpr,
    BLOCK: tl.constexpr,
    AT_ONCE: tl.constexpr,
) -> None:
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
        mask = there[:, None] & inside[None, :]
        totals += tl.load(messages + rows[:, None] * ROW + column[None, :], mask=mask, other=0.0).to(SUM)
    tl.store(z + node * ROW + column, tl.sum(totals, axis=0), mask=inside)


def segment_sum(messages: Tensor, order: Tensor, starts: Tensor) -> Tensor:
    """Add rows, (edges, columns) → (segments, columns), bitwise reproducibly.

    Args:
        messages: (edges, columns), contiguous.
        order: (edges,), int64, rows sorted by segment.
        starts: (segments + 1,), int64.
    """
    num_segments, columns = starts.shape[0] - 1, messages.shape[1]
    z = messages.new_empty(num_segments, columns)
    if z.numel():
        grid = (num_segments, triton.cdiv(columns, BLOCK))
        launch(
            segment_sum_kernel,
            grid,
            messages,
            order,
            starts,
            z,
            ROW=columns,
            SUM=tl.float64 if messages.dtype == torch.float64 else tl.float32,
            BLOCK=BLOCK,
            AT_ONCE=4,
            num_warps=2,
        )
    return z
