import pytest
import torch
from e3nn import o3
from e3nn.o3 import Irreps

from sciml.tensor_products import TensorProductProblem, tensor_product
from sciml.tensor_products.many_body import ManyBodyPower, powers_reach
from sciml.tensor_products.rotations import representation

CASES = ["2x0e+2x1o+2x2e", "2x0e+2x1o+2x1e", "2x0o+2x1e"]


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("irreps", CASES)
@pytest.mark.parametrize("exponent", [1, 2, 3])
def test_grid_and_fourier_agree_and_are_equivariant(irreps, exponent):
    reached = Irreps([(1, ir) for ir in powers_reach(Irreps(irreps), exponent) if ir.l <= 3])
    grid, fourier = (
        ManyBodyPower(irreps, reached, exponent=exponent, transform=name).double() for name in ("grid", "fourier")
    )
    x, weights = random(3, grid.irreps_in.dim), random(3, grid.weight_numel)
    z = grid(x, weights)
    torch.testing.assert_close(fourier(x, weights), z, rtol=1e-12, atol=1e-12)
    matrix = -o3.rand_matrix(dtype=torch.float64)
    turned = grid(x @ representation(grid.irreps_in, matrix).T, weights)
    torch.testing.assert_close(turned, z @ representation(grid.irreps_out, matrix).T, rtol=1e-10, atol=1e-10)


def test_cube_is_two_products():
    """f³ = P[P[f²] f] if the first projection keeps all degrees; compared up to one factor per output irrep."""
    irreps = "1x0e+1x1o+1x2e"
    square = tensor_product(TensorProductProblem(irreps, irreps, "0e+1o+2e+3o+4e", mode="uuu"), "gaunt_grid").double()
    power = ManyBodyPower(irreps, "0e+1o+2e+3o+4e", exponent=2).double()
    cube = ManyBodyPower(irreps, "0e+1o+2e", exponent=3).double()
    x = random(4, 9)
    ratio = power(x) / square(x, x)
    for s in power.irreps_out.slices():
        torch.testing.assert_close(ratio[:, s], ratio[:1, s][:, :1].expand_as(ratio[:, s]), rtol=1e-10, atol=0)
    # x = c Y_0: f is constant, and its cube c³ times the same
    constant = torch.zeros(2, 9, dtype=torch.float64)
    constant[:, 0] = torch.tensor([1.0, 2.0])
    z = cube(constant)
    assert z[1, 0].item() == pytest.approx(8 * z[0, 0].item())
    assert z[:, 1:].abs().max() < 1e-14


def test_gradients():
    power = ManyBodyPower("1x0e+1x1o", "0e+1o", exponent=3).double()
    inputs = [random(2, 4).requires_grad_(), random(2).requires_grad_()]
    assert torch.autograd.gradcheck(power, inputs)
    assert torch.autograd.gradgradcheck(power, inputs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"irreps_in": "1o", "irreps_out": "1o", "exponent": 2}, "1o is no part of 1x1o to the power 2; .* 0e, 2e"),
        ({"irreps_in": "0e", "irreps_out": "0e", "exponent": 0}, "got exponent=0"),
        ({"irreps_in": "2x0e+1o", "irreps_out": "0e", "exponent": 2}, "same number of channels"),
        ({"irreps_in": "0e", "irreps_out": "0e", "exponent": 2, "transform": "fft"}, "available: grid, fourier"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        ManyBodyPower(**arguments)
