"""Kernels of the channelwise convolution: interpreted on a CPU, for real where there is a GPU."""

import itertools

import pytest
import torch

from sciml.kernels import available, channelwise, channelwise_derivatives, channelwise_operators, launch
from sciml.kernels.channelwise import Edges, edge_pass, node_pass, plan_of
from sciml.kernels.channelwise_couplings import couplings, problem_key
from sciml.kernels.channelwise_form import Pass, Tuning
from sciml.tensor_products import RadialWeights, TensorProductProblem, interface, tensor_product
from sciml.testing import check_backend
from tests.kernels.channelwise_cases import CPU_ONLY, DEVICE, PROBLEM, edges, normal, products, relative


@pytest.fixture
def poisoned(monkeypatch):
    """Memory that a kernel has to write is full of NaN."""
    new_empty = torch.Tensor.new_empty

    def poisoned_empty(tensor, *args, **kwargs):
        empty = new_empty(tensor, *args, **kwargs)
        return empty.fill_(torch.nan) if empty.is_floating_point() else empty

    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned_empty)


# --- the contract -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "problem",
    [
        ("2x0e+2x1o+2x2e", "0e+1o+2e", "0e+1o+1e+2e"),
        ("40x0e+40x1e", "1o", "1o+2o"),  # more channels than a block, and channels that do not fill one
        ("1x3o", "3o", "6e"),
    ],
)
def test_contract_in_float64(problem, poisoned):
    report = check_backend(TensorProductProblem(*problem), dtype=torch.float64, num_edges=9, num_nodes=5)
    assert report.errors["second_gradient"] > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_contract_in_lower_precision(dtype):
    report = check_backend(PROBLEM, dtype=dtype, num_edges=9, num_nodes=5)
    assert report.errors["forward"] > 1e-9


@pytest.mark.parametrize(("dtype", "direct"), [(torch.float32, True), (torch.bfloat16, False)])
def test_numbers_of_two_bytes_are_not_read_as_words(dtype, direct, monkeypatch):
    """Which of the results are in the dtype of sums says nothing about the inputs."""
    launched = []
    monkeypatch.setattr(launch, "interpreted", lambda: False)
    monkeypatch.setattr(channelwise, "launch", lambda *_, **options: launched.append(options["DIRECT"]))
    key = problem_key(PROBLEM)
    c, graph = couplings(key), Edges(*torch.zeros(2, 1, dtype=torch.long), torch.tensor([0, 1]))
    shapes = {"x": c.num_rows1 * 3, "y": c.num_rows2, "w": len(c.paths) * 3, "g": c.num_rows_out * 3}
    inputs = {name: torch.zeros(1, size, dtype=dtype) for name, size in shapes.items()}
    for wants in ("g", "y", "yw", "xyw"):
        (node_pass if wants == "g" else edge_pass)(key, Pass(wants), graph, inputs)
    assert launched == [direct] * 4


def test_contract_sees_a_wrong_coefficient(monkeypatch):
    right = couplings(problem_key(PROBLEM))
    path = right.paths[0]
    i, j, k, value = path.entries[0]
    wrong = path._replace(entries=((i, j, k, value * 1.001), *path.entries[1:]))
    monkeypatch.setattr(channelwise, "couplings", lambda _: right._replace(paths=(wrong, *right.paths[1:])))
    channelwise.plan_of.cache_clear()
    try:
        with pytest.raises(AssertionError, match="the kernels of clebsch_gordan break forward, gradient"):
            check_backend(PROBLEM, num_edges=6, num_nodes=4)
    finally:
        channelwise.plan_of.cache_clear()


