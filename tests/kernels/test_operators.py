"""Operators of the channelwise kernels under torch's own machinery: traced, transformed, checkpointed, compiled."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sciml.kernels import channelwise_derivatives, launch
from sciml.tensor_products import RadialWeights
from tests.kernels.channelwise_cases import DEVICE, GPU_ONLY, edges, normal, products, relative


class Called(TorchDispatchMode):
    """Names of the operators of torch that this thread calls. (A profiler loses them on a GPU, with torch 2.11.)"""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.name())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["dense", "radial"])
def test_operators_of_torch_compute_the_same(kind, monkeypatch):
    _, kernels = products()
    senders, receivers = edges([0, 1, 1], 3)
    graph = kernels.prepare(senders, receivers, 3)
    shapes = {"dense": [(3, kernels.weight_numel)], "radial": [(3, 2), (2, kernels.weight_numel)]}[kind]
    given = [normal(*shape) for shape in [(3, kernels.dim1), (3, kernels.dim2), *shapes]]
    found = []
    for traced in (False, True):
        monkeypatch.setattr(launch, "traced", lambda traced=traced: traced)
        with Called() as called:
            leaves = [tensor.clone().requires_grad_() for tensor in given]
            x, y, *w = leaves
            z = kernels.convolve(x, y, RadialWeights(*w) if kind == "radial" else w[0], graph)
            values, energy = [z], z.sin().sum()
            for _ in range(3):
                gradients = torch.autograd.grad(energy, leaves, create_graph=True)
                values += gradients
                energy = sum(gradient.sin().sum() for gradient in gradients)
        found.append(values)
        assert traced == any(name.startswith("sciml::channelwise") for name in called.names)
    # To the bit where kernels are interpreted; on a GPU those that are called directly read memory in another order.
    for got, wanted in zip(*found, strict=True):
        assert relative(got, wanted) < 1e-14 if DEVICE.type == "cuda" else torch.equal(got, wanted)


def test_transforms_of_torch():
    exact, kernels = products()
    senders, receivers = edges([0, 1, 1], 3)
    y, w = normal(3, exact.dim2), normal(3, exact.weight_numel)

    def energy_of(product):
        graph = product.prepare(senders, receivers, 3)
        return lambda x: product.convolve(x, y, w, graph).sin().sum()

    def batched(f):
        x = normal(3, exact.dim1).mul(0).add(0.3).requires_grad_()
        (first,) = torch.autograd.grad(f(x), x, create_graph=True)
        directions = torch.eye(4, x.numel(), dtype=x.dtype, device=x.device).view(4, *x.shape)
        return torch.autograd.grad(first, x, directions, is_grads_batched=True)[0]

    x = normal(3, exact.dim1)
    for transform in (
        lambda f: torch.func.grad(f)(x),
        lambda f: torch.func.grad(lambda x: torch.func.grad(f)(x).sin().sum())(x),
        lambda f: torch.func.vmap(f)(torch.stack([x, 2 * x])),
        batched,
    ):
        wanted, got = (transform(energy_of(product)) for product in (exact, kernels))
        assert relative(got, wanted) < 1e-12
    with pytest.raises(NotImplementedError, match="jvp"):  # and not zeros
        torch.func.jvp(energy_of(kernels), (x,), (x,))


def test_checkpointing_to_the_third_order():
    _, kernels = products()
    senders, receivers = edges([0, 1, 1], 3)
    graph = kernels.prepare(senders, receivers, 3)
    given = [normal(3, kernels.dim1), normal(3, kernels.dim2), normal(3, kernels.weight_numel)]

    def energy(*leaves):
        energy = kernels.convolve(*leaves, graph).sin().sum()
        for _ in range(2):
            energy = sum(g.sin().sum() for g in torch.autograd.grad(energy, leaves, create_graph=True))
        return energy

    found = []
    for run in (energy, lambda *leaves: torch.utils.checkpoint.checkpoint(energy, *leaves, use_reentrant=False)):
        leaves = [tensor.clone().requires_grad_() for tensor in given]
        found.append(torch.autograd.grad(run(*leaves), leaves))
    for wanted, got in zip(*found, strict=True):
        assert torch.equal(wanted, got)


def test_autocast_does_not_reach_the_weights_of_kernels(monkeypatch):
    monkeypatch.setattr(channelwise_derivatives, "MOST_RADIAL_FUNCTIONS", 2)
    _, kernels = products(dtype=torch.float32)
    senders, receivers = edges([0, 1, 1], 3)
    graph = kernels.prepare(senders, receivers, 3)
    shapes = [(3, kernels.dim1), (3, kernels.dim2), (3, 3), (3, kernels.weight_numel)]
    leaves = [normal(*shape, dtype=torch.float32).requires_grad_() for shape in shapes]

    def run():
        z = kernels.convolve(*leaves[:2], RadialWeights(*leaves[2:]), graph)
        return [z, *torch.autograd.grad(z.square().sum(), leaves)]

    wanted = run()
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        got = run()
    for a, b in zip(got, wanted, strict=True):
        assert torch.equal(a, b)


# --- compiled ---------------------------------------------------------------------------------------------------------


@GPU_ONLY
@pytest.mark.cuda
def test_torch_compile_sees_through_the_operators():
    _, kernels = products(dtype=torch.float32)
    senders, receivers = edges([0, 0, 1, 2], 3)
    x, y = normal(3, kernels.dim1, dtype=torch.float32), normal(4, kernels.dim2, dtype=torch.float32)
    w = normal(4, kernels.weight_numel, dtype=torch.float32)
    graph = kernels.prepare(senders, receivers, 3)

    def energy(x, y, w):
        return kernels.convolve(x, y, w, graph).square().sum()

    leaves = [tensor.requires_grad_() for tensor in (x, y, w)]
    wanted = torch.autograd.grad(energy(*leaves), leaves)
    got = torch.autograd.grad(torch.compile(energy, fullgraph=True)(*leaves), leaves)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b)


@GPU_ONLY
@pytest.mark.cuda
def test_other_sizes_of_graphs_compile_nothing():
    _, kernels = products(dtype=torch.float32)
    compiled = []
    for num_nodes, num_edges in ((16, 64), (1, 1), (17, 33), (32, 128)):
        senders, receivers = (torch.randint(num_nodes, (num_edges,), device=DEVICE).sort().values for _ in range(2))
        x, y = (normal(n, d, dtype=torch.float32) for n, d in ((num_nodes, kernels.dim1), (num_edges, kernels.dim2)))
        w = [normal(num_edges, 3, dtype=torch.float32), normal(3, kernels.weight_numel, dtype=torch.float32)]
        leaves = [tensor.requires_grad_() for tensor in (x, y, *w)]
        z = kernels.convolve(x, y, RadialWeights(*w), kernels.prepare(senders, receivers, num_nodes))
        torch.autograd.grad(z.sum(), leaves)
        compiled.append(sum(len(cache[0]) for k in all_kernels() for cache in k.device_caches.values()))
    assert len(set(compiled)) == 1


def all_kernels():
    import gc

    import triton

    return [k for k in gc.get_objects() if type(k) is triton.runtime.JITFunction and k.__module__.startswith("sciml_")]
