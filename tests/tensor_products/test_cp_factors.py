import pytest
import torch
from e3nn.o3 import rand_matrix, spherical_harmonics, wigner_3j

from sciml.tensor_products import cp_factors as module
from sciml.tensor_products.cp_als import als, balance, compose
from sciml.tensor_products.cp_factors import (
    SHIPPED,
    base_tensor,
    cp_factors,
    equivariant_part,
    output_rows,
    pair_factors,
    tdn_rank,
)


def relative_error(factors, tensor):
    return float((compose(factors.in1, factors.in2, factors.out) - tensor).norm() / tensor.norm())


def rotation(degrees, matrices):
    """Block-diagonal representation of each rotation matrix; from spherical harmonics, as wigner_D has only 1e-7."""
    points = torch.randn(64, 3, dtype=torch.float64)

    def of(l, matrix):
        before, after = (spherical_harmonics(l, x, normalize=True) for x in (points, points @ matrix.T))
        return torch.linalg.lstsq(before, after).solution.T

    return torch.stack([torch.block_diag(*(of(l, matrix) for l in degrees)) for matrix in matrices])


def equivariance_error(factors, family, degrees, samples=200):
    """rms |T(Dx, Dy) - D T(x, y)| / rms |T(x, y)| over normal x, y, random rotations and all outputs."""
    torch.manual_seed(0)
    matrices = rand_matrix(samples, dtype=torch.float64)
    d1, d2 = (rotation(range(degree + 1), matrices) for degree in degrees[:2])
    d3 = rotation([l for l, _ in output_rows(family, degrees)], matrices)
    x, y = (torch.randn(samples, d.shape[-1], 1, dtype=torch.float64) for d in (d1, d2))

    def product(x, y):
        return factors.out @ ((factors.in1.T @ x) * (factors.in2.T @ y))

    z = product(x, y)
    return float((product(d1 @ x, d2 @ y) - d3 @ z).square().mean().sqrt() / z.square().mean().sqrt())


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SCIML_CACHE", str(tmp_path))
    module._of_rank.cache_clear()
    yield tmp_path / "cp_factors"
    module._of_rank.cache_clear()


def test_base_tensor_sums_the_paths():
    tensor = base_tensor("so3", (1, 2, 3))
    assert tensor.shape == (4, 9, 16)
    assert tensor.dtype == torch.float64
    assert torch.equal(tensor[1:4, 4:9, 9:16], wigner_3j(1, 2, 3, dtype=torch.float64))
    assert torch.equal(tensor[1:4, 4:9, 4:9], wigner_3j(1, 2, 2, dtype=torch.float64))
    assert torch.equal(tensor[0:1, 4:9, 9:16], torch.zeros(1, 5, 7, dtype=torch.float64))


def test_natural_family_separates_parities():
    assert output_rows("natural", (1, 1, 1)) == [(0, 1), (1, 1), (1, -1)]
    assert output_rows("natural", (2, 1, 3)) == [(0, 1), (1, 1), (2, 1), (3, 1), (1, -1), (2, -1)]
    assert output_rows("natural", (0, 1, 3)) == [(0, 1), (1, 1)]
    assert output_rows("so3", (0, 1, 3)) == [(0, 0), (1, 0), (2, 0), (3, 0)]
    tensor = base_tensor("natural", (1, 1, 1))
    assert tensor.shape == (4, 4, 7)
    assert torch.equal(tensor[1:, 1:, 4:], wigner_3j(1, 1, 1, dtype=torch.float64))
    assert not tensor[1:, 1:, 1:4].any()


@pytest.mark.parametrize(("family", "degrees", "rank"), SHIPPED)
def test_shipped_factors_have_the_error_that_they_claim(family, degrees, rank):
    factors = cp_factors(family, degrees, rank)
    assert factors.in1.shape[1] == rank
    assert all(factor.dtype == torch.float64 for factor in factors[:3])
    error = relative_error(factors, base_tensor(family, degrees))
    assert error == pytest.approx(factors.error, rel=1e-6, abs=1e-14)
    norms = torch.stack([factor.norm(dim=0) for factor in factors[:3]])
    torch.testing.assert_close(norms[0].expand(3, -1), norms)


