"""Batches of items that are built once and kept in memory."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch


class BatchSampler(Protocol):
    """Which items form which batch (`sciml.training.batching.GraphBatchSampler` is one).

    It yields the indices of this process's share of each batch, possibly none, and equally often in every process.
    """

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the given epoch, a pure function of the seed and the epoch."""

    def __iter__(self) -> Iterator[list[int]]: ...


class Loader:
    """Joins items into batches on a device.

    Args:
        items: anything indexable; graphs are best built beforehand and kept in memory.
        sampler: which items form which batch.
        collate: joins a list of items into one batch, which has a method `to(device)`.
        device: where batches go.
        describe: one line that tells a user which item an index is; for error messages.
    """

    def __init__(
        self,
        items: Sequence[Any],
        sampler: BatchSampler,
        *,
        collate: Callable[[list[Any]], Any],
        device: torch.device,
        describe: Callable[[int], str] = "item {}".format,
    ) -> None:
        if len(items) == 0:
            raise ValueError("got no items to train on or validate with")
        self.items = items
        self.sampler = sampler
        self.collate = collate
        self.device = device
        self.describe = describe

    def epoch(self, epoch: int) -> list[list[int]]:
        """This process's share of each batch of an epoch, as indices."""
        self.sampler.set_epoch(epoch)
        return [list(indices) for indices in self.sampler]

    def batch(self, indices: Sequence[int]) -> Any:
        """The joined items, on the device."""
        return self.collate([self.items[index] for index in indices]).to(self.device)