# --- derivatives ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dense", "radial", "ones", "shared", "product"])
@pytest.mark.parametrize("layout", ["ir_mul", "mul_ir"])
def test_three_orders_of_derivative_are_those_of_torch(kind, layout, poisoned):
    exact, kernels = products(layout=layout)
    num_nodes, receivers = 4, [0, 0, 1, 1, 1, 3]
    senders, receivers = edges(receivers, num_nodes)
    num_edges, num_weights = len(senders), exact.weight_numel
    x, y = normal(num_edges if kind == "product" else num_nodes, exact.dim1), normal(num_edges, exact.dim2)
    inputs = [x, y]
    inputs += {
        "dense": lambda: [normal(num_edges, num_weights)],
        "product": lambda: [normal(num_edges, num_weights)],
        "shared": lambda: [normal(num_weights)],
        "radial": lambda: [normal(num_edges, 2), normal(2, num_weights)],
        "ones": list,
    }[kind]()
    found = []
    for product in (exact, kernels):
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        x, y, *weights = leaves
        if kind == "product":
            z = product(x, y, *weights)
        else:
            w = RadialWeights(*weights) if kind == "radial" else weights[0] if weights else None
            z = product.convolve(x, y, w, product.prepare(senders, receivers, num_nodes))
        values, energy = [z], z.sin().sum()
        for _ in range(3 if layout == "ir_mul" else 2):
            gradients = torch.autograd.grad(energy, leaves, create_graph=True)
            values += gradients
            energy = sum(gradient.square().sum() / 2 + gradient.sin().sum() for gradient in gradients)
        found.append(values)
    for wanted, got in zip(*found, strict=True):
        assert relative(got, wanted) < 1e-12


@pytest.mark.parametrize("wanted", [subset for n in (1, 2) for subset in itertools.combinations("xyw", n)])
def test_only_what_is_wanted_is_differentiated(wanted, monkeypatch):
    computed = []
    right = channelwise_operators.derivatives
    monkeypatch.setattr(
        channelwise_operators,
        "derivatives",
        lambda key, wants, *rest: computed.append(wants) or right(key, wants, *rest),
    )
    exact, kernels = products()
    senders, receivers = edges([0, 1, 1], 3)
    given = {"x": normal(3, exact.dim1), "y": normal(3, exact.dim2), "w": normal(3, exact.weight_numel)}
    found = []
    for product in (exact, kernels):
        inputs = {name: tensor.clone().requires_grad_(name in wanted) for name, tensor in given.items()}
        leaves = [inputs[name] for name in wanted]
        z = product.convolve(*inputs.values(), product.prepare(senders, receivers, 3))
        first = torch.autograd.grad(z.square().sum(), leaves, create_graph=True)
        found.append([*first, *torch.autograd.grad(first[0].square().sum(), leaves)])
    for got, correct in zip(found[1], found[0], strict=True):
        assert relative(got, correct) < 1e-12
    assert computed[:2] == ["g", "".join(wanted)]
    assert all(set(wants) <= {"g", *wanted} for wants in computed)