EXACT = [
    ("so3", (1, 1, 1), 8),
    ("so3", (2, 2, 2), 30),
    ("so3", (3, 3, 3), 90),
    ("natural", (1, 1, 1), 9),
    ("natural", (2, 2, 2), 42),
    ("natural", (3, 3, 3), 144),
]


@pytest.mark.parametrize(("family", "degrees", "rank"), EXACT)
def test_exact_factors(family, degrees, rank):
    factors = cp_factors(family, degrees, "exact")
    assert factors.in1.shape[1] <= rank
    assert relative_error(factors, base_tensor(family, degrees)) < 1e-10
    assert equivariance_error(factors, family, degrees, samples=50) < 1e-10


@pytest.mark.parametrize(("L", "error", "equivariance"), [(2, 0.0111, 0.018), (3, 0.0511, 0.075)])
def test_tdn_ranks_are_approximate(L, error, equivariance):
    factors = cp_factors("so3", (L, L, L), tdn_rank(L))
    assert factors.error < error
    assert 1e-3 < equivariance_error(factors, "so3", (L, L, L)) < equivariance


def test_rank_seven_is_equivariant_with_path_weights_of_its_own():
    factors = cp_factors("so3", (1, 1, 1), 7)
    assert factors.error == pytest.approx(0.0229, abs=1e-4)
    assert equivariance_error(factors, "so3", (1, 1, 1)) < 1e-13
    tensor = compose(*factors[:3])
    torch.testing.assert_close(equivariant_part(tensor, "so3", (1, 1, 1)), tensor, rtol=0, atol=1e-14)
    w000, w011, w101, w110, w111 = (
        float((tensor[block] * coupling).sum()) for block, coupling in module._blocks("so3", (1, 1, 1))
    )
    assert w000 * w111**2 / (w011 * w101 * w110) == pytest.approx(2 / 3**0.5, rel=1e-12)


def test_projection_keeps_the_equivariant_part_only():
    torch.manual_seed(0)
    tensor = torch.randn(4, 9, 9, dtype=torch.float64)
    once = equivariant_part(tensor, "so3", (1, 2, 2))
    torch.testing.assert_close(equivariant_part(once, "so3", (1, 2, 2)), once)
    assert (tensor - once).mul(base_tensor("so3", (1, 2, 2))).sum() == pytest.approx(0, abs=1e-12)


def test_tdn_rank():
    assert [tdn_rank(L) for L in range(4)] == [1, 7, 28, 63]


