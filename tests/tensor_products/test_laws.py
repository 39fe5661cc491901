"""Laws between the backends: which sums of Clebsch-Gordan paths each of them is, how exactly, and its symmetry."""

import pytest
import torch
from e3nn import o3
from e3nn.o3 import Irreps
from torch.fx.experimental.proxy_tensor import make_fx

from sciml.tensor_products import BACKENDS, RadialWeights, TensorProductProblem, reachable, tensor_product
from sciml.tensor_products.couplings import coupling_tensor, summed_coefficients, summed_irreps
from sciml.tensor_products.gaunt import gaunt_coefficient, vector_signal_coefficient
from sciml.tensor_products.gaunt_grid import GauntGrid
from sciml.tensor_products.rotations import representation
from sciml.tensor_products.sphere import sphere_grid

COEFFICIENTS = {
    "gaunt_fourier": gaunt_coefficient,
    "gaunt_grid": gaunt_coefficient,
    "vector_signal": vector_signal_coefficient,
    "cp": lambda *_: 1.0,
}
SUMMED = tuple(COEFFICIENTS)
MODES = ("uuu", "uvu", "uvw")
BOTH = "2x0e+3x1o+1x1e+2x2e+2x2o"  # both parities, unequal multiplicities
SINGLE = "2x0e+2x1o+2x2e"


def problem_for(backend, in1=BOTH, in2="2x0e+1x1o+2x1e+1x2e", mode="uuu") -> TensorProductProblem:
    """A problem whose outputs the backend reaches, of the multiplicities 2, 3, 1, … in turn."""
    found = reachable(TensorProductProblem(in1, in2, mode=mode), backend)
    small = [ir for _, ir in found if ir.l <= 3]
    return TensorProductProblem(in1, in2, Irreps([(1 + k % 3, ir) for k, ir in enumerate(small)]), mode=mode)


