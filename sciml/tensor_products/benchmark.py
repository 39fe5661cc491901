"""Times of the tensor products against what they can express, after a gate of correctness, beside those of peers.

The settings are those of The Price of Freedom (Xie et al., arXiv:2506.13523) without empty ones, see
`benchmark_settings`; unlike there, gradients are timed too, and there are channels, weights and memory.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from e3nn.o3 import Irreps
from torch import Tensor

from sciml.benchmark import Result, check_names, device_limits, first_line, floor, peak_memory, time_median
from sciml.tensor_products.backends import BACKENDS
from sciml.tensor_products.benchmark_settings import (
    SETTINGS,
    Contender,
    Product,
    backend_contender,
    definition,
    setting_problem,
)
from sciml.tensor_products.peers import PEERS, WEIGHTS, installed_peers, peer_contender
from sciml.tensor_products.problem import TensorProductProblem

Inputs = tuple[Tensor, Tensor, Tensor | None]

# Largest error of each pass, relative to the norm of each array. A wrong path or factor is an error of 1e-2 or more.
TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-9}
_GATE_SAMPLES = 4

# Products of the size of a forward in each pass, if nothing is computed twice.
_PRODUCTS = {"forward": 1, "backward": 3, "double_backward": 9}


class GateError(ValueError):
    """A product does not compute what it claims, so that its time means nothing."""


@dataclass(frozen=True)
class Case:
    """Sizes and kinds of one comparison.

    Attributes:
        setting: a key of `SETTINGS`.
        degree: l.
        channels: multiplicity of each irrep.
        batch: number of samples.
        dtype: float32 or float64.
        device: such as cpu or cuda.
        weights: "none", "shared" by the samples, or "per_sample".
        layout: of the products of this package, "mul_ir" or "ir_mul".
    """

    setting: str
    degree: int
    channels: int = 64
    batch: int = 1024
    dtype: str = "float32"
    device: str = "cpu"
    weights: str = "none"
    layout: str = "mul_ir"

    def __post_init__(self) -> None:
        for name, options in (("setting", SETTINGS), ("dtype", ("float32", "float64")), ("weights", WEIGHTS)):
            if getattr(self, name) not in options:
                raise ValueError(f"got {name}={getattr(self, name)!r}; available: {', '.join(options)}")
        if self.batch < 1:
            raise ValueError(f"got batch={self.batch}; at least 1 is needed")

    @property
    def torch_dtype(self) -> torch.dtype:
        """`dtype` as torch has it."""
        return getattr(torch, self.dtype)


# --- passes -----------------------------------------------------------------------------------------------------------


def forward(product: Product, inputs: Inputs) -> list[Tensor]:
    """[z], without a graph for gradients."""
    with torch.no_grad():
        return [product(*inputs)]


def backward(product: Product, inputs: Inputs) -> list[Tensor]:
    """Gradients of Σ z² by x, y and the weights, with the forward pass that they need."""
    return list(torch.autograd.grad(product(*inputs).square().sum(), _given(inputs)))


def double_backward(product: Product, inputs: Inputs) -> list[Tensor]:
    """Gradients of the squared gradients of Σ z², as in training on forces; with all passes that they need."""
    first = torch.autograd.grad(product(*inputs).square().sum(), _given(inputs), create_graph=True)
    return list(torch.autograd.grad(torch.stack([g.square().sum() for g in first]).sum(), _given(inputs)))


PASSES: dict[str, Callable[[Product, Inputs], list[Tensor]]] = {
    "forward": forward,
    "backward": backward,
    "double_backward": double_backward,
}


def _given(inputs: Inputs) -> list[Tensor]:
    return [tensor for tensor in inputs if tensor is not None]


def make_inputs(contender: Contender, case: Case, batch: int, *, seed: int = 0) -> Inputs:
    """Random x, y and weights in the contender's layout, that want gradients."""
    generator = torch.Generator().manual_seed(seed)
    channels = contender.problem.irreps_in1[0].mul
    numel = channels * (max(contender.weight_rows) + 1)
    shapes: list[tuple[int, ...] | None] = [
        (batch, contender.problem.irreps_in1.dim),
        (batch, contender.problem.irreps_in2.dim),
        {"none": None, "shared": (numel,), "per_sample": (batch, numel)}[case.weights],
    ]
    x, y, weights = (
        None
        if shape is None
        else torch.randn(shape, generator=generator, dtype=torch.float64)
        .to(case.device, case.torch_dtype)
        .requires_grad_()
        for shape in shapes
    )
    return x, y, weights  # type: ignore[return-value]


