"""Times of channelwise convolutions, by kernels, by torch and by peers, after a gate of correctness.

The problems are layers that are quoted for MACE and NequIP models: node features ⊗ spherical harmonics of the edges,
with weights of each edge, added up at the receivers.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sciml.benchmark import Result, check_names, device_limits, first_line, floor, peak_memory, time_median
from sciml.tensor_products.backends import tensor_product
from sciml.tensor_products.benchmark import PASSES, GateError
from sciml.tensor_products.benchmark_settings import num_nonzeros
from sciml.tensor_products.channels import blocks_of, join_blocks, split_blocks
from sciml.tensor_products.interface import RadialWeights, TensorProduct
from sciml.tensor_products.peers import installed_peers, peer_contender
from sciml.tensor_products.problem import TensorProductProblem

OURS = ("triton", "triton-radial", "torch", "torch-radial")

# Largest error of an array relative to its norm; that of float32 in e3nn is about 2e-7.
TOLERANCES = {torch.float32: 2e-6, torch.float64: 1e-11}
NUM_BASIS = 8

# Convolutions of the size of a forward pass in each of `PASSES`.
_CONVOLUTIONS = {"forward": 1, "backward": 4, "double_backward": 12}


class Layer(NamedTuple):
    """Irreps of x (one channel each), harmonics and outputs; channels, nodes and edges."""

    irreps: str
    harmonics: str
    irreps_out: str
    channels: int
    num_nodes: int
    num_edges: int


LAYERS = {
    "mace-medium": Layer("0e+1o", "0e+1o+2e+3o", "0e+1o+2e+3o", 128, 1000, 50_000),
    "mace-large": Layer("0e+1o+2e", "0e+1o+2e+3o", "0e+1o+2e+3o", 128, 1000, 50_000),
    "nequip-l2": Layer("0e+1o+2e", "0e+1o+2e", "0e+1o+1e+2e+2o", 64, 2000, 60_000),
}


@dataclass(frozen=True)
class KernelCase:
    """One layer in one dtype on one device.

    Attributes:
        layer: a key of `LAYERS`.
        dtype: float32 or float64.
        device: such as cuda.
        scale: of nodes and edges, such as 0.01 for a quick look.
        channels: if not those of the layer.
    """

    layer: str
    dtype: str = "float32"
    device: str = "cuda"
    scale: float = 1.0
    channels: int | None = None

    def __post_init__(self) -> None:
        if self.layer not in LAYERS:
            raise ValueError(f"got the layer {self.layer!r}; available: {', '.join(LAYERS)}")
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"got dtype {self.dtype!r}; available: float32, float64")

    @property
    def problem(self) -> TensorProductProblem:
        """Irreps with channels."""
        layer = LAYERS[self.layer]
        channels = self.channels or layer.channels
        irreps = "+".join(f"{channels}x{ir}" for ir in layer.irreps.split("+"))
        return TensorProductProblem(irreps, layer.harmonics, layer.irreps_out)

    def graph(self, share: float = 1.0) -> tuple[Tensor, Tensor, int]:
        """Random senders, ascending receivers, and the number of nodes."""
        layer = LAYERS[self.layer]
        num_nodes = max(int(layer.num_nodes * self.scale * share), 2)
        num_edges = max(int(layer.num_edges * self.scale * share), 4)
        generator = torch.Generator().manual_seed(0)
        senders, receivers = torch.randint(num_nodes, (2, num_edges), generator=generator)
        return senders.to(self.device), receivers.sort().values.to(self.device), num_nodes


def run_kernel_benchmark(
    cases: Sequence[KernelCase],
    *,
    names: Sequence[str] | None = None,
    passes: Sequence[str] = tuple(PASSES),
    budget: float = 0.3,
    on_result: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Check, then time, convolutions of each case.

    Args:
        cases: layers, dtypes and devices.
        names: of `OURS` and of peers, which gather, multiply and scatter; by default all that are installed.
        passes: keys of `sciml.tensor_products.benchmark.PASSES`.
        budget: seconds for each time.
        on_result: called with each result.

    Returns:
        Results whose figures are the relative error of each pass; on CUDA its seconds without waiting for launches
        ("..._device_seconds"); and the seconds of the first call of forward and backward pass ("cold_start"), which
        compiles what is not in Triton's cache.

    Raises:
        ValueError: for unknown names or passes.
    """
    names = [*OURS, *installed_peers()] if names is None else names
    for given, options in ((names, [*OURS, *installed_peers()]), (passes, PASSES)):
        check_names(given, list(options))
    results = []
    for case in cases:
        for name in names:
            try:
                result = _measure(name, case, passes, budget)
            except Exception as error:
                result = Result(name, dict(case.__dict__), failure=f"failed: {first_line(error)}")
            results.append(result)
            if on_result is not None:
                on_result(result)
    return results


Convolution = Callable[..., Tensor]


