"""Which block, warps and so on suit a layer: every pass of its convolution, timed for a list of tunings.

`python -m sciml.tensor_products.kernel_tuning [LAYER ...]` compiles in as many processes as there are cores, then times
one kernel after the other. `sciml.kernels.channelwise.tuning_of` holds what came out.
"""

import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sciml.benchmark import check_names, first_line, time_median
from sciml.kernels.channelwise_couplings import couplings, problem_key
from sciml.kernels.channelwise_form import Pass, Tuning
from sciml.tensor_products.kernel_benchmark import LAYERS, NUM_BASIS, KernelCase

PASSES = {
    "forward": Pass("g"),
    "backward": Pass("xyw"),
    "double backward": Pass("gxyw", "xyw"),
    "forward, radial": Pass("g", "", "radial", NUM_BASIS),
    "backward, radial": Pass("xyb", "", "radial", NUM_BASIS),
    "double backward, radial": Pass("gxyb", "xyb", "radial", NUM_BASIS),
    "matrix, radial": Pass("m", "", "radial", NUM_BASIS),
}

CANDIDATES: dict[str, tuple[Tuning, ...]] = {
    "forward": (
        Tuning(128, 4, 1, unroll=2, direct=True),
        Tuning(128, 4, 2, unroll=2),
        Tuning(128, 4, 2, unroll=2, direct=True),
        Tuning(128, 4, 2, prefetch=True, direct=True),
        Tuning(64, 2, 2, unroll=2, direct=True),
        Tuning(32, 1, 2, unroll=2, direct=True),
        Tuning(128, 2, 2, stages=3),
    ),
    "backward": (
        Tuning(32, 1),
        Tuning(32, 1, direct=True),
        Tuning(32, 1, prefetch=True, direct=True),
        Tuning(32, 1, edges=16, direct=True),
        Tuning(32, 1, edges=4, direct=True),
        Tuning(64, 2, direct=True),
    ),
    "double backward": (
        Tuning(32, 1),
        Tuning(32, 1, direct=True),
        Tuning(32, 1, prefetch=True, direct=True),
        Tuning(32, 1, hold=True, direct=True),
    ),
    "forward, radial": (
        Tuning(128, 4, 2, unroll=2),
        Tuning(128, 4, 2, unroll=2, direct=True),
        Tuning(128, 4, 2, unroll=4, direct=True),
        Tuning(128, 4, 4, unroll=4, direct=True),
        Tuning(128, 2, 4, unroll=4),
        Tuning(64, 2, 2, unroll=2, direct=True),
    ),
    "backward, radial": (
        Tuning(32, 1),
        Tuning(32, 1, direct=True),
        Tuning(32, 1, unroll=2, direct=True),
        Tuning(32, 1, edges=16, direct=True),
        Tuning(128, 4, direct=True),
    ),
    "double backward, radial": (Tuning(32, 1, direct=True), Tuning(32, 1, unroll=2, direct=True)),
    "matrix, radial": (
        Tuning(32, 1, 3),
        Tuning(32, 1, 3, direct=True),
        Tuning(32, 1, 2, direct=True),
        Tuning(64, 2, 3, direct=True),
    ),
}


class Timed(NamedTuple):
    """One measurement.

    Attributes:
        layer: a key of `LAYERS`.
        name: a key of `PASSES`.
        tuning: what was tried.
        seconds: median on the device; None if it failed.
        registers: of a thread, and bytes spilled; None in the interpreter.
        failure: why there is no time.
    """

    layer: str
    name: str
    tuning: Tuning
    seconds: float | None = None
    registers: tuple[int, int] | None = None
    failure: str | None = None


