"""The harness behind `sciml bench`: times, peak memory and floors, written as JSON with versions and hardware."""

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sciml.environment import describe_environment
from sciml.files import atomic_write

Task = Callable[[], object]

_MIN_REPEATS, _MAX_REPEATS = 5, 1000
_FLUSH_BYTES = 2**28  # more than the last-level cache of any GPU that is sold, so that no input is read from it
_FLUSHES_AHEAD = 32  # a few milliseconds
_COPY_BYTES = {"cpu": 2**27, "cuda": 2**29}
_MATRIX_SIZE = {"cpu": 1024, "cuda": 8192}


@dataclass
class Result:
    """What was measured of one contender in one case, or why nothing was.

    Attributes:
        contender: the name of what was timed.
        case: what it was given: sizes, dtype and the like.
        seconds: median time of each task.
        floor_seconds: the least time that the hardware allows for each task, see `floor`.
        peak_bytes: memory of each task beyond its inputs; None where the device does not count it.
        figures: other numbers, such as errors.
        failure: why there are no times.
    """

    contender: str
    case: dict[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)
    floor_seconds: dict[str, float] = field(default_factory=dict)
    peak_bytes: dict[str, int | None] = field(default_factory=dict)
    figures: dict[str, float | None] = field(default_factory=dict)
    failure: str | None = None


def time_median(
    task: Task, *, device: str | torch.device = "cpu", budget: float = 0.5, launched_ahead: bool = False
) -> float:
    """Median seconds of `task`, repeated at least 5 times and for about `budget` seconds after a warm-up.

    On CUDA each run lies between two events, and the L2 cache is overwritten before it.

    Args:
        task: what to time; it may return anything.
        device: where it runs.
        budget: seconds to spend.
        launched_ahead: on CUDA, whether to keep the device busy until all launches of the run are in its queue, so
            that the time is the device's alone.

    >>> time_median(lambda: sum(range(100)), budget=0.01) > 0
    True
    """
    device = torch.device(device)
    return _time_cuda(task, device, budget, launched_ahead) if device.type == "cuda" else _time_cpu(task, budget)


def _time_cpu(task: Task, budget: float) -> float:
    _seconds(task)  # the first call allocates and compiles
    first = _seconds(task)
    return statistics.median(first if i == 0 else _seconds(task) for i in range(_repeats(first, budget)))


def _seconds(task: Task) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def _time_cuda(task: Task, device: torch.device, budget: float, launched_ahead: bool) -> float:
    with torch.cuda.device(device):
        task()
        torch.cuda.synchronize()
        start_time = time.perf_counter()
        task()
        torch.cuda.synchronize()
        repeats = _repeats(time.perf_counter() - start_time, budget)
        for _ in range(min(repeats, 20)):  # clocks rise under load
            task()
        flushed = torch.empty(_FLUSH_BYTES, dtype=torch.int8, device=device)
        pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
        for start, end in pairs:
            for _ in range(_FLUSHES_AHEAD if launched_ahead else 1):
                flushed.zero_()
            start.record()
            task()
            end.record()
        torch.cuda.synchronize()
        return statistics.median(start.elapsed_time(end) for start, end in pairs) / 1e3


def _repeats(seconds: float, budget: float) -> int:
    return min(max(int(budget / max(seconds, 1e-9)), _MIN_REPEATS), _MAX_REPEATS)


def peak_memory(task: Task, device: str | torch.device) -> int | None:
    """Bytes that one run of `task` holds at most beyond what was there before; None on a CPU, which does not count."""
    device = torch.device(device)
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    task()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


class Limits(NamedTuple):
    """What a device does at best, measured.

    Attributes:
        bandwidth: bytes per second of a copy, read and written ones counted.
        flops: floating-point operations per second of a matrix product.
    """

    bandwidth: float
    flops: float


@cache
def device_limits(device: str, dtype: torch.dtype) -> Limits:
    """Measure the limits of a device, once per process. Products of float32 are those that torch is set to compute."""
    kind = torch.device(device).type
    source = torch.ones(_COPY_BYTES[kind], dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    copy = time_median(lambda: target.copy_(source), device=device)
    size = _MATRIX_SIZE[kind]
    matrix = torch.rand(size, size, dtype=dtype, device=device)  # constants would take less power, and run faster
    out = torch.empty_like(matrix)
    product = time_median(lambda: torch.mm(matrix, matrix, out=out), device=device)
    return Limits(bandwidth=2 * source.numel() / copy, flops=2 * size**3 / product)


def floor(num_bytes: float, num_flops: float, limits: Limits) -> float:
    """Least seconds for a task: max(bytes / bandwidth, FLOPs / peak).

    >>> floor(1e9, 1e9, Limits(bandwidth=1e9, flops=1e12))
    1.0
    """
    return max(num_bytes / limits.bandwidth, num_flops / limits.flops)


def first_line(error: Exception) -> str:
    """An error in one line, for a table."""
    return f"{type(error).__name__}: {error}".strip().splitlines()[0][:200]


def check_names(given: Sequence[str], options: Sequence[str]) -> None:
    """Check names of things to measure.

    Raises:
        ValueError: for those that are not among the options, which it lists.
    """
    if unknown := sorted(set(given) - set(options)):
        raise ValueError(f"got {', '.join(unknown)}; available: {', '.join(options)}")


def write_report(path: str | Path, results: Sequence[Result], settings: Mapping[str, Any]) -> None:
    """Write results as JSON, with what was asked for, versions and hardware."""
    report = {"settings": dict(settings), "results": [asdict(result) for result in results], **describe_environment()}
    text = json.dumps(report, indent=2, allow_nan=False) + "\n"
    atomic_write(Path(path), lambda temporary: temporary.write_text(text, encoding="utf-8"))