def _measure(name: str, case: KernelCase, passes: Sequence[str], budget: float) -> Result:
    dtype = getattr(torch, case.dtype)
    radial = name.endswith("-radial")
    start = time.perf_counter()
    errors = _gate(name, case, passes, dtype)
    cold_start = time.perf_counter() - start
    result = Result(name, dict(case.__dict__), figures={f"{key}_error": value for key, value in errors.items()})
    result.figures["cold_start"] = cold_start
    graph = case.graph()
    convolution = _convolution(name, case, dtype, graph)
    inputs = _inputs(case, graph, radial, dtype)
    limits = device_limits(case.device, dtype)
    itemsize, problem = inputs[0].element_size(), case.problem
    channels = problem.irreps_in1[0].mul
    num_bytes = sum(tensor.numel() for tensor in inputs) * itemsize
    num_flops = 2.0 * num_nonzeros(problem) * channels * graph[0].numel()
    for key in passes:

        def task(run: Callable = PASSES[key]) -> list[Tensor]:
            return run(convolution, inputs)

        size_out = sum(tensor.numel() for tensor in task()) * itemsize
        result.peak_bytes[key] = peak_memory(task, case.device)
        result.seconds[key] = time_median(task, device=case.device, budget=budget)
        if torch.device(case.device).type == "cuda":
            on_device = time_median(task, device=case.device, budget=budget, launched_ahead=True)
            result.figures[f"{key}_device_seconds"] = on_device
        result.floor_seconds[key] = floor(num_bytes + size_out, _CONVOLUTIONS[key] * num_flops, limits)
    return result


def _gate(name: str, case: KernelCase, passes: Sequence[str], dtype: torch.dtype) -> dict[str, float]:
    """Relative error of each pass on a graph of a hundredth of the size."""
    graph = case.graph(share=0.01)
    inputs = _inputs(case, graph, name.endswith("-radial"), dtype)
    convolution = _convolution(name, case, dtype, graph)
    exact = _convolution("torch-radial" if len(inputs) == 4 else "torch", case, torch.float64, graph)
    exact_inputs = tuple(tensor.detach().double().requires_grad_() for tensor in inputs)
    errors: dict[str, float] = {}
    for key in passes:
        pairs = zip(PASSES[key](convolution, inputs), PASSES[key](exact, exact_inputs), strict=True)
        of_arrays = [float((got.double() - wanted).norm() / wanted.norm()) for got, wanted in pairs]
        errors[key] = float(np.max(of_arrays))  # np.max, unlike max, keeps a NaN
        if not errors[key] <= TOLERANCES[dtype]:  # also for NaN
            raise GateError(
                f"{name} is wrong in the {key} pass of {case.layer}: relative error {errors[key]:.1e}, allowed are "
                f"{TOLERANCES[dtype]:.0e}; nothing was timed"
            )
    return errors


def _inputs(case: KernelCase, graph: tuple[Tensor, Tensor, int], radial: bool, dtype: torch.dtype) -> tuple:
    """x, y and weights, or radial basis and matrix; normal."""
    problem, num_edges = case.problem, graph[0].numel()
    numel = len(problem.paths) * problem.irreps_in1[0].mul
    shapes = [(graph[2], problem.irreps_in1.dim), (num_edges, problem.irreps_in2.dim)]
    shapes += [(num_edges, NUM_BASIS), (NUM_BASIS, numel)] if radial else [(num_edges, numel)]
    generator = torch.Generator(device=case.device).manual_seed(1)
    return tuple(
        torch.randn(shape, generator=generator, device=case.device, dtype=dtype).requires_grad_() for shape in shapes
    )


def _convolution(name: str, case: KernelCase, dtype: torch.dtype, graph: tuple[Tensor, Tensor, int]) -> Convolution:
    problem = case.problem
    if name in OURS:
        implementation = name.removesuffix("-radial")
        ours: TensorProduct = tensor_product(problem, layout="ir_mul", implementation=implementation)
        ours = ours.to(case.device, dtype)
        prepared = ours.prepare(*graph)

        def convolve(x: Tensor, y: Tensor, *weights: Tensor) -> Tensor:
            return ours.convolve(x, y, RadialWeights(*weights) if len(weights) == 2 else weights[0], prepared)

        return convolve
    peer = peer_contender(name, problem, dtype=dtype, device=case.device, summed=False, weights="per_sample").product
    senders, receivers, num_nodes = graph
    sizes = blocks_of(problem.irreps_in1)
    sizes_out = tuple((problem.irreps_in1[0].mul, path.irrep_out.dim) for path in problem.paths)
    mul_ir = name != "cuequivariance"

    def gather_and_scatter(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        rows = x.index_select(0, senders)
        if mul_ir:  # the inputs are "ir_mul", and so are the results that are compared
            rows = join_blocks(split_blocks(rows, sizes, "ir_mul"), "mul_ir")
        messages = peer(rows, y, w)
        z = messages.new_zeros(num_nodes, messages.shape[1]).index_add(0, receivers, messages)
        return join_blocks(split_blocks(z, sizes_out, "mul_ir"), "ir_mul") if mul_ir else z

    return gather_and_scatter
