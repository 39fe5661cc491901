"""Time and memory of neighbourhood attention in training on forces, against attention in plain torch.

One step is what a loss on forces needs: forward, gradients by all inputs with a graph, and gradients of the sum of
their squares; the directions are normalised vectors, by which the gradients are. Every contender first passes a gate
against the definition in float64. Run as

    python -m sciml.nn.attention_benchmark

On an H100 (torch 2.11, Triton 3.6), 4096 atoms of 48 slots and 8 heads of 64 channels in float32, with kernels of an
earlier version, whose derivatives took 12.3 and 24.1 ms (now 8.7 and 21.6):

                        forward              step
    torch               9.98 ms   3.0 GB     72.6 ms   10.7 GB
    torch+harmonics     22.9 ms   12.4 GB    173 ms    18.0 GB
    triton              2.13 ms   0.4 GB     62.5 ms   4.9 GB

The arrays of queries, keys, values and their like that a step has to hold at once are 4.4 GB of it. Splitting float32
numbers for tensor cores, and the registers, bound the kernels: with single products in TF32 the derivatives take 2.3
and 11.6 ms, and in bfloat16 2.1 and 8.7 ms.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from sciml.benchmark import Result, check_names, device_limits, first_line, floor, peak_memory, time_median
from sciml.nn.neighbourhood_attention import neighbourhood_attention
from sciml.nn.spherical_harmonics import SphericalHarmonics

Attention = Callable[..., Tensor]
Forces = Callable[..., list[Tensor]]

GROUPS = (20, 10, 4, 10, 20)  # EScAIP's, arXiv:2410.24169
TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 5e-2}
_NAMES = ("out", "dq", "dk", "dv", "du", "dn", "ddq", "ddk", "ddv", "ddu", "ddn")

# Arrays of (atoms, slots, heads, channels) that a pass reads or writes at least, and its products of two matrices of
# slots × slots × channels if nothing is computed twice. A step has the forward, two backwards and the double backward.
_ARRAYS = {"forward": 4, "backward": 7, "double_backward": 11}
_PRODUCTS = {"forward": 2, "backward": 5, "double_backward": 12}


def run_attention_benchmark(
    *,
    atoms: int = 4096,
    slots: int = 48,
    heads: int = 8,
    groups: Sequence[int] = GROUPS,
    dtype: str = "float32",
    device: str = "cuda",
    contenders: Sequence[str] | None = None,
    gate_atoms: int = 64,
    budget: float = 0.5,
    on_result: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Time the forward pass and a training step of each contender.

    Args:
        atoms: number of neighbourhoods.
        slots: K, of which the last eighth is padding for every third atom.
        heads: number of heads.
        groups: channels of each degree.
        dtype: of queries, keys and values.
        device: where it runs.
        contenders: keys of `CONTENDERS`; by default all.
        gate_atoms: atoms on which results are compared with the definition in float64.
        budget: seconds to spend on each time.
        on_result: called with each result.

    Returns:
        Results with the figures "error_…" of each array of a step, relative to its norm, and of all but the first
        contender "speedup" and "memory_ratio": the first one's step time and step memory by theirs. A contender that
        fails the gate or runs out of memory has a `failure` and no times.

    Raises:
        ValueError: for unknown contenders.
    """
    names = list(CONTENDERS) if contenders is None else list(contenders)
    check_names(names, list(CONTENDERS))
    case = {"atoms": atoms, "slots": slots, "heads": heads, "groups": list(groups), "dtype": dtype, "device": device}
    few = make_inputs(gate_atoms, slots, heads, groups, getattr(torch, dtype), device)
    exact = _step(_forces(_named("torch")(groups)), [x.detach().double().requires_grad_() for x in few])
    arrays = make_inputs(atoms, slots, heads, groups, getattr(torch, dtype), device)
    results: list[Result] = []
    for name in names:
        result = Result(name, case)
        try:
            attention, compiled = CONTENDERS[name][0](groups), CONTENDERS[name][1]
            _gate(result, _step(_forces(attention, few if compiled else None), few), exact, TOLERANCES[few[0].dtype])
            _measure(result, attention, _forces(attention, arrays if compiled else None), arrays, budget)
        except Exception as error:
            result.failure = first_line(error)
        results.append(result)
        if len(results) > 1:
            _compare(result, results[0])
        if on_result is not None:
            on_result(result)
    return results


