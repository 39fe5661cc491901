"""Memory in bytes: how much there is, how much is free, how much an evaluation takes at its peak."""

import ctypes
import re
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sciml import benchmark

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


class InsufficientMemoryError(MemoryError, ValueError):
    """An evaluation needs more memory than there is; found before it starts where that is possible."""


def as_bytes(amount: str | float) -> int:
    """Number of bytes of "4GB", "512 MiB" or a number.

    Raises:
        ValueError: if it is none of these or not positive.

    >>> as_bytes("1.5 GB"), as_bytes("2KiB"), as_bytes(100)
    (1500000000, 2048, 100)
    """
    found = re.fullmatch(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z]*)\s*", str(amount))
    try:
        size = float(found[1]) * _UNITS[found[2].upper()] if found else 0.0
    except (KeyError, ValueError):
        size = 0.0
    if not 1 <= size < 2**63:
        raise ValueError(f"got the amount of memory {amount!r}; expected bytes, or a text such as '4GB' or '512MiB'")
    return int(size)


def as_text(size: float) -> str:
    """Bytes for people.

    >>> as_text(3.21e9)
    '3.21 GB'
    """
    for unit in ("TB", "GB", "MB", "kB"):
        if size >= _UNITS[unit.upper()]:
            return f"{size / _UNITS[unit.upper()]:.3g} {unit}" if size < 1e15 else f"{size / 1e12:.0f} TB"
    return f"{size:.0f} B"


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be used on the device, None if the system does not tell.

    On CUDA what torch has reserved and not given out counts as free; on the CPU, what the operating system could give
    without swapping, or a container's limit leaves.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type != "cpu":
        return None
    amounts = [_available(Path("/proc/meminfo")), _left_to_container(Path("/sys/fs/cgroup"))]
    return min((amount for amount in amounts if amount is not None), default=None)


def _available(path: Path) -> int | None:
    found = re.search(r"^MemAvailable:\s*(\d+) kB", path.read_text(), re.MULTILINE) if path.exists() else None
    return int(found[1]) * 1024 if found else None


def _left_to_container(folder: Path) -> int | None:
    """What the control group of this process may still use (versions 2 and 1), its file cache counted as free."""
    for limit, used, prefix in (
        ("memory.max", "memory.current", ""),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/"),
    ):
        try:
            total, taken = (folder / limit).read_text().strip(), int((folder / used).read_text())
            cache = re.search(r"^inactive_file (\d+)", (folder / f"{prefix}memory.stat").read_text(), re.MULTILINE)
        except (OSError, ValueError):
            continue
        if total.isdecimal():
            return max(0, int(total) - taken + (int(cache[1]) if cache else 0))
    return None


def give_back(device: torch.device) -> None:
    """Return freed memory of the CPU to the system, which the C library otherwise keeps in pieces of the wrong sizes.

    Without it, chunks one after the other made the process grow by 2.2 times the peak of their tensors. It does nothing
    where the C library is not glibc; on CUDA torch's allocator has the memory.
    """
    if device.type == "cpu" and sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def peak_memory(run: Callable[[], object], device: torch.device) -> int:
    """Bytes of tensors that `run` makes, at the moment when they are most, beyond what was there before.

    On CUDA this resets torch's peak statistics of the device. On the CPU every storage that an operation returns is
    counted from its making to its end, which is within 2 % of what torch's allocator hands out (measured on Facet, TDN
    and EScAIP); the process grows by up to 1.7 times as much, because freed memory comes in the wrong sizes.
    """
    on_gpu = benchmark.peak_memory(run, device) if device.type == "cuda" else None
    if on_gpu is not None:
        return on_gpu
    with _StorageCounter() as counter:
        run()
    return counter.peak


class _StorageCounter(TorchDispatchMode):
    """Counts the bytes of the storages that operations make, and that are still there."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.total = self.peak = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        # Storages of arguments were there before, and come back from views and operations in place.
        given = tree_leaves((args, kwargs))
        known = {leaf.untyped_storage()._cdata for leaf in given if isinstance(leaf, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                storage = leaf.untyped_storage()
                key = storage._cdata
                if key not in known and key not in self.sizes:
                    self.sizes[key] = storage.nbytes()
                    self.total += self.sizes[key]
                    self.peak = max(self.peak, self.total)
                    weakref.finalize(storage, self._forget, key)
        return result

    def _forget(self, key: int) -> None:
        self.total -= self.sizes.pop(key, 0)