def tune(
    layers: Sequence[str], *, device: str = "cuda", scale: float = 1.0, channels: int | None = None, budget: float = 0.1
) -> list[Timed]:
    """Time every candidate of every pass of the layers.

    Args:
        layers: keys of `LAYERS`.
        device: where.
        scale: of nodes and edges.
        channels: if not those of the layer.
        budget: seconds for each.
    """
    cases = [KernelCase(layer, device=device, scale=scale, channels=channels) for layer in layers]
    tasks = [
        (case, name, candidate)
        for case in cases
        for name, candidates in CANDIDATES.items()
        for candidate in candidates
        if candidate.block <= max(LAYERS[case.layer].channels, 32)
    ]
    if device == "cuda":
        workers = max((os.cpu_count() or 2) - 1, 1)
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            list(pool.map(_compile, tasks))
    return [_time(*task, budget) for task in tasks]


def _compile(task: tuple[KernelCase, str, Tuning]) -> None:
    """Fill Triton's cache; what fails here fails again when it is timed."""
    case, name, tuning = task
    _time(KernelCase(case.layer, case.dtype, case.device, 1e-3, case.channels), name, tuning, 0.0)


def _time(case: KernelCase, name: str, tuning: Tuning, budget: float) -> Timed:
    from sciml.kernels.channelwise import Edges, edge_pass, matrix_pass, node_pass, plan_of

    what, key = PASSES[name], problem_key(case.problem)
    senders, receivers, num_nodes = case.graph()
    inputs = _inputs(case, num_nodes, senders.numel())
    starts = torch.searchsorted(receivers, torch.arange(num_nodes + 1, device=case.device))

    graph = Edges(senders, receivers, starts)  # without sums over senders, which are another kernel
    run = matrix_pass if "m" in what.wants else node_pass if "g" in what.wants else edge_pass

    def task() -> dict[str, Tensor]:
        return run(key, what, graph, inputs, tuning=tuning)

    try:
        seconds = time_median(task, device=case.device, budget=budget, launched_ahead=True)
    except Exception as error:
        return Timed(case.layer, name, tuning, failure=first_line(error))
    return Timed(case.layer, name, tuning, seconds, _registers(plan_of(key, what, tuning).kernel))


def _inputs(case: KernelCase, num_nodes: int, num_edges: int) -> dict[str, Tensor | None]:
    c = couplings(problem_key(case.problem))
    numel = len(c.paths) * c.channels
    shapes = {
        "x": (num_nodes, c.num_rows1 * c.channels),
        "y": (num_edges, c.num_rows2),
        "w": (num_edges, numel),
        "g": (num_nodes, c.num_rows_out * c.channels),
        "b": (num_edges, NUM_BASIS),
        "m": (NUM_BASIS, numel),
    }
    generator = torch.Generator(device=case.device).manual_seed(0)
    dtype = getattr(torch, case.dtype)

    def normal(shape: tuple[int, int]) -> Tensor:
        return torch.randn(shape, generator=generator, device=case.device, dtype=dtype)

    return {f"{t}{letter}": normal(shape) for letter, shape in shapes.items() for t in ("", "t")}


def _registers(kernel: Any) -> tuple[int, int] | None:
    """Of the variant that was compiled last; Triton has no public name for it."""
    caches = getattr(kernel, "device_caches", None)
    if not caches:
        return None
    compiled = list(next(iter(caches.values()))[0].values())[-1]
    return compiled.n_regs, compiled.n_spills


def main(layers: list[str]) -> None:
    """Print every pass of the layers, the fastest tuning first."""
    try:
        check_names(layers, list(LAYERS))
    except ValueError as error:
        sys.exit(str(error))
    if not torch.cuda.is_available():
        sys.exit("kernels are tuned on a CUDA device, and torch finds none")
    found = tune(layers or list(LAYERS))
    for layer, name in dict.fromkeys((timed.layer, timed.name) for timed in found):
        sys.stdout.write(f"{layer}: {name}\n")
        of_pass = [timed for timed in found if (timed.layer, timed.name) == (layer, name)]
        for timed in sorted(of_pass, key=lambda timed: timed.seconds or float("inf")):
            time = timed.failure or f"{1e3 * (timed.seconds or 0):8.4f} ms, registers and spills {timed.registers}"
            sys.stdout.write(f"  {time}  {timed.tuning}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
