"""`sciml bench`: microbenchmarks beside other libraries, each after a gate of correctness."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from sciml.benchmark import Result, write_report
from sciml.cli.figures import new_figure, save_figure
from sciml.kernels.available import interpreted
from sciml.messages import did_you_mean
from sciml.tensor_products.backends import BACKENDS
from sciml.tensor_products.benchmark import Case, run_benchmark
from sciml.tensor_products.benchmark_settings import SETTINGS
from sciml.tensor_products.kernel_benchmark import LAYERS, OURS, KernelCase, run_kernel_benchmark
from sciml.tensor_products.peers import installed_peers

FIRST_WORD = "what"  # the field that a first word without dashes fills

BENCHMARKS = ("tensor-products", "kernels", "potentials")

_COLUMNS = {"forward": "fwd", "backward": "fwd\n+bwd", "double_backward": "double\nbwd"}


@dataclass
class Config:
    """What to time; `sciml bench tensor-products` is `sciml bench --what tensor-products`.

    Attributes:
        what: tensor-products, kernels (channelwise convolutions of layers, by Triton, torch and peers), or potentials
            (energy, forces and stress of Si and of acetylacetone, and training steps).
        models: of potentials: architectures (facet, lens, tdn, escaip, transip), checkpoint folders, names of shipped
            weights, or peers (mace, sevennet, chgnet); by default all architectures and the peers that are installed.
        atoms: of potentials: sizes of Si.
        layers: of kernels: mace-medium, mace-large or nequip-l2.
        settings: siso (l ⊗ l → l), simo (→ 0…2l), mimo (0…l ⊗ 0…l → 0…2l), mimo_truncated (→ 0…l), uuu (→ 0…l, only
            paths of even l1+l2+l3, summed as in Gaunt products) or uvu (as in a convolution).
        degrees: l of each setting.
        channels: multiplicity of each irrep.
        batch: number of samples.
        backends: of this package or of others (e3nn, cuequivariance, openequivariance, lunaequivariance); by default
            all of this package and the others that are installed.
        passes: forward, backward (gradients of the squared output), double_backward (gradients of squared gradients).
        dtype: float32 or float64.
        device: such as cpu or cuda.
        weights: none, shared by all samples, or per_sample.
        layout: of the products of this package, mul_ir or ir_mul.
        compile: also time the forward pass under torch.compile; of potentials, on a GPU, training steps.
        budget: seconds to spend on each time.
        threads: of torch on a CPU; by default as many as torch takes.
        output: JSON file, by default bench-WHAT.json; the plot of tensor products stands beside it, ending in .png.
        quick: tiny sizes, to see that all runs.
    """

    what: str = "tensor-products"
    models: list[str] | None = None
    atoms: list[int] = field(default_factory=lambda: [64, 512, 4096])
    layers: list[str] = field(default_factory=lambda: list(LAYERS))
    settings: list[str] = field(default_factory=lambda: ["siso", "simo", "mimo", "uuu"])
    degrees: list[int] = field(default_factory=lambda: [1, 2, 3, 4])
    channels: int = 64
    batch: int = 1024
    backends: list[str] | None = None
    passes: list[str] = field(default_factory=lambda: ["forward", "backward", "double_backward"])
    dtype: str = "float32"
    device: str = "cpu"
    weights: str = "none"
    layout: str = "mul_ir"
    compile: bool = False
    budget: float = 0.5
    threads: int | None = None
    output: str | None = None
    quick: bool = False


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run(config: Config) -> None:
    """Check, time, print and write.

    Raises:
        ValueError: for an unknown benchmark, device or name, or if a product of this package is wrong.
    """
    if config.what not in BENCHMARKS:
        hint = did_you_mean(config.what, BENCHMARKS) or "."
        raise ValueError(f"unknown benchmark {config.what!r}{hint} There is {', '.join(BENCHMARKS)}")
    if torch.device(config.device).type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"got the device {config.device}, but torch finds no GPU; use --device cpu")
    if config.what == "kernels" and not config.quick and torch.device(config.device).type == "cpu":
        raise ValueError("layers of this size are for a GPU: --device cuda; or --quick, to see that all runs")
    if config.quick:
        # One thread: where cores are shared, threads that wait for each other take far longer than such work.
        config.degrees, config.channels, config.batch, config.budget, config.threads = config.degrees[:2], 2, 8, 0.0, 1
    output = Path(config.output or f"bench-{config.what}.json")
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)  # a file has no width that the table has to fit
    if config.what != "tensor-products":
        {"kernels": _run_kernels, "potentials": _run_potentials}[config.what](config, console, output)
        return
    names = [*BACKENDS, *installed_peers()] if config.backends is None else config.backends
    cases = [
        Case(setting, degree, config.channels, config.batch, config.dtype, config.device, config.weights, config.layout)
        for setting in config.settings
        for degree in config.degrees
    ]
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with _threads(config.threads), Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("measuring", total=len(cases) * len(names) * (2 if config.compile else 1))
        results = run_benchmark(
            cases,
            names=names,
            passes=config.passes,
            compile=config.compile,
            budget=config.budget,
            on_result=lambda result: progress.update(
                task,
                advance=1,
                description=f"{result.case['setting']} l={result.case['degree']} {result.contender}",
            ),
        )
        write_report(output, results, asdict(config))
    for setting in config.settings:
        of_setting = [result for result in results if result.case["setting"] == setting]
        console.print(table(of_setting, config))
        for result in of_setting:
            if result.failure is not None:
                console.print(
                    f"  l={result.case['degree']} {result.contender} {result.failure}", style="dim", markup=False
                )
    picture = output.with_suffix(".png")
    save_figure(plot(results, config), picture)
    console.print(f"written: {output}, {picture}", highlight=False, soft_wrap=True)


def _run_kernels(config: Config, console: Console, output: Path) -> None:
    scale, channels = (2e-4, 2) if config.quick else (1.0, None)
    cases = [KernelCase(layer, config.dtype, config.device, scale, channels) for layer in config.layers]
    names = config.backends
    if names is None:
        kernels = torch.device(config.device).type == "cuda" or interpreted()
        names = [name for name in OURS if kernels or not name.startswith("triton")] + installed_peers()
    with _threads(config.threads), Progress(console=console, transient=True) as progress:
        task = progress.add_task("measuring", total=len(cases) * len(names))
        results = run_kernel_benchmark(
            cases,
            names=names,
            passes=config.passes,
            budget=config.budget,
            on_result=lambda result: progress.update(
                task, advance=1, description=f"{result.case['layer']} {result.contender}"
            ),
        )
    write_report(output, results, asdict(config))
    console.print(kernel_table(results, config))
    for result in results:
        if result.failure is not None:
            console.print(f"  {result.case['layer']} {result.contender} {result.failure}", style="dim", markup=False)
    console.print(f"written: {output}", highlight=False, soft_wrap=True)


def _run_potentials(config: Config, console: Console, output: Path) -> None:
    from sciml.potentials.speed_benchmark import default_models, run_speed_benchmark

    models = default_models() if config.models is None else config.models
    sizes, arguments = ([8, 64], {"channels": 48}) if config.quick else (config.atoms, {})
    with _threads(config.threads), Progress(console=console, transient=True) as progress:
        task = progress.add_task("measuring", total=(len(sizes) + 1) * len(models))
        results: list[Result] = []
        write_report(output, results, asdict(config))

        def keep(result: Result) -> None:
            results.append(result)
            write_report(output, results, asdict(config))  # what was measured is there if the next one never ends
            case = f"{result.case['structure']} {result.case['atoms']}"
            progress.update(task, advance=1, description=f"{case} {result.contender}")

        run_speed_benchmark(
            models,
            sizes=sizes,
            device=config.device,
            dtype=config.dtype,
            budget=config.budget,
            arguments=arguments,
            compile=config.compile,
            on_result=keep,
        )
    console.print(potential_table(results, config))
    for result in results:
        if result.failure is not None:
            case = f"{result.case['structure']} {result.case['atoms']}"
            console.print(f"  {case} {result.contender}: {result.failure}", style="dim", markup=False)
    console.print(f"written: {output}", highlight=False, soft_wrap=True)


def potential_table(results: Sequence[Result], config: Config) -> Table:
    """Times in ms, peak memory, sizes, and training steps per second of the potentials."""
    kinds = [kind for kind in ("model", "calculator", "recorded") if any(kind in result.seconds for result in results)]
    shown = Table(
        title=f"energy, forces and stress, {config.dtype}, {config.device}",
        caption="Times in ms. model: the evaluation of a graph. calculator: a call after all atoms have moved, with\n"
        "its neighbour list. recorded: the same with compile=True. steps/s: updates from five molecules.",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for name in ("structure", "potential"):
        shown.add_column(name, no_wrap=True)
    rates = {"steps/s": "training_steps_per_second"}
    if any("compiled_steps_per_second" in result.figures for result in results):
        rates["compiled\nsteps/s"] = "compiled_steps_per_second"
    for name in ["weights", "edges", *kinds, "peak\nMB", *rates]:
        shown.add_column(name, justify="right", no_wrap=True)
    previous = None
    for result in results:
        structure = f"{result.case['structure']} {result.case['atoms']}"
        if previous not in (None, structure):
            shown.add_section()
        first, previous = ("" if structure == previous else structure), structure
        if result.failure is not None:
            shown.add_row(first, f"[dim]{result.contender}[/dim]", "[dim]failed[/dim]")
            continue
        peaks = [peak for peak in result.peak_bytes.values() if peak is not None]
        shown.add_row(
            first,
            result.contender,
            *(_number(result.figures.get(name)) for name in ("weights", "edges")),
            *(_number(result.seconds.get(kind), 1e3) for kind in kinds),
            _number(max(peaks, default=None), 1e-6),
            *(_number(result.figures.get(name)) for name in rates.values()),
        )
    return shown


def kernel_table(results: Sequence[Result], config: Config) -> Table:
    """Times and floors in ms, peak memory, errors and first calls of the convolutions."""
    passes = [name for name in _COLUMNS if name in config.passes]
    shown = Table(
        title=f"channelwise convolutions, {config.dtype}, {config.device}",
        caption="Times in ms, over floors (bytes over bandwidth or FLOPs over peak). error: largest, relative to "
        "float64.\nradial: weights formed from 8 radial functions. first: seconds of the first call of all passes.",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for name in ("layer", "product"):
        shown.add_column(name, no_wrap=True)
    for name in [*(_COLUMNS[name] for name in passes), "floors", "peak\nMB", "error", "first\ns"]:
        shown.add_column(name, justify="right", no_wrap=True)
    for result in results:
        if result.failure is not None:
            shown.add_row(result.case["layer"], f"[dim]{result.contender}[/dim]", "[dim]failed[/dim]")
            continue
        peaks = [peak for peak in result.peak_bytes.values() if peak is not None]
        errors = [value or 0.0 for name, value in result.figures.items() if name.endswith("_error")]
        shown.add_row(
            result.case["layer"],
            result.contender,
            *(_number(result.seconds[name], 1e3) for name in passes),
            "/".join(_number(result.floor_seconds[name], 1e3) for name in passes),
            _number(max(peaks, default=None), 1e-6),
            f"{max(errors):.0e}",
            _number(result.figures["cold_start"]),
        )
    return shown


def table(results: Sequence[Result], config: Config) -> Table:
    """One setting: times in ms, the forward floor, what the product can express, and ratios."""
    setting = results[0].case["setting"]
    gpu = torch.device(config.device).type == "cuda"
    passes = [name for name in _COLUMNS if name in config.passes]
    shown = Table(
        title=f"{setting}: {SETTINGS[setting]}\n{config.channels} channels, batch {config.batch}, {config.dtype}, "
        f"{config.device}, weights {config.weights}",
        caption=f"Times in ms; floor, rates and ratios are those of the {passes[0].replace('_', ' ')} pass.\n"
        "floor: bytes over bandwidth or FLOPs over peak. expr.: dimension of the set of maps of one channel.",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for name in ("l", "product"):
        shown.add_column(name, no_wrap=True)
    columns = [_COLUMNS[name] for name in passes]
    columns += ["floor", "expr.", "time\n/expr.", "samples/s\n/expr.", "over\ne3nn"] + (["peak\nMB"] if gpu else [])
    for name in columns:
        shown.add_column(name, justify="right", no_wrap=True)
    previous = None
    for result in results:
        degree = result.case["degree"]
        if previous not in (None, degree):
            shown.add_section()
        first, previous = ("" if degree == previous else str(degree)), degree
        if result.failure is not None:
            shown.add_row(first, f"[dim]{result.contender}[/dim]", "[dim]failed[/dim]")
            continue
        figures, base = result.figures, passes[0]
        cells = [_number(result.seconds.get(name), 1e3) for name in passes]
        cells += [
            _number(result.floor_seconds.get(base), 1e3),
            _number(figures["expressivity"]),
            _number(figures.get(f"{base}_seconds_per_expressivity"), 1e3),
            _number(figures.get(f"{base}_samples_per_second_per_expressivity")),
            _number(figures.get("over_e3nn")),
        ]
        if gpu:
            peaks = [peak for peak in result.peak_bytes.values() if peak is not None]
            cells.append(_number(max(peaks, default=None), 1e-6))
        shown.add_row(first, result.contender, *cells)
    return shown


def _number(value: float | None, scale: float = 1.0) -> str:
    if value is None:
        return "–"
    scaled = value * scale
    return f"{scaled:,.0f}" if scaled >= 1000 else f"{scaled:.3g}"


def plot(results: Sequence[Result], config: Config) -> Figure:
    """Forward time against l, and the same by expressivity, one row a setting."""
    settings = list(dict.fromkeys(config.settings))
    base = next(name for name in _COLUMNS if name in config.passes)
    figure = new_figure(10, 3.6 * len(settings))
    axes = figure.subplots(len(settings), 2, squeeze=False)
    names = list(dict.fromkeys(result.contender for result in results))
    for row, setting in zip(axes, settings, strict=True):
        for axis, by_expressivity in zip(row, (False, True), strict=True):
            for index, name in enumerate(names):
                points = [
                    (
                        r.case["degree"],
                        1e3 * r.seconds[base] / ((r.figures["expressivity"] or 1) if by_expressivity else 1),
                    )
                    for r in results
                    if r.case["setting"] == setting and r.contender == name and base in r.seconds
                ]
                if points:
                    axis.plot(
                        *zip(*sorted(points), strict=True),
                        marker="osD^vPX*"[index % 8],
                        color=f"C{index % 10}",
                        linestyle="-" if name in BACKENDS else "--",
                        label=name,
                    )
            axis.set_yscale("log")
            axis.set_xticks(sorted(set(config.degrees)))
            axis.set_xlabel("l")
            axis.set_ylabel(f"{base.replace('_', ' ')}, ms" + (" / expressivity" if by_expressivity else ""))
            axis.set_title(f"{setting}: {SETTINGS[setting]}", fontsize=9)
            axis.grid(alpha=0.3)
    handles = {label: h for axis in axes.flat for h, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=8)
    return figure
