import pytest
import torch
from e3nn import o3

from sciml.tensor_products import RadialWeights, TensorProductProblem, tensor_product
from sciml.tensor_products.clebsch_gordan import ClebschGordan

PROBLEMS = [
    TensorProductProblem("4x0e", "0e+1o+2e", "0e+1o+2e"),
    TensorProductProblem("3x0e+3x1o+3x2e", "0e+1o+2e", "0e+1o+2e"),
    TensorProductProblem("2x0e+2x1o+2x1e+2x2e", "0e+1o+2e+3o", "0o+0e+1o+1e+2e+2o"),
]


@pytest.fixture
def double():
    """e3nn builds its coefficients in the default dtype; compare in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_equals_e3nn_with_the_same_weights(problem, double):
    tp = tensor_product(problem)
    instructions = [(p.block1, p.block2, k, "uvu", True) for k, p in enumerate(tp.paths)]
    reference = o3.TensorProduct(
        problem.irreps_in1,
        problem.irreps_in2,
        tp.irreps_out,
        instructions,
        shared_weights=False,
        internal_weights=False,
    )
    x, y = problem.irreps_in1.randn(7, -1), problem.irreps_in2.randn(7, -1)
    weights = torch.randn(7, tp.weight_numel)
    assert tp.weight_numel == reference.weight_numel
    torch.testing.assert_close(tp(x, y, weights), reference(x, y, weights), rtol=1e-12, atol=1e-12)
    ones = torch.ones(7, tp.weight_numel)
    torch.testing.assert_close(tp(x, y), reference(x, y, ones), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_layouts_hold_the_same_numbers(problem):
    x, y = problem.irreps_in1.randn(5, -1), problem.irreps_in2.randn(5, -1)
    mul_ir, ir_mul = tensor_product(problem), tensor_product(problem, layout="ir_mul")

    def transpose(features, irreps):
        parts = [
            features[:, s].unflatten(1, (mul, ir.dim)) for s, (mul, ir) in zip(irreps.slices(), irreps, strict=True)
        ]
        return torch.cat([part.transpose(1, 2).flatten(1) for part in parts], dim=1)

    z = ir_mul(transpose(x, problem.irreps_in1), y)
    torch.testing.assert_close(z, transpose(mul_ir(x, y), mul_ir.irreps_out))


def test_convolution_is_gather_product_scatter():
    problem = PROBLEMS[2]
    tp = tensor_product(problem).double()
    senders, receivers = torch.tensor([1, 2, 0, 0, 1]), torch.tensor([0, 0, 1, 2, 2])
    x = problem.irreps_in1.randn(4, -1).double()
    y = problem.irreps_in2.randn(5, -1).double()
    weights = RadialWeights(torch.rand(5, 3).double(), torch.randn(3, tp.weight_numel).double())
    z = tp.convolve(x, y, weights, tp.prepare(senders, receivers, 4))
    expected = torch.zeros(4, tp.irreps_out.dim).double().index_add(0, receivers, tp(x[senders], y, weights.dense()))
    torch.testing.assert_close(z, expected, rtol=1e-12, atol=1e-12)
    assert (z[3] == 0).all()


def test_convolution_without_edges_is_zero():
    problem = PROBLEMS[1]
    tp = tensor_product(problem)
    none = torch.zeros(0, dtype=torch.int64)
    z = tp.convolve(problem.irreps_in1.randn(2, -1), torch.zeros(0, 9), None, tp.prepare(none, none, 2))
    assert z.shape == (2, tp.irreps_out.dim)
    assert (z == 0).all()


def test_gradients_of_first_and_second_order():
    problem = TensorProductProblem("2x0e+2x1o", "0e+1o", "0e+1o")
    tp = tensor_product(problem).double()
    inputs = [
        torch.randn(3, n, dtype=torch.float64, requires_grad=True)
        for n in (problem.irreps_in1.dim, problem.irreps_in2.dim, tp.weight_numel)
    ]
    assert torch.autograd.gradcheck(tp, inputs)
    assert torch.autograd.gradgradcheck(tp, inputs)


def test_float64_is_exact_after_a_visit_to_float32():
    tp = tensor_product(PROBLEMS[1])
    straight = tensor_product(PROBLEMS[1]).double()
    x, y = PROBLEMS[1].irreps_in1.randn(2, -1).double(), PROBLEMS[1].irreps_in2.randn(2, -1).double()
    assert torch.equal(tp.double().float().double()(x, y), straight(x, y))


def test_parity_is_kept():
    with pytest.raises(ValueError, match=r"no path .* leads to 1e"):
        TensorProductProblem("4x0e", "1o", "1e")


def test_problem_is_a_value():
    same = TensorProductProblem("4x0e", "0e+1o+2e", "0e+1o+2e")
    assert same == PROBLEMS[0]
    assert hash(same) == hash(PROBLEMS[0])


def test_errors_say_what_is_available():
    with pytest.raises(ValueError, match="available: uvu, uvw, uuu"):
        TensorProductProblem("4x0e", "0e", "0e", mode="uvv")
    with pytest.raises(ValueError, match="available: clebsch_gordan"):
        tensor_product(PROBLEMS[0], "gaunt")
    with pytest.raises(ValueError, match="available: auto, torch"):
        tensor_product(PROBLEMS[0], implementation="cuda")
    with pytest.raises(ValueError, match="'channelwise' needs the mode uvu"):
        ClebschGordan(TensorProductProblem("4x0e+2x1o", "0e", "0e"), way="channelwise")
    with pytest.raises(ValueError, match="'mul_ir' or 'ir_mul'"):
        tensor_product(PROBLEMS[0], layout="rows")
    with pytest.raises(ValueError, match="expected irreps such as"):
        TensorProductProblem("4y0e", "0e", "0e")
    with pytest.raises(ValueError, match="which is empty"):
        TensorProductProblem("4x0e", "", "0e")