def make_inputs(
    atoms: int, slots: int, heads: int, groups: Sequence[int], dtype: torch.dtype, device: str, *, seed: int = 0
) -> list[Tensor]:
    """Random q, k, v, mask and vectors that want gradients; the last two in float32 at least."""
    generator = torch.Generator(device).manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    mask = -normal(atoms, slots).square()
    mask[:, 0] = 0
    mask[::3, slots - slots // 8 :] = -torch.inf
    vectors = normal(atoms, slots, 3)
    vectors[:, 0] = 0
    small = torch.promote_types(dtype, torch.float32)
    tensors = [normal(atoms, slots, heads, sum(groups)).to(dtype) for _ in range(3)]
    return [x.requires_grad_() for x in (*tensors, mask.to(small), vectors.to(small))]


# --- contenders -------------------------------------------------------------------------------------------------------


def _named(implementation: str) -> Callable[[Sequence[int]], Attention]:
    def build(groups: Sequence[int]) -> Attention:
        return lambda *x: neighbourhood_attention(*x, groups=groups, implementation=implementation)

    return build


def _harmonics(groups: Sequence[int]) -> Attention:
    """As EScAIP has it: queries and keys times spherical harmonics, and torch's attention, of which only "math" can."""
    module = SphericalHarmonics(len(groups) - 1)

    def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, directions: Tensor) -> Tensor:
        harmonics = module.to(directions)(directions.flatten(0, 1)).unflatten(
            0, mask.shape
        )  # (atoms, slots, (lmax+1)²)
        harmonics = torch.where(directions.square().sum(-1, keepdim=True) > 0, harmonics, 0)
        wide_q, wide_k = (_widened(x, harmonics, groups).transpose(1, 2) for x in (q, k))
        bias = mask[:, None, None].expand(-1, -1, mask.shape[1], -1).to(q.dtype)
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            out = torch.nn.functional.scaled_dot_product_attention(wide_q, wide_k, v.transpose(1, 2), attn_mask=bias)
        return torch.where((mask > -torch.inf)[:, :, None, None], out.transpose(1, 2), 0)

    return attention


def _widened(x: Tensor, harmonics: Tensor, groups: Sequence[int]) -> Tensor:
    """(atoms, slots, heads, Σ (2l+1) groups_l)."""
    blocks = []
    for l, x_l in enumerate(x.split(list(groups), -1)):
        y = harmonics[:, :, None, None, l * l : (l + 1) ** 2] / (2 * l + 1) ** 0.5
        blocks.append(x_l if l == 0 else (x_l[..., None] * y.to(x.dtype)).flatten(-2))
    return torch.cat(blocks, -1)


# How to build one, and whether torch compiles its energies and forces, traced into one graph.
CONTENDERS: dict[str, tuple[Callable[[Sequence[int]], Attention], bool]] = {
    "torch": (_named("torch"), False),
    "torch+harmonics": (_harmonics, False),
    "torch+compile": (_named("torch"), True),
    "triton": (_named("triton"), False),
    "triton+compile": (_named("triton"), True),
}


# --- measurements -----------------------------------------------------------------------------------------------------