@pytest.mark.parametrize("family", ["so3", "natural"])
@pytest.mark.parametrize("degrees", [(0, 0, 0), (0, 2, 2), (2, 1, 1), (1, 2, 1), (1, 3, 2), (4, 1, 5)])
def test_other_degrees_are_exact_at_no_more_than_the_pairs(family, degrees):
    tensor = base_tensor(family, degrees)
    factors = cp_factors(family, degrees, "exact")
    assert relative_error(factors, tensor) < 1e-10
    assert [len(factor) for factor in factors[:3]] == list(tensor.shape)
    assert factors.in1.shape[1] <= min(tensor.numel() // n for n in tensor.shape)


@pytest.mark.parametrize("degrees", [(1, 2, 2), (2, 1, 2), (2, 2, 1)])
def test_permuted_degrees_share_their_rank(degrees):
    factors = cp_factors("so3", degrees, "exact")
    assert factors.in1.shape[1] == cp_factors("so3", (1, 2, 2), "exact").in1.shape[1]
    assert relative_error(factors, base_tensor("so3", degrees)) < 1e-10


@pytest.mark.parametrize("shape", [(2, 3, 4), (4, 3, 2), (3, 4, 2)])
def test_pairs_are_exact_for_any_tensor(shape):
    torch.manual_seed(0)
    tensor = torch.randn(shape, dtype=torch.float64)
    tensor[0] *= torch.rand(shape[1:], dtype=torch.float64) > 0.5
    factors = pair_factors(tensor)
    assert factors.in1.shape[1] <= 6
    assert relative_error(factors, tensor) < 1e-14


def test_als_recovers_a_low_rank():
    torch.manual_seed(0)
    tensor = 100 * compose(*(torch.randn(n, 4, dtype=torch.float64) for n in (5, 6, 7)))
    a, b, c, error = als(tensor, 4, seed=0, restarts=3)
    assert error < 1e-13
    torch.testing.assert_close(compose(a, b, c), tensor)
    torch.testing.assert_close(a.norm(dim=0), c.norm(dim=0))


def test_als_is_reproducible():
    tensor = base_tensor("so3", (1, 1, 1))
    first, second = (als(tensor, 6, seed=3, sweeps=20, polish=10) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(first[:3], second[:3], strict=True))
    assert first[3] == second[3]


def test_sweeps_alone_recover_a_low_rank():
    torch.manual_seed(0)
    tensor = compose(*(torch.randn(n, 2, dtype=torch.float64) for n in (5, 6, 7)))
    assert als(tensor, 2, seed=0, polish=0)[3] < 1e-7


def test_one_term_less_is_not_exact_for_equal_path_weights():
    assert als(base_tensor("so3", (1, 1, 1)), 7, seed=0, restarts=4)[3] > 1e-3


def test_balance_keeps_the_sum_and_zero_columns():
    torch.manual_seed(0)
    factors = [torch.randn(n, 3, dtype=torch.float64) * 10**n for n in (2, 3, 4)]
    factors[1][:, 2] = 0
    balanced = balance(*factors)
    torch.testing.assert_close(compose(*balanced), compose(*factors))
    assert not balanced[0][:, 2].any()


@pytest.mark.parametrize("rank", [7, 8])
def test_shipped_files_can_be_recomputed(rank):
    shipped, again = cp_factors("so3", (1, 1, 1), rank), module.compute("so3", (1, 1, 1), rank)
    assert again.error == pytest.approx(shipped.error, rel=1e-6, abs=1e-13)
    for x, y in zip(shipped[:3], again[:3], strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=1e-6)


def test_main_writes_the_named_files(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    threads = torch.get_num_threads()
    try:
        module.main(["so3_1-1-1_8.safetensors"])
    finally:
        torch.set_num_threads(threads)
    assert [path.name for path in tmp_path.iterdir()] == ["so3_1-1-1_8.safetensors"]
    assert "rank    8" in capsys.readouterr().out


def test_other_ranks_are_cached(cache, monkeypatch, caplog):
    with caplog.at_level("INFO", logger="sciml.tensor_products"):
        first = cp_factors("so3", (1, 1, 1), 6)
    assert "cached" in caplog.text
    assert (cache / "so3_1-1-1_6.safetensors").is_file()
    module._of_rank.cache_clear()
    monkeypatch.setattr(module, "compute", lambda *_: pytest.fail("computed again"))
    again = cp_factors("so3", (1, 1, 1), 6)
    assert torch.equal(first.out, again.out)
    assert first.error == again.error > 1e-3


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SCIML_CACHE", str(tmp_path / "file"))
    module._of_rank.cache_clear()
    assert cp_factors("natural", (0, 1, 1), 4).error < 1e-10
    assert "cannot cache" in caplog.text
    module._of_rank.cache_clear()


@pytest.mark.parametrize("rank", [0, -1, True, 1.5, "all", None])
def test_bad_ranks(rank):
    with pytest.raises(ValueError, match="expected an integer of at least 1 or 'exact'"):
        cp_factors("so3", (1, 1, 1), rank)


@pytest.mark.parametrize("degrees", [(1, 1), (1, 1, -1), (1, 1, 1.0), (True, 1, 1)])
def test_bad_degrees(degrees):
    with pytest.raises(ValueError, match="expected three integers of at least 0"):
        cp_factors("so3", degrees, "exact")


def test_bad_family():
    with pytest.raises(ValueError, match="got the family 'o3'; expected one of so3, natural"):
        base_tensor("o3", (1, 1, 1))


@pytest.mark.parametrize(
    ("tensor", "rank"), [(torch.ones(2, 2), 1), (torch.zeros(2, 2, 2), 1), (torch.ones(2, 2, 2), 0)]
)
def test_als_bad_input(tensor, rank):
    with pytest.raises(ValueError, match="expected"):
        als(tensor, rank, seed=0)