def check(contender: Contender, case: Case, passes: Sequence[str]) -> float:
    """The gate: every pass that will be timed, on a few samples, against the definition in float64.

    Returns:
        The largest error of an array relative to its norm.

    Raises:
        GateError: if it is above `TOLERANCES`, or the shapes are not those of the definition.
    """
    inputs = make_inputs(contender, case, min(case.batch, _GATE_SAMPLES))
    x, y, weights = inputs
    exact = (_float64(x), _float64(y), None if weights is None else _float64(weights))
    reference, tolerance = definition(contender), TOLERANCES[case.torch_dtype]
    worst = 0.0
    for name in passes:
        for got, wanted in zip(
            PASSES[name](contender.product, inputs),
            PASSES[name](reference, exact),
            strict=True,
        ):
            if got.shape != wanted.shape:
                raise GateError(
                    f"{contender.name}, {name}: got the shape {tuple(got.shape)}, not {tuple(wanted.shape)}"
                )
            error = float((got.double() - wanted).norm() / wanted.norm())
            if not error <= tolerance:  # also for NaN
                raise GateError(
                    f"{contender.name} is wrong in the {name} pass of {case.setting}, l={case.degree}: "
                    f"relative error {error:.1e}, allowed are {tolerance:.0e}; nothing was timed"
                )
            worst = max(worst, error)
    return worst


def _float64(tensor: Tensor) -> Tensor:
    return tensor.detach().double().requires_grad_()


# --- measurements -----------------------------------------------------------------------------------------------------


def measure(contender: Contender, case: Case, passes: Sequence[str], *, budget: float = 0.5) -> Result:
    """Pass the gate, then time each pass; see `Result` and `run_benchmark`."""
    error = check(contender, case, passes)
    result = Result(contender.name, case.__dict__ | {"irreps_out": str(contender.problem.irreps_out)})
    inputs = make_inputs(contender, case, case.batch)
    limits = device_limits(case.device, case.torch_dtype)
    size_in = sum(t.numel() for t in _given(inputs)) * inputs[0].element_size()
    size_out = 0
    for name in passes:

        def task(run: Callable[[Product, Inputs], list[Tensor]] = PASSES[name]) -> list[Tensor]:
            return run(contender.product, inputs)

        size_out = sum(t.numel() * t.element_size() for t in task())
        flops = _PRODUCTS[name] * contender.num_flops * case.batch * case.channels
        result.peak_bytes[name] = peak_memory(task, case.device)
        result.seconds[name] = time_median(task, device=case.device, budget=budget)
        result.floor_seconds[name] = floor(size_in + size_out, flops, limits)
    expressivity = _expressivity(contender)
    throughput = {f"{name}_samples_per_second": case.batch / seconds for name, seconds in result.seconds.items()}
    times = {f"{name}_seconds_per_expressivity": seconds / expressivity for name, seconds in result.seconds.items()}
    result.figures = {
        "relative_error": error,
        "expressivity": expressivity,
        **throughput,
        **{f"{name}_per_expressivity": value / expressivity for name, value in throughput.items()},
        **times,
    }
    return result


def _expressivity(contender: Contender) -> int:
    """Dimension of the set of maps of one channel, as in `sciml.tensor_products.expressivity`."""
    problem = contender.problem
    if contender.expressivity_of == "clebsch_gordan":
        # Each path has a weight or an output of its own, and no irrep stands twice in x or y: one dimension a path.
        return len(problem.paths)
    one_channel = (
        Irreps([(1, ir) for _, ir in irreps]) for irreps in (problem.irreps_in1, problem.irreps_in2, problem.irreps_out)
    )
    return _measured_expressivity(TensorProductProblem(*one_channel, mode=problem.mode), contender.expressivity_of)