def _forces(attention: Attention, compile_for: Sequence[Tensor] | None = None) -> Forces:
    """Out and the gradients of Σ out² as a function of the arrays, compiled for arrays of these shapes if given."""

    def forces(*arrays: Tensor) -> list[Tensor]:
        square = arrays[4].square().sum(-1, keepdim=True)
        directions = arrays[4] * torch.where(square > 0, square, 1).rsqrt()
        out = attention(*arrays[:4], directions)
        return [out, *torch.autograd.grad(out.square().sum(), arrays, create_graph=True)]

    if compile_for is None:
        return forces
    torch.compiler.reset()
    traced = make_fx(forces)(*compile_for)
    for node in traced.graph.find_nodes(op="call_function", target=torch.ops.aten.detach.default):
        # Operators that save their result, such as softmax, save it detached, and tracing takes that for a constant.
        node.replace_all_uses_with(node.args[0])
        traced.graph.erase_node(node)
    traced.recompile()
    return torch.compile(traced, fullgraph=True, dynamic=False)


def _step(forces: Forces, arrays: Sequence[Tensor]) -> list[Tensor]:
    """Out, gradients of Σ out², and gradients of the sum of their squares."""
    out, *first = forces(*arrays)
    return [out, *first, *torch.autograd.grad(torch.stack([g.square().sum() for g in first]).sum(), arrays)]


def _gate(result: Result, got: Sequence[Tensor], exact: Sequence[Tensor], tolerance: float) -> None:
    for name, x, y in zip(_NAMES, got, exact, strict=True):
        x, y = x.detach().double(), y.detach()
        error = float((x - y).norm() / y.norm())
        result.figures[f"error_{name}"] = error
        if not error <= tolerance:  # also for NaN
            raise ValueError(f"the relative error of {name} is {error:.1e}, allowed are {tolerance:.0e}")


def _measure(result: Result, attention: Attention, forces: Forces, arrays: Sequence[Tensor], budget: float) -> None:
    q, device = arrays[0], str(arrays[0].device)
    limits = device_limits(device, q.dtype)
    size, flops = q.numel() * q.element_size(), 2 * q.numel() * q.shape[1]
    once = ("forward",)
    step = ("forward", "backward", "double_backward", "backward")

    def forward() -> Tensor:
        with torch.no_grad():
            return attention(*arrays)

    tasks: list[tuple[str, Callable[[], object], tuple[str, ...]]] = [
        ("forward", forward, once),
        ("step", lambda: _step(forces, arrays), step),
    ]
    for name, task, parts in tasks:
        task()
        result.peak_bytes[name] = peak_memory(task, device)
        result.seconds[name] = time_median(task, device=device, budget=budget)
        bytes_moved = sum(_ARRAYS[part] for part in parts) * size
        result.floor_seconds[name] = floor(bytes_moved, sum(_PRODUCTS[part] for part in parts) * flops, limits)


def _compare(result: Result, first: Result) -> None:
    if result.failure is None and first.failure is None:
        result.figures["speedup"] = first.seconds["step"] / result.seconds["step"]
        theirs, ours = first.peak_bytes["step"], result.peak_bytes["step"]
        if theirs is not None and ours:
            result.figures["memory_ratio"] = theirs / ours


def _line(result: Result) -> str:
    """One line of the table that `python -m` prints."""
    if result.failure is not None:
        return f"{result.contender:16} {result.failure}"
    columns = [f"{result.contender:16}"]
    for name, seconds in result.seconds.items():
        share, peak = result.floor_seconds[name] / seconds, result.peak_bytes[name]
        memory = "" if peak is None else f", {peak / 1e9:.2f} GB"
        columns.append(f"{name} {1e3 * seconds:.2f} ms ({share:.0%} of the floor's speed{memory})")
    worst: Any = max(value for name, value in result.figures.items() if name.startswith("error_") and value is not None)
    columns.append(f"largest error {worst:.1e}")
    columns += [f"{name} {result.figures[name]:.1f}" for name in ("speedup", "memory_ratio") if name in result.figures]
    return "; ".join(columns)


if __name__ == "__main__":
    if not torch.cuda.is_available():
        sys.exit("this benchmark is for a CUDA device, and torch finds none")
    run_attention_benchmark(on_result=lambda result: print(_line(result), file=sys.stdout, flush=True))  # noqa: T201
