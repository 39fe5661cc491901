"""The kernels of z = C [(Aᵀ x) ⊙ (Bᵀ y)] and of powers compute what torch does, to every order of derivative."""

import copy
import pickle

import pytest
import torch
from e3nn.o3 import Irreps

from sciml.kernels.orbits import orbit_factor
from sciml.tensor_products import ManyBodyPower, TensorProductProblem, reachable, tensor_product
from sciml.tensor_products.sphere import reflected_grid

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BACKENDS = ["gaunt_grid", "vector_signal", "cp"]
SENDERS, RECEIVERS, NUM_NODES = [0, 2, 2, 2, 2], [0, 0, 0, 0, 2], 4  # nodes with 4, 1 and no neighbours


def problem(backend, mode="uuu", irreps1="3x0e+3x1o", irreps2=None):
    irreps2 = irreps2 or ("3x0e+3x1o" if mode == "uuu" else "0e+1o")
    full = TensorProductProblem(irreps1, irreps2, mode=mode)
    wanted = Irreps([(1, ir) for _, ir in reachable(full, backend) if ir.l <= (1 if backend == "cp" else 2)])
    return TensorProductProblem(irreps1, irreps2, wanted, mode=mode)


def pair(given, backend, layout="mul_ir", **options):
    return [
        tensor_product(given, backend, implementation=name, layout=layout, **options).to(DEVICE, torch.float64)
        for name in ("triton", "torch")
    ]


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, dtype=torch.float64, generator=generator).to(DEVICE)


def derivatives(function, inputs):
    """The value, and its derivatives of first and second order along random directions."""
    inputs = [t if t.requires_grad else t.detach().requires_grad_() for t in inputs]
    value = function(*inputs)
    cotangent = random(*value.shape, seed=1).requires_grad_()
    first = torch.autograd.grad(value, inputs, cotangent, create_graph=True)
    tangents = [random(*t.shape, seed=2 + k) for k, t in enumerate(first)]
    second = torch.autograd.grad(first, [*inputs, cotangent], tangents, create_graph=True, materialize_grads=True)
    return [value, *first, *second]


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.fixture
def poisoned(monkeypatch):
    """Memory that kernels are given has NaN in every element that they do not write."""
    new_empty = torch.Tensor.new_empty

    def poisoned(*args, **options):
        memory = new_empty(*args, **options)
        return memory.fill_(torch.nan) if memory.is_floating_point() else memory

    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("weighted", "layout"), [("none", "mul_ir"), ("shared", "ir_mul"), ("each", "mul_ir"), ("each", "ir_mul")]
)
def test_product_and_its_derivatives(backend, layout, weighted, poisoned):
    given = problem(backend)
    kernel, reference = pair(given, backend, layout)
    inputs = [random(4, given.irreps_in1.dim), random(4, given.irreps_in2.dim)]
    if weighted != "none":
        inputs.append(random(*([4] if weighted == "each" else []), kernel.weight_numel))
    assert_same(derivatives(kernel, inputs), derivatives(reference, inputs))


@pytest.mark.parametrize(
    ("backend", "layout"),
    [("gaunt_grid", "mul_ir"), ("gaunt_grid", "ir_mul"), ("vector_signal", "ir_mul"), ("cp", "mul_ir")],
)
def test_convolution_and_its_derivatives(backend, layout, poisoned):
    given = problem(backend, "uvu")
    kernel, reference = pair(given, backend, layout)
    senders, receivers = torch.tensor(SENDERS, device=DEVICE), torch.tensor(RECEIVERS, device=DEVICE)
    inputs = [
        random(NUM_NODES, given.irreps_in1.dim),
        random(len(SENDERS), given.irreps_in2.dim),
        random(len(SENDERS), kernel.weight_numel),
    ]
    found, again, expected = (
        derivatives(lambda *args, tp=tp: tp.convolve(*args, tp.prepare(senders, receivers, NUM_NODES)), inputs)
        for tp in (kernel, kernel, reference)
    )
    assert_same(found, expected)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))  # bit by bit


@pytest.mark.parametrize("weighted", ["none", "shared"])
def test_convolution_without_weights_of_its_edges(weighted, poisoned):
    given = problem("gaunt_grid", "uvu")
    kernel, reference = pair(given, "gaunt_grid")
    senders, receivers = torch.tensor(SENDERS, device=DEVICE), torch.tensor(RECEIVERS, device=DEVICE)
    inputs = [random(NUM_NODES, given.irreps_in1.dim), random(len(SENDERS), given.irreps_in2.dim)]
    weights = random(kernel.weight_numel) if weighted == "shared" else None
    cotangent = random(NUM_NODES, kernel.irreps_out.dim)
    inputs = [t.requires_grad_() for t in (*inputs, weights) if t is not None]
    found, expected = (
        torch.autograd.grad(
            tp.convolve(*inputs[:2], weights, tp.prepare(senders, receivers, NUM_NODES)), inputs, cotangent
        )
        for tp in (kernel, reference)
    )
    assert_same(found, expected)


