import math

import numpy as np
import pytest
import torch
from e3nn import o3

from sciml.nn.linear import EquivariantLinear, PathLinear
from sciml.nn.norms import BoundedNorm
from sciml.nn.radial import BesselBasis, LearnedBasis, SplineBasis, radial_basis
from sciml.nn.sphere_mixer import SphereMixer
from sciml.nn.spherical_harmonics import SphericalHarmonics
from sciml.tensor_products.sphere import sphere_grid

IRREPS = o3.Irreps("0e+1o+2e")


def representation(irreps):
    """Matrix of an improper rotation, exact in float64: the columns are the images of harmonics and pseudoharmonics."""
    torch.set_default_dtype(torch.float64)
    matrix = irreps.D_from_matrix(-o3.rand_matrix())
    torch.set_default_dtype(torch.float32)
    return matrix.double()


def points_and_weights(degree):
    """Of the mixer's grid; the weights sum to one."""
    grid = sphere_grid(degree, antipodal=True)
    return grid.points, grid.weights / (4 * math.pi)


@pytest.mark.parametrize("lmax", range(5))
def test_harmonics_equal_e3nn(lmax):
    n = torch.nn.functional.normalize(torch.randn(50, 3, dtype=torch.float64), dim=1)
    expected = o3.spherical_harmonics(list(range(lmax + 1)), n, False, "component")
    torch.testing.assert_close(SphericalHarmonics(lmax).double()(n), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("degree", range(1, 10))
def test_grid_is_exact_to_its_degree_and_not_beyond(degree):
    points, weights = points_and_weights(degree)
    means = {
        l: (weights @ o3.spherical_harmonics(l, points, False, "component")).abs().max() for l in range(1, degree + 3)
    }
    assert max(means[l] for l in range(1, degree + 1)) < 1e-14
    assert max(means.values()) > 1e-3
    assert abs(weights.sum() - 1) < 1e-14


@pytest.mark.parametrize("degree", range(1, 10))
def test_grid_is_its_own_image_under_inversion(degree):
    points, _ = points_and_weights(degree)
    assert (points[:, None] + points).norm(dim=2).min(dim=1).values.max() < 1e-12


@pytest.mark.parametrize("lmax", range(4))
def test_product_mixer_is_equivariant_to_rounding(lmax):
    natural = o3.Irreps([(1, (l, (-1) ** l)) for l in range(lmax + 1)])
    assert SphereMixer(natural, 6).equivariance_error() < 1e-12


def test_product_mixer_needs_every_point_of_its_grid():
    """One polar ring less, and the quadrature of degree 3L is no longer exact."""
    mixer = SphereMixer(IRREPS, 6)
    points, weights = points_and_weights(3)
    harmonics = o3.spherical_harmonics([0, 1, 2], points, False, "component")
    mixer.register_constant("to_grid", harmonics)
    mixer.register_constant("from_grid", (harmonics * weights[:, None]).T)
    assert mixer.equivariance_error() > 1e-2


def test_silu_mixer_reports_an_error_that_falls_with_oversampling():
    errors = []
    for oversampling in (1, 2, 4):
        torch.manual_seed(0)
        errors.append(SphereMixer(IRREPS, 6, activation="silu", oversampling=oversampling).equivariance_error())
    assert errors[0] > 3 * errors[1] > 9 * errors[2] > 1e-12


def test_mixer_couples_by_gaunt_coefficients():
    """The product of two functions, projected back: e3nn's Clebsch-Gordan couplings of even l1+l2+l3, weighted."""
    mixer = SphereMixer(IRREPS, 1).double()
    x = torch.randn(4, 9, 1, dtype=torch.float64)
    left, right = (mixer.to_grid @ mixer.linear_in(x)).chunk(2, dim=2)
    points, weights = points_and_weights(40)
    harmonics = o3.spherical_harmonics([0, 1, 2], points, False, "component")
    a, b = mixer.linear_in(x).chunk(2, dim=2)
    fine = (harmonics @ a / 3**0.5) * (harmonics @ b / 3**0.5)
    expected = mixer.linear_out((harmonics * weights[:, None]).T @ fine)
    torch.testing.assert_close(mixer(x), expected, rtol=1e-12, atol=1e-12)
    assert left.shape == right.shape == (4, 32, 1)


def test_mixer_refuses_what_is_no_function_on_the_sphere():
    with pytest.raises(ValueError, match="parity"):
        SphereMixer("0e+1e", 4)
    with pytest.raises(ValueError, match="product, silu"):
        SphereMixer("0e", 4, activation="relu")


@pytest.mark.parametrize("irreps", ["0e+1o+2e", "0e+1o+2e+1e+2o+0o"])
def test_linear_and_norm_are_equivariant(irreps):
    irreps = o3.Irreps(irreps)
    matrix = representation(irreps)
    x = torch.randn(5, irreps.dim, 4, dtype=torch.float64)
    for layer in (EquivariantLinear(irreps, 4, 6).double(), BoundedNorm(irreps, 4).double()):
        torch.testing.assert_close(layer(matrix @ x), matrix @ layer(x), rtol=1e-12, atol=1e-12)


def test_path_linear_is_equivariant_and_orders_its_result():
    paths, out = o3.Irreps("3x0e+3x0e+3x1o+3x1e+3x1e+3x2e"), o3.Irreps("0e+1o+2e+1e")
    layer = PathLinear(paths, out, 5).double()
    rows = o3.Irreps([(1, ir) for _, ir in paths])
    seed = torch.random.get_rng_state()
    d_in = representation(rows)
    torch.random.set_rng_state(seed)
    d_out = representation(out)
    x = torch.randn(2, rows.dim, 3, dtype=torch.float64)
    torch.testing.assert_close(layer(d_in @ x), d_out @ layer(x), rtol=1e-12, atol=1e-12)


def test_bounded_norm_fades_with_its_input():
    """A plain RMS norm would map ε x to something of size one."""
    norm = BoundedNorm(IRREPS, 4).double()
    x = torch.randn(3, 9, 4, dtype=torch.float64)
    torch.testing.assert_close(norm(1e-6 * x), 1e-6 * x, rtol=1e-10, atol=0)
    assert norm(1e6 * x).abs().max() < 10
    assert (BoundedNorm(IRREPS, 4, initial_scale=0.0)(x.float()) == 0).all()
    vectors = x[:, 1:4]
    expected = vectors / (1 + vectors.square().mean(dim=(1, 2), keepdim=True)).sqrt()
    torch.testing.assert_close(norm(x)[:, 1:4], expected, rtol=1e-14, atol=1e-14)


def derivatives(function, x, order):
    """Values of the first `order` derivatives of a function of each x, summed over its results."""
    results, y = [], function(x).sum(dim=1)
    for _ in range(order):
        (y,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        results.append(y.detach())
    return results


def test_spline_basis_is_zero_with_four_derivatives_at_the_cutoff():
    basis = SplineBasis(5.0, 8).double()
    r = torch.tensor([5.0 - 1e-3, 5.0, 5.5], dtype=torch.float64, requires_grad=True)
    values = basis(r)
    assert 0 < values[0].max() < 1e-15
    assert (values[1:] == 0).all()
    for order, derivative in enumerate(derivatives(basis, r, 4), start=1):
        assert 0 < derivative[0].abs() < 10.0 ** (3 * order - 12)
        assert (derivative[1:] == 0).all()


def test_spline_basis_has_four_continuous_derivatives_at_its_knots():
    basis = SplineBasis(8.0, 6).double()  # knots at whole numbers
    knots = torch.arange(1, 8, dtype=torch.float64)
    sides = [derivatives(basis, (knots + side).requires_grad_(), 5) for side in (-1e-9, 1e-9)]
    jumps = [(left - right).abs().max().item() for left, right in zip(*sides, strict=True)]
    assert max(jumps[:4]) < 1e-6
    assert jumps[4] > 1  # so the test sees a jump where there is one


def test_spline_basis_reproduces_quintics_inside():
    """B-splines of degree five span every quintic polynomial where six of them overlap."""
    basis = SplineBasis(12.0, 22).double()
    r = torch.linspace(2.0, 9.0, 200, dtype=torch.float64)
    quintic = 1 - 2 * r + 0.5 * r**2 - 0.1 * r**3 + 0.02 * r**4 - 0.001 * r**5
    coefficients = torch.linalg.pinv(basis(r)) @ quintic
    assert (basis(r) @ coefficients - quintic).abs().max() < 1e-9


def test_bessel_functions_are_orthogonal_on_the_ball():
    nodes, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(60))
    r, weights = 2.5 * (nodes + 1), 2.5 * weights
    values = BesselBasis(5.0, 8).double()(r)
    overlap = torch.einsum("r,ri,rj->ij", weights * r**2, values, values)
    expected = 5.0**3 / 32  # ∫ (¼ r_c sin)² dr
    torch.testing.assert_close(overlap, expected * torch.eye(8, dtype=torch.float64), rtol=0, atol=1e-12)
    x = torch.zeros(3, dtype=torch.float64, requires_grad=True)  # slots without an edge
    for derivative in derivatives(BesselBasis(5.0, 8).double(), x, 2):
        assert derivative.isfinite().all()


def test_learned_functions_vanish_smoothly_at_the_cutoff():
    torch.manual_seed(0)
    basis = LearnedBasis(5.0, 6).double()
    r = torch.tensor([4.5, 5.0 - 1e-3, 5.0, 5.5], dtype=torch.float64, requires_grad=True)
    values = basis(r)
    assert values[0].abs().max() > 1e-4
    assert (values[1:].abs() < 1e-100).all()
    assert all((derivative[1:].abs() < 1e-90).all() for derivative in derivatives(basis, r, 3))


def test_radial_bases_refuse_nonsense():
    for basis in (SplineBasis, BesselBasis):
        with pytest.raises(ValueError, match="at least 2"):
            basis(5.0, 1)
    with pytest.raises(ValueError, match="available: splines, network"):
        radial_basis("spline", 5.0, 8)