@pytest.mark.parametrize(
    "tuning",
    [
        Tuning(32, 1, groups=3),
        Tuning(32, 1, unroll=2),
        Tuning(32, 1, groups=2, unroll=4),
        Tuning(64, 2, hold=True),
        Tuning(32, 1, stages=2),
        Tuning(32, 1, prefetch=True),
        Tuning(32, 1, edges=1),
        Tuning(32, 1, direct=True),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "what", [Pass("g"), Pass("xyw"), Pass("gxyw", "xyw"), Pass("gxyb", "xyb", "radial", 2)], ids=str
)
def test_all_tunings_compute_the_same(what, tuning, poisoned):
    key = problem_key(TensorProductProblem("33x0e+33x1o", "0e+1o", "0e+1o"))
    if tuning.groups > 1 and what.wants != "g":
        with pytest.raises(ValueError, match="all paths add to what an edge stores: groups=1"):
            plan_of(key, what, tuning)
        return
    if tuning.prefetch:
        with pytest.raises(ValueError, match="unroll=1"):
            plan_of(key, what, tuning._replace(unroll=2))
    c, num_nodes = couplings(key), 4
    senders, receivers = edges([0, 0, 0, 1, 3, 3], num_nodes)
    starts = torch.searchsorted(receivers, torch.arange(num_nodes + 1, device=DEVICE))
    numel = len(c.paths) * c.channels
    shapes = {"x": (4, c.num_rows1 * c.channels), "y": (6, c.num_rows2), "w": (6, numel), "b": (6, 2), "m": (2, numel)}
    shapes["g"] = (4, c.num_rows_out * c.channels)
    inputs = {f"{t}{name}": normal(*shape) for name, shape in shapes.items() for t in ("", "t")}
    order = senders.argsort(stable=True)
    graph = Edges(senders, receivers, starts, order, torch.searchsorted(senders[order], starts.new_tensor(range(5))))
    run = node_pass if "g" in what.wants else edge_pass
    wanted, got = (run(key, what, graph, inputs, tuning=t) for t in (Tuning(32, 1), tuning))
    for letter in what.wants:
        torch.testing.assert_close(got[letter], wanted[letter], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [1, 600, 10**6])
@pytest.mark.parametrize("num_basis", [None, 2, 3], ids=["dense", "radial", "many radial functions"])
def test_edges_in_parts(size, num_basis, monkeypatch, poisoned):
    exact, kernels = products()
    senders, receivers = edges([0, 0, 0, 2, 2, 3, 3], 4)
    given = [normal(7, exact.weight_numel)] if num_basis is None else [normal(7, num_basis)]
    given += [] if num_basis is None else [normal(num_basis, exact.weight_numel)]
    inputs = [normal(4, exact.dim1), normal(7, exact.dim2), *given]
    monkeypatch.setattr(channelwise_derivatives, "PART_BYTES", dict.fromkeys(("dense", "radial"), size))
    monkeypatch.setattr(channelwise_derivatives, "MOST_RADIAL_FUNCTIONS", 2)
    monkeypatch.setattr(channelwise, "EDGES_PER_SLICE", 2)
    found = []
    for product in (exact, kernels):
        x, y, *w = leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        w = RadialWeights(*w) if num_basis else w[0]
        z = product.convolve(x, y, w, product.prepare(senders, receivers, 4))
        first = torch.autograd.grad(z.square().sum(), leaves, create_graph=True)
        second = torch.autograd.grad(sum(gradient.square().sum() for gradient in first), leaves)
        found.append([z, *first, *second])
    for wanted, got in zip(*found, strict=True):
        assert relative(got, wanted) < 1e-13


def test_gradients_that_are_not_numbers_break_the_contract(monkeypatch):
    right = channelwise_derivatives.edge_pass
    monkeypatch.setattr(
        channelwise_derivatives, "edge_pass", lambda *a, **k: {n: t * torch.nan for n, t in right(*a, **k).items()}
    )
    with pytest.raises(AssertionError, match="break gradient"):
        check_backend(PROBLEM, num_edges=6, num_nodes=4, tolerances={"repeated": 1.0})


# --- graphs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("receivers", "num_nodes"), [([], 0), ([], 3), ([2], 4), ([0] * 500 + [2], 3), ([1, 1, 1], 2)])
def test_receivers_with_none_one_and_many_neighbours(receivers, num_nodes, poisoned):
    problem = TensorProductProblem("1x0e", "0e+1o", "0e+1o")
    exact, kernels = products(problem)
    senders, receivers = (
        edges(receivers, num_nodes) if num_nodes else (torch.zeros(0, dtype=torch.long).to(DEVICE),) * 2
    )
    x, y = normal(num_nodes, 1), normal(len(senders), 4)
    w = normal(len(senders), exact.weight_numel)
    wanted, got = (
        product.convolve(x, y, w, product.prepare(senders, receivers, num_nodes)) for product in (exact, kernels)
    )
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


def test_inputs_need_not_be_contiguous():
    exact, kernels = products()
    senders, receivers = edges([0, 0, 2], 3)
    x, y = normal(exact.dim1, 3).T, normal(3, 2 * exact.dim2)[:, ::2]
    w = normal(exact.weight_numel, 3).T
    wanted, got = (product.convolve(x, y, w, product.prepare(senders, receivers, 3)) for product in (exact, kernels))
    torch.testing.assert_close(got, wanted)


def test_edges_and_cotangents_need_not_be_contiguous():
    exact, kernels = products()
    edge = torch.tensor([[2, 0], [0, 0], [1, 2]]).to(DEVICE)  # rows of (sender, receiver)
    x, y, w = normal(3, exact.dim1), normal(3, exact.dim2), normal(3, exact.weight_numel)
    found = []
    for product in (exact, kernels):
        leaves = [tensor.clone().requires_grad_() for tensor in (x, y, w)]
        z = product.convolve(*leaves, product.prepare(edge[:, 0], edge[:, 1], 3))
        found.append([z, *torch.autograd.grad(z.sum(), leaves)])
    for wanted, got in zip(*found, strict=True):
        assert relative(got, wanted) < 1e-12


@pytest.mark.parametrize(
    ("senders", "receivers", "message"),
    [
        (torch.tensor([0, 1]), torch.tensor([0]), r"shapes \(2,\) and \(1,\); expected \(edges,\)"),
        (torch.tensor([[0, 1]]), torch.tensor([[0, 1]]), r"shapes \(1, 2\)"),
        (torch.tensor([0, 1], dtype=torch.int32), torch.tensor([0, 1]), r"torch.int32 and torch.int64; .* \.long\(\)"),
    ],
)
def test_edges_of_other_shapes_and_dtypes(senders, receivers, message):
    _, kernels = products()
    with pytest.raises(ValueError, match=message):
        kernels.prepare(senders.to(DEVICE), receivers.to(DEVICE), 3)


@pytest.mark.parametrize(
    ("senders", "receivers"),
    [([0, 1], [1, 0]), ([0, 3], [0, 1]), ([0, -1], [0, 1]), ([0, 1], [0, 3]), ([0, 1], [-1, 1])],
)
def test_edges_that_kernels_cannot_take(senders, receivers):
    _, kernels = products()
    with pytest.raises(ValueError, match=r"receivers do not ascend.*sort the edges once"):
        kernels.prepare(torch.tensor(senders).to(DEVICE), torch.tensor(receivers).to(DEVICE), 3)


def test_graphs_of_another_number_of_nodes():
    _, kernels = products()
    senders, receivers = edges([0, 2], 3)
    graph = kernels.prepare(senders, receivers, 3)
    x, y, w = normal(2, kernels.dim1), normal(2, kernels.dim2), normal(2, kernels.weight_numel)
    with pytest.raises(ValueError, match="got x of 2 nodes and a graph of 3"):
        kernels.convolve(x, y, w, graph)


def test_graphs_of_another_product_are_prepared_on_the_way():
    exact, kernels = products()
    senders, receivers = edges([0, 2], 3)
    x, y = normal(3, exact.dim1), normal(2, exact.dim2)
    graph = exact.prepare(senders, receivers, 3)
    torch.testing.assert_close(kernels.convolve(x, y, None, graph), exact.convolve(x, y, None, graph))


# --- the interface ----------------------------------------------------------------------------------------------------


def test_both_implementations_have_the_same_state():
    exact, kernels = products()
    assert exact.implementation == "torch"
    assert kernels.implementation == "triton"
    assert exact.state_dict() == kernels.state_dict() == {}
    assert exact.weight_numel == kernels.weight_numel


@CPU_ONLY
def test_auto_takes_torch_on_a_cpu_and_says_so_once(caplog):
    interface._log_choice.cache_clear()
    with caplog.at_level("INFO", logger="sciml.tensor_products"):
        assert tensor_product(PROBLEM).implementation == tensor_product(PROBLEM).implementation == "torch"
    assert [record.message for record in caplog.records] == ["ClebschGordan on cpu: computed by torch"]


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (TensorProductProblem("2x0e", "2x0e", mode="uuu"), "its mode is uuu"),
        (TensorProductProblem("2x0e+3x1o", "0e"), "multiplicities of x, 2x0e[+]3x1o, are not equal"),
        (TensorProductProblem("2x0e", "2x0e"), "y, 2x0e, has more than one channel"),
    ],
)
def test_problems_without_kernels_say_why(problem, reason):
    with pytest.raises(ValueError, match=f"has no kernels for this problem: .*{reason}"):
        tensor_product(problem, implementation="triton")
    assert tensor_product(problem).requested == "torch"