def inputs_of(tp, batch=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = (tp.problem.irreps_in1.dim, tp.problem.irreps_in2.dim, tp.weight_numel)
    return [torch.randn(batch, n, dtype=torch.float64, generator=generator) for n in sizes]


def natural(lmax, mul=1):
    return Irreps([(mul, (l, (-1) ** l)) for l in range(lmax + 1)])


def tensor_of(tp):
    """The product of one channel each as a tensor (d1, d2, d3)."""
    d1, d2 = tp.problem.irreps_in1.dim, tp.problem.irreps_in2.dim
    x = torch.eye(d1, dtype=torch.float64).repeat_interleave(d2, 0)
    y = torch.eye(d2, dtype=torch.float64).repeat(d1, 1)
    return tp(x, y).unflatten(0, (d1, d2))


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", SUMMED)
@pytest.mark.parametrize(
    ("in1", "in2"),
    [("0e+1o+2e", "0e+1o+2e"), ("0e+1e+2e", "0e+1e"), ("1o+1e+2o", "0e+0o+1e+2e"), ("0o+1e+2o", "0e+1o+2e")],
)
def test_is_the_sum_of_paths_with_its_coefficients(backend, in1, in2):
    problem = problem_for(backend, in1, in2)
    tp = tensor_product(problem, backend).double()
    assert tp.irreps_out == summed_irreps(problem, COEFFICIENTS[backend])
    expected = coupling_tensor(problem, summed_coefficients(problem, COEFFICIENTS[backend]), tp.irreps_out)
    tolerance = 1e-10 if backend == "cp" else 1e-13
    torch.testing.assert_close(tensor_of(tp), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("lmax", [1, 2, 3, 4, 6])
def test_fourier_grid_and_clebsch_gordan_agree(lmax):
    irreps = natural(lmax, 2)
    problem = TensorProductProblem(irreps, irreps, natural(lmax), mode="uuu")
    grid, fourier = (tensor_product(problem, name).double() for name in ("gaunt_grid", "gaunt_fourier"))
    x, y, weights = inputs_of(grid)
    z = grid(x, y, weights)
    torch.testing.assert_close(fourier(x, y, weights), z, rtol=0, atol=1e-12)
    # the same weights on x, by block; then all paths with their coefficients, summed by output irrep
    by_block = Irreps([(1, ir) for _, ir in irreps])
    weighted = torch.cat(
        [x[:, s] * w.repeat_interleave(ir.dim, 1) for (_, ir), s, w in zip(
            irreps, irreps.slices(), weights.split(2, 1), strict=True)], dim=1,
    )  # fmt: skip
    tensor = coupling_tensor(problem, summed_coefficients(problem, gaunt_coefficient), by_block)
    arrays = [torch.cat([v[:, s].unflatten(1, (2, -1)) for s in irreps.slices()], dim=2) for v in (weighted, y, z)]
    torch.testing.assert_close(arrays[2], torch.einsum("ijk,zui,zuj->zuk", tensor, *arrays[:2]), rtol=0, atol=1e-12)


def test_every_odd_triple_to_degree_six_is_a_vector_signal_and_no_even_one():
    for l1 in range(7):
        for l2 in range(7):
            for l3 in range(abs(l1 - l2), min(l1 + l2, 6) + 1):
                odd = (l1 + l2 + l3) % 2
                assert (vector_signal_coefficient(l1, l2, l3) > 0) == bool(odd)
                assert (gaunt_coefficient(l1, l2, l3) > 0) == (not odd)
    irreps = natural(6)
    problem = TensorProductProblem(irreps, irreps, [(1, (l, -((-1) ** l))) for l in range(1, 7)], mode="uuu")
    tp = tensor_product(problem, "vector_signal").double()
    expected = coupling_tensor(problem, summed_coefficients(problem, vector_signal_coefficient), tp.irreps_out)
    torch.testing.assert_close(tensor_of(tp), expected, rtol=0, atol=3e-14)


@pytest.mark.parametrize("degrees", [(1, 1, 1), (2, 2, 2), (2, 3, 3), (2, 2, 4), (4, 4, 4)])
def test_grid_is_minimal(degrees):
    def error(num_heights, num_azimuths):
        heights = sphere_grid(2 * num_heights - 1)
        azimuths = sphere_grid(num_azimuths - 1)
        grid = heights._replace(azimuths=azimuths.azimuths)
        gaunt = torch.einsum("gi,gj,gk,g->ijk", *(grid.harmonics(l) for l in degrees), grid.weights)
        exact = sphere_grid(2 * sum(degrees))
        expected = torch.einsum("gi,gj,gk,g->ijk", *(exact.harmonics(l) for l in degrees), exact.weights)
        return (gaunt - expected).abs().max()

    total = sum(degrees)
    num_heights, num_azimuths = total // 2 + 1, total + 1
    grid = sphere_grid(total)
    assert (len(grid.heights), len(grid.azimuths)) == (num_heights, num_azimuths)
    assert error(num_heights, num_azimuths) < 1e-13
    assert error(num_heights - 1, num_azimuths) > 1e-3
    assert error(num_heights, num_azimuths - 1) > 1e-3


@pytest.mark.parametrize(("in1", "in2"), [(SINGLE, SINGLE), (BOTH, "2x0e+1x1o+2x1e+1x2e")])
def test_separable_transform_equals_the_dense_one(in1, in2):
    problem = problem_for("gaunt_grid", in1, in2)
    dense, separable = (GauntGrid(problem, transform=name).double() for name in ("dense", "separable"))
    x, y, weights = inputs_of(dense)
    torch.testing.assert_close(separable(x, y, weights), dense(x, y, weights), rtol=0, atol=1e-13)
    assert torch.autograd.gradcheck(separable, [v[:1].requires_grad_() for v in (x, y, weights)])
    with pytest.raises(ValueError, match="available: auto, dense, separable"):
        GauntGrid(problem, transform="fast")


def e3nn_product(problem, irreps_out, index_of):
    instructions = [(p.block1, p.block2, index_of(k, p), problem.mode, True) for k, p in enumerate(problem.paths)]
    return o3.TensorProduct(
        problem.irreps_in1, problem.irreps_in2, irreps_out, instructions, shared_weights=False, internal_weights=False
    )


@pytest.fixture
def double():
    """e3nn builds its coefficients in the default dtype; compare in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("way", ["dense", "sparse"])
@pytest.mark.parametrize("mode", MODES)
def test_clebsch_gordan_equals_e3nn_in_all_modes(mode, way, double):
    from sciml.tensor_products.clebsch_gordan import ClebschGordan

    # e3nn's uuu needs equal multiplicities of the two inputs of a path
    in1, in2 = ("3x0e+3x1o+3x1e", "3x0e+3x1o") if mode == "uuu" else (BOTH, "2x0e+1x1o+2x1e+1x2e")
    problem = TensorProductProblem(in1, in2, "2x0e+3x1o+1x1e+2x2e", mode=mode)
    tp = ClebschGordan(problem, way=way)
    order = [ir for _, ir in tp.irreps_out]
    reference = e3nn_product(
        problem, tp.irreps_out, (lambda _, p: order.index(p.irrep_out)) if mode == "uvw" else (lambda k, _: k)
    )
    x, y, weights = inputs_of(tp)
    assert tp.weight_numel == reference.weight_numel
    torch.testing.assert_close(tp(x, y, weights), reference(x, y, weights), rtol=1e-12, atol=1e-12)
    ones = torch.ones_like(weights)
    torch.testing.assert_close(tp(x, y), reference(x, y, ones), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", MODES)
def test_output_has_unit_variance(backend, mode):
    problem = problem_for(backend, "8x0e+8x1o+8x1e", "4x0e+4x1o+4x1e", mode=mode)
    tp = tensor_product(problem, backend).double()
    x, y, weights = inputs_of(tp, batch=8000 if mode != "uvw" else 2000)
    z = tp(x, y, weights)
    for block in tp.irreps_out.slices():
        assert z[:, block].square().mean().item() == pytest.approx(1, abs=0.2)


# --- weights, modes, layouts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", MODES)
def test_no_weights_are_ones_and_shared_weights_are_equal_ones(backend, mode):
    tp = tensor_product(problem_for(backend, mode=mode), backend).double()
    x, y, weights = inputs_of(tp)
    torch.testing.assert_close(tp(x, y), tp(x, y, torch.ones_like(weights)), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(tp(x, y, weights[0]), tp(x, y, weights[:1].expand(4, -1)), rtol=1e-12, atol=1e-12)
    assert tp(x, y).shape == (4, tp.irreps_out.dim)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", MODES)
def test_trilinear(backend, mode):
    tp = tensor_product(problem_for(backend, mode=mode), backend).double()
    first, second = inputs_of(tp), inputs_of(tp, seed=1)
    for k in range(3):
        total, other = list(first), list(first)
        total[k], other[k] = 2 * first[k] - second[k], second[k]
        torch.testing.assert_close(tp(*total), 2 * tp(*first) - tp(*other), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("backend", SUMMED)
def test_full_mode_contains_the_others(backend):
    """Uvw with weights on the diagonal is uuu, up to the normalisation by the number of channels."""
    uuu = problem_for(backend, SINGLE, "2x0e+2x1o", mode="uuu")
    out = Irreps([(2, ir) for _, ir in uuu.irreps_out])
    uvw = TensorProductProblem(SINGLE, "2x0e+2x1o", out, mode="uvw")
    a, b = tensor_product(uuu, backend).double(), tensor_product(uvw, backend).double()
    x, y, w = inputs_of(a)
    blocks = a.weight_numel // 2
    diagonal = torch.zeros(4, blocks, 2, 2, 2, dtype=torch.float64)
    for u in range(2):
        diagonal[:, :, u, u, u] = w.unflatten(1, (blocks, 2))[:, :, u]
    torch.testing.assert_close(b(x, y, diagonal.flatten(1)) * 2, a(x, y, w), rtol=1e-12, atol=1e-12)


def transpose(features, irreps):
    """From mul_ir to ir_mul."""
    parts = [features[:, s].unflatten(1, (mul, -1)) for s, (mul, _) in zip(irreps.slices(), irreps, strict=True)]
    return torch.cat([part.transpose(1, 2).flatten(1) for part in parts], dim=1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("in1", [SINGLE, BOTH])
def test_layouts_hold_the_same_numbers(backend, mode, in1):
    problem = problem_for(backend, in1, mode=mode)
    mul_ir, ir_mul = (tensor_product(problem, backend, layout=layout).double() for layout in ("mul_ir", "ir_mul"))
    x, y, weights = inputs_of(mul_ir)
    z = ir_mul(transpose(x, problem.irreps_in1), transpose(y, problem.irreps_in2), weights)
    torch.testing.assert_close(z, transpose(mul_ir(x, y, weights), mul_ir.irreps_out), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", MODES)
def test_convolution_is_gather_product_scatter(backend, mode):
    tp = tensor_product(problem_for(backend, mode=mode), backend).double()
    senders, receivers = torch.tensor([1, 2, 0, 0, 1]), torch.tensor([0, 0, 1, 2, 2])
    x, _, _ = inputs_of(tp)
    _, y, _ = inputs_of(tp, batch=5)
    weights = RadialWeights(torch.rand(5, 3).double(), torch.randn(3, tp.weight_numel).double())
    z = tp.convolve(x, y, weights, tp.prepare(senders, receivers, 4))
    expected = z.new_zeros(z.shape).index_add(0, receivers, tp(x[senders], y, weights.dense()))
    torch.testing.assert_close(z, expected, rtol=1e-12, atol=1e-12)
    assert (z[3] == 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_empty_batches_and_graphs(backend):
    tp = tensor_product(problem_for(backend), backend).double()
    x, y, weights = inputs_of(tp, batch=0)
    assert tp(x, y, weights).shape == (0, tp.irreps_out.dim)
    none = torch.zeros(0, dtype=torch.int64)
    assert (tp.convolve(inputs_of(tp)[0], y, None, tp.prepare(none, none, 4)) == 0).all()


@pytest.mark.parametrize("backend", SUMMED)
def test_splitting_a_large_batch_changes_nothing(backend):
    problem = TensorProductProblem("64x0e+64x1e+64x2e", "64x0e+64x1e+64x2e", mode="uuu")
    problem = TensorProductProblem("64x0e+64x1e+64x2e", "64x0e+64x1e+64x2e", reachable(problem, backend), mode="uuu")
    tp = tensor_product(problem, backend).double()
    x, y, weights = inputs_of(tp, batch=600)
    assert tp._samples_at_once(tp.arrays1.pack(x), tp.arrays2.pack(y), weights) < 600
    at_once = tp(x.clone().requires_grad_(), y, weights)
    torch.testing.assert_close(tp(x, y, weights), at_once, rtol=1e-12, atol=1e-12)


# --- symmetry and derivatives -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", MODES)
def test_equivariant_under_rotations_and_inversion(backend, mode):
    tp = tensor_product(problem_for(backend, mode=mode), backend).double()
    x, y, weights = inputs_of(tp)
    rotation = -o3.rand_matrix(dtype=torch.float64)
    d1, d2, d3 = (
        representation(irreps, rotation) for irreps in (tp.problem.irreps_in1, tp.problem.irreps_in2, tp.irreps_out)
    )
    torch.testing.assert_close(
        tp(x @ d1.T, y @ d2.T, weights), tp(x, y, weights) @ d3.T, rtol=0, atol=1e-10 if backend != "cp" else 1e-8
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", MODES)
def test_gradients_of_first_and_second_order(backend, mode):
    tp = tensor_product(problem_for(backend, "2x0e+1x1o", "1x0e+2x1o", mode=mode), backend).double()
    inputs = [value.requires_grad_() for value in inputs_of(tp, batch=2)]
    assert torch.autograd.gradcheck(tp, inputs)
    assert torch.autograd.gradgradcheck(tp, inputs)


@pytest.mark.parametrize("backend", BACKENDS)
def test_float64_is_exact_after_a_visit_to_float32(backend):
    problem = problem_for(backend)
    straight, visited = (tensor_product(problem, backend).double() for _ in range(2))
    x, y, weights = inputs_of(straight)
    assert torch.equal(visited.float().double()(x, y, weights), straight(x, y, weights))


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_compiles_into_one_graph_forward_and_backward(backend):
    tp = tensor_product(problem_for(backend, SINGLE, SINGLE, mode="uvu"), backend).double()
    inputs = [value.requires_grad_() for value in inputs_of(tp)]
    compiled = torch.compile(tp, fullgraph=True)
    z, expected = compiled(*inputs), tp(*inputs)
    torch.testing.assert_close(z, expected, rtol=1e-10, atol=1e-10)
    for a, b in zip(
        torch.autograd.grad(z.square().sum(), inputs), torch.autograd.grad(expected.square().sum(), inputs), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["clebsch_gordan", "gaunt_grid", "cp"])
def test_compiles_for_training_on_forces_if_they_are_traced_inside(backend):
    tp = tensor_product(problem_for(backend, "2x0e+2x1o", "0e+1o", mode="uvu"), backend).double()
    inputs = [value.requires_grad_() for value in inputs_of(tp)]

    def forces(*values):
        return torch.autograd.grad(tp(*values).square().sum(), values, create_graph=True)

    def second(function):
        return torch.autograd.grad(sum(g.square().sum() for g in function(*inputs)), inputs)

    compiled = torch.compile(make_fx(forces)(*inputs), fullgraph=True)
    for a, b in zip(second(compiled), second(forces), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


# --- bad input --------------------------------------------------------------------------------------------------------


def test_what_a_backend_cannot_reach_is_named_with_backends_that_can():
    with pytest.raises(
        ValueError, match=r"gaunt_grid cannot reach 1e .*'gaunt_grid'\) gives, 1x0e, or use clebsch_gordan or cp"
    ):
        tensor_product(TensorProductProblem("1o", "1o", "0e+1e"), "gaunt_grid")
    with pytest.raises(ValueError, match=r"vector_signal cannot reach 0e .* even; .*or use clebsch_gordan or gaunt"):
        tensor_product(TensorProductProblem("1o", "1o", "0e"), "vector_signal")


@pytest.mark.parametrize("rank", [0, -3, 2.5, "full", True])
def test_impossible_ranks(rank):
    with pytest.raises(ValueError, match="rank"):
        tensor_product(TensorProductProblem("0e+1e", "0e+1e", mode="uuu"), "cp", rank=rank)


def test_only_cp_has_a_rank():
    with pytest.raises(ValueError, match=r"got rank=7 for the backend gaunt_grid; only cp has a rank"):
        tensor_product(TensorProductProblem("0e+1o", "0e+1o", "0e", mode="uuu"), "gaunt_grid", rank=7)


@pytest.mark.parametrize("backend", BACKENDS)
def test_inputs_that_do_not_fit(backend):
    tp = tensor_product(problem_for(backend), backend)
    x, y, weights = (value.float() for value in inputs_of(tp))
    for bad, message in [
        ((x[:, 1:], y, weights), r"got x of shape \(4, 33\); expected \(samples, 34\) for "),
        (
            (x, y, weights[:, 1:]),
            rf"got weights of shape .*; expected \(samples, {tp.weight_numel}\), or \({tp.weight_numel},\)",
        ),
        ((x, y[:3], weights), "expected 4 samples"),
        ((x, y, weights[:3]), "expected 4 samples"),
        ((x.long(), y, weights), "got x of torch.int64; expected floating-point numbers"),
        ((x, y.double(), weights), r"got y of torch.float64, .* product.to\(torch.float64\)"),
        ((x, y.to("meta"), weights), "got y on meta, but the product is on cpu"),
        ((x[0], y, weights), r"expected \(samples, 34\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            tp(*bad)