@pytest.mark.parametrize("irreps1", ["3x0e+1x1o", "2x1o+1x1e"])
@pytest.mark.parametrize(("mode", "layout"), [("uuu", "mul_ir"), ("uvu", "ir_mul")])
@pytest.mark.parametrize("backend", ["gaunt_grid", "cp"])
def test_unequal_multiplicities_and_both_parities(backend, mode, irreps1, layout, poisoned):
    given = problem(backend, mode, irreps1, "2x0e+4x1o" if mode == "uuu" else "0e+1o")
    kernel, reference = pair(given, backend, layout)
    inputs = [random(3, given.irreps_in1.dim), random(3, given.irreps_in2.dim), random(3, kernel.weight_numel)]
    assert_same(derivatives(kernel, inputs), derivatives(reference, inputs))


@pytest.mark.parametrize("batch", [0, 1, 17])
@pytest.mark.parametrize("channels", [8, 130])
@pytest.mark.parametrize("mode", ["uuu", "uvu"])
def test_sizes_that_are_no_multiples_of_the_tile(mode, channels, batch, poisoned):
    batch = min(batch, 3) if channels > 128 else batch
    given = problem("gaunt_grid", mode, f"{channels}x0e", f"{channels}x1o" if mode == "uuu" else "1o")
    kernel, reference = pair(given, "gaunt_grid", "ir_mul")
    inputs = [random(batch, given.irreps_in1.dim), random(batch, given.irreps_in2.dim), random(kernel.weight_numel)]
    assert_same(derivatives(kernel, inputs), derivatives(reference, inputs))


def test_graphs_without_edges_or_nodes():
    given = problem("gaunt_grid", "uvu")
    kernel, _ = pair(given, "gaunt_grid")
    none = torch.zeros(0, dtype=torch.int64, device=DEVICE)
    for nodes in (0, 3):
        inputs = [random(nodes, given.irreps_in1.dim), random(0, given.irreps_in2.dim), random(0, kernel.weight_numel)]
        for result in derivatives(lambda *args, n=nodes: kernel.convolve(*args, kernel.prepare(none, none, n)), inputs):
            assert not result.any()


def test_graphs_that_are_not_prepared_for_kernels():
    given = problem("cp", "uvu")
    kernel, reference = pair(given, "cp")
    senders, receivers = torch.tensor(SENDERS, device=DEVICE), torch.tensor(RECEIVERS, device=DEVICE)
    x, y = random(NUM_NODES, given.irreps_in1.dim), random(len(SENDERS), given.irreps_in2.dim)
    graph = reference.prepare(senders, receivers, NUM_NODES)
    assert_same([kernel.convolve(x, y, None, graph)], [reference.convolve(x, y, None, graph)])
    with pytest.raises(ValueError, match="9 nodes and a graph of 4"):
        kernel.convolve(random(9, given.irreps_in1.dim), y, None, graph)


def test_inputs_that_are_not_contiguous():
    given = problem("gaunt_grid")
    kernel, reference = pair(given, "gaunt_grid")
    d1, d2 = given.irreps_in1.dim, given.irreps_in2.dim
    for x, y in (
        (random(4, 2 * d1)[:, :d1], random(d2, 4).T),
        (random(4, 2 * d1)[:, ::2], random(1, d2).expand(4, d2)),
    ):
        assert_same(derivatives(kernel, [x, y]), derivatives(reference, [x, y]))


def test_large_degrees_go_plane_by_plane():
    natural = "+".join(f"1x{l}{'eo'[l % 2]}" for l in range(7))
    given = TensorProductProblem.elementwise(natural, natural, natural)
    kernel, reference = pair(given, "gaunt_grid")
    assert kernel._kernel_form.by_planes
    x, y = random(2, given.irreps_in1.dim), random(2, given.irreps_in2.dim)
    assert_same([kernel(x, y)], [reference(x, y)])


def test_results_that_need_many_registers_have_kernels_of_their_own(monkeypatch):
    monkeypatch.setattr("sciml.kernels.bilinear._MOST_HELD", 0)
    given = problem("gaunt_grid")
    kernel, reference = pair(given, "gaunt_grid")
    inputs = [random(2, given.irreps_in1.dim), random(2, given.irreps_in2.dim), random(2, kernel.weight_numel)]
    assert_same(derivatives(kernel, inputs), derivatives(reference, inputs))