@CPU_ONLY
def test_kernels_without_a_gpu_are_refused_by_name(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET")
    with pytest.raises(ValueError, match="needs a CUDA device, and torch finds none; use 'torch' or 'auto'"):
        tensor_product(PROBLEM, implementation="triton")
    monkeypatch.setattr(available, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match="needs the package triton, which is not installed"):
        tensor_product(PROBLEM, implementation="triton")


def test_bad_radial_weights():
    _, kernels = products()
    senders, receivers = edges([0, 1], 3)
    graph = kernels.prepare(senders, receivers, 3)
    x, y = normal(3, kernels.dim1), normal(2, kernels.dim2)
    with pytest.raises(ValueError, match=r"radial weights of shapes \(2, 4\) and \(3, 1\)"):
        kernels.convolve(x, y, RadialWeights(normal(2, 4), normal(3, 1)), graph)
    with pytest.raises(ValueError, match=r"shapes \(2, 0\) and \(0, 15\)"):
        kernels.convolve(x, y, RadialWeights(normal(2, 0), normal(0, kernels.weight_numel)), graph)
    basis = normal(2, 4, dtype=torch.float32)
    with pytest.raises(ValueError, match=r"radial basis of torch\.float32"):
        kernels.convolve(x, y, RadialWeights(basis, normal(4, kernels.weight_numel)), graph)