@cache
def _measured_expressivity(problem: TensorProductProblem, backend: str) -> int:
    from sciml.tensor_products.expressivity import expressivity, measure_couplings

    return expressivity(measure_couplings(problem, backend))[0]


def contenders(
    case: Case, names: Sequence[str], *, compile: bool = False
) -> Iterator[tuple[str, Callable[[], Contender]]]:
    """Names and builders of what takes part: a build may take seconds, or fail.

    Args:
        case: what it is for.
        names: keys of `BACKENDS` or `PEERS`.
        compile: also compiled by torch, as "name+compile".
    """
    for name in names:
        build = _builder(name, case)
        yield name, build
        if compile:
            yield f"{name}+compile", lambda name=name, build=build: _compiled(f"{name}+compile", build())  # type: ignore[misc]


def _builder(name: str, case: Case) -> Callable[[], Contender]:
    def build() -> Contender:
        # Peers are Clebsch-Gordan products; where our setting sums the paths into one irrep, so do they.
        problem = setting_problem(
            case.setting, case.degree, case.channels, name if name in BACKENDS else "clebsch_gordan"
        )
        if name in BACKENDS:
            return backend_contender(name, problem, dtype=case.torch_dtype, device=case.device, layout=case.layout)
        return peer_contender(
            name,
            problem,
            dtype=case.torch_dtype,
            device=case.device,
            summed=case.setting == "uuu",
            weights=case.weights,
        )

    return build


def _compiled(name: str, contender: Contender) -> Contender:
    # Without what was compiled before, which counts towards torch's limit of recompilations.
    torch.compiler.reset()
    return replace(contender, name=name, product=torch.compile(contender.product, fullgraph=True, dynamic=False))


def run_benchmark(
    cases: Sequence[Case],
    *,
    names: Sequence[str] | None = None,
    passes: Sequence[str] = ("forward", "backward", "double_backward"),
    compile: bool = False,
    budget: float = 0.5,
    on_result: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Time every contender in every case.

    A contender that has no such path, is not there or breaks gets a `Result` with its `failure`; but a backend of this
    package that does not pass the gate stops the benchmark.

    Args:
        cases: what to compare.
        names: keys of `BACKENDS` and `PEERS`; by default all backends and the peers that are installed.
        passes: keys of `PASSES`. Compiled products run the forward pass only.
        compile: also time `torch.compile` of each.
        budget: seconds to spend on each time.
        on_result: called with each result.

    Returns:
        Results with the figures "expressivity" (of one channel, see `sciml.tensor_products.audit`), samples per second
        of each pass, the same per expressivity, the largest error of the gate, and where e3nn takes part
        "over_e3nn", the forward time of e3nn by that of the contender.

    Raises:
        GateError: if a backend is wrong.
        ValueError: for unknown names or passes.
    """
    names = [*BACKENDS, *installed_peers()] if names is None else names
    for given, options in ((names, [*BACKENDS, *PEERS]), (passes, PASSES)):
        check_names(given, list(options))
    results: list[Result] = []
    for case in cases:
        of_case: list[Result] = []
        for name, build in contenders(case, names, compile=compile):
            compiled = name.endswith("+compile")
            try:
                result = measure(build(), case, [p for p in passes if p == "forward" or not compiled], budget=budget)
            except Exception as error:
                if isinstance(error, GateError) and name in BACKENDS:
                    raise
                result = Result(name, dict(case.__dict__), failure=f"failed: {first_line(error)}")
            of_case.append(result)
            if on_result is not None:
                on_result(result)
        _compare(of_case)
        results += of_case
    return results


def _compare(results: Sequence[Result]) -> None:
    """Add the ratio of e3nn's forward time."""
    base = next((r.seconds.get("forward") for r in results if r.contender == "e3nn"), None)
    for result in results:
        if base and "forward" in result.seconds:
            result.figures["over_e3nn"] = base / result.seconds["forward"]
