"""What processes tell each other: initial weights, sums and counts of a batch, gradients, and that all are done."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
import torch.distributed
from lightning_fabric import Fabric
from torch import Tensor, nn

from sciml.training.losses import Sums


@contextmanager
def leaving_together(fabric: Fabric) -> Iterator[None]:
    """Wait for all processes at the end of the block, then close their connections.

    An interpreter that exits with a process group still open may abort ("terminate called without an active
    exception"), because the group's threads are running when they are destroyed.
    """
    try:
        yield
        fabric.barrier()
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def total(tensor: Tensor, fabric: Fabric) -> Tensor:
    """Sum of a tensor over all processes."""
    return cast(Tensor, fabric.all_reduce(tensor, reduce_op="sum"))


def share_weights(model: nn.Module, fabric: Fabric) -> None:
    """Give every process the weights and buffers of the first one."""
    if fabric.world_size > 1:
        state = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
        model.load_state_dict(fabric.broadcast(state))


def sum_over_processes(sums: Sums, fabric: Fabric) -> Sums:
    """Add the sums of all processes; the result is detached."""
    return Sums(*total(torch.stack(sums).detach(), fabric))


def sum_gradients(buffers: list[Tensor], fabric: Fabric) -> None:
    """Add the gradients of all processes, in place.

    DistributedDataParallel is not used: it averages over processes instead of weighting by atoms, waits for a backward
    pass of processes whose share is empty, and its hooks also see the inner backward pass that gives the forces. One
    sum of one flat buffer after the backward pass has none of these traps.
    """
    if fabric.world_size > 1:
        for buffer in buffers:
            buffer.copy_(total(buffer, fabric))