def test_third_derivatives():
    given = problem("gaunt_grid", irreps1="1o", irreps2="1o")
    kernel, reference = pair(given, "gaunt_grid")
    inputs = [random(2, 3).requires_grad_(), random(2, 3).requires_grad_(), random(1).requires_grad_()]

    def third(tp):
        *_, by_x, by_y, by_weights, _ = derivatives(tp, inputs)
        return torch.autograd.grad(by_x.square().sum() + by_y.square().sum() + by_weights.square().sum(), inputs)

    assert_same(third(kernel), third(reference))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_precision_is_that_of_the_inputs_and_sums_are_float32(dtype):
    given = problem("gaunt_grid", irreps1="4x0e+4x1o+4x2e+4x3o", irreps2="4x0e+4x1o+4x2e+4x3o")
    kernel, reference = pair(given, "gaunt_grid")
    x, y = random(8, given.irreps_in1.dim).to(dtype), random(8, given.irreps_in2.dim).to(dtype)
    expected = reference(x.double(), y.double())
    found = kernel.to(dtype)(x, y)
    assert found.dtype == dtype
    assert (found - expected).norm() < {torch.float32: 3e-7, torch.bfloat16: 5e-3}[dtype] * expected.norm()


def test_copies_and_pickles_compute_the_same():
    given = problem("cp")
    kernel, _ = pair(given, "cp")
    x, y = random(2, given.irreps_in1.dim), random(2, given.irreps_in2.dim)
    for other in (copy.deepcopy(kernel), pickle.loads(pickle.dumps(kernel)), kernel.float().double()):
        assert torch.equal(other(x, y), kernel(x, y))


def test_what_kernels_do_not_do_is_said_and_left_to_torch(monkeypatch):
    several = TensorProductProblem("2x0e+2x1o", "2x0e+2x1o", "0e+1o", mode="uvu")
    for given, message in ((several, "one channel"), (problem("gaunt_grid"), "up to 100 lines")):
        with pytest.raises(ValueError, match=message):
            tensor_product(given, "gaunt_grid", implementation="triton")
        assert tensor_product(given, "gaunt_grid").implementation == "torch"
        monkeypatch.setattr("sciml.tensor_products.bilinear.MOST_LINES", 100)


@pytest.mark.parametrize(
    ("exponent", "irreps", "layout"),
    [
        (1, "5x0e+5x1o", "mul_ir"),
        (2, "2x0e+2x1o+2x1e", "ir_mul"),
        (3, "3x0e+3x1o", "ir_mul"),
        (3, "3x0e+3x1o", "mul_ir"),
    ],
)
def test_powers_and_their_derivatives(exponent, irreps, layout, poisoned):
    kernel, reference = (
        ManyBodyPower(irreps, "1o", exponent=exponent, layout=layout, implementation=name).to(DEVICE, torch.float64)
        for name in ("triton", "torch")
    )
    assert (kernel.implementation, reference.implementation) == ("triton", "torch")
    inputs = [random(3, kernel.irreps_in.dim), random(3, kernel.weight_numel)]
    assert_same(derivatives(kernel, inputs), derivatives(reference, inputs))
    assert_same(derivatives(kernel, inputs[:1]), derivatives(reference, inputs[:1]))


def test_powers_have_kernels_on_the_grid_only():
    with pytest.raises(ValueError, match="'grid'"):
        ManyBodyPower("1o", "0e", exponent=2, transform="fourier", implementation="triton")
    with pytest.raises(ValueError, match="got the implementation"):
        ManyBodyPower("1o", "0e", exponent=2, implementation="cuda")


@pytest.mark.parametrize("degree", [1, 4, 7])
def test_reflected_grids_integrate_exactly_and_know_their_orbits(degree):
    grid, places = reflected_grid(degree)
    harmonics = grid.harmonics(degree)
    integrals = grid.weights @ harmonics
    expected = torch.zeros_like(integrals)
    expected[0] = (4 * torch.pi) ** 0.5
    torch.testing.assert_close(integrals, expected, rtol=1e-12, atol=1e-12)
    assert places.flatten().sort().values.tolist() == list(range(len(harmonics)))
    points = grid.points[places]  # (8, orbits, 3)
    for g in range(8):
        signs = torch.tensor([1 - 2 * (g >> 1 & 1), 1 - 2 * (g & 1), 1 - 2 * (g >> 2 & 1)])
        torch.testing.assert_close(points[g], points[0] * signs)
    ordered = harmonics[places.flatten()].T.numpy()
    orbit_factor(ordered, num_terms=1, orbit_size=8)
    with pytest.raises(ValueError, match="no orbits"):
        orbit_factor(ordered + 1.0, num_terms=1, orbit_size=8)
