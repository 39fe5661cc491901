import json
from dataclasses import replace

import pytest
import torch
from e3nn import o3

from sciml.tensor_products import BACKENDS, TensorProductProblem, reachable, tensor_product
from sciml.tensor_products.audit import audit
from sciml.tensor_products.costs import flops
from sciml.tensor_products.expressivity import couplings_span, expressivity, interactability, measure_couplings
from sciml.tensor_products.findings import (
    gain_shrinks_per_expressivity,
    grid_beats_fourier,
    natural_problem,
    odd_sums_need_vector_signals,
)
from sciml.tensor_products.rotations import equivariance_error, wigner_d


def so3(lmax):
    """All degrees up to `lmax` of x, y and z, of even parity, so that parity forbids nothing."""
    irreps = "+".join(f"{l}e" for l in range(lmax + 1))
    return TensorProductProblem(irreps, irreps, irreps, mode="uuu")


def measured(problem, backend):
    problem = replace(problem, irreps_out=reachable(problem, backend))
    couplings = measure_couplings(problem, backend)
    return couplings_span(couplings), expressivity(couplings)[0]


def odd(triple):
    return sum(int(irrep[:-1]) for irrep in triple) % 2 == 1


# --- expressivity -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lmax", "paths"), [(1, 5), (2, 15), (3, 34), (4, 65)])
def test_clebsch_gordan_expresses_every_path(lmax, paths):
    assert measured(so3(lmax), "clebsch_gordan") == (paths, paths)


@pytest.mark.parametrize("backend", ["gaunt_grid", "gaunt_fourier"])
@pytest.mark.parametrize(("lmax", "even_paths"), [(1, 4), (2, 11), (3, 23), (4, 42)])
def test_gaunt_expresses_one_weight_a_degree(backend, lmax, even_paths):
    # m = x_l1 y_l2 z_l3 is unchanged by x → ax, y → by, z → z/ab: two weights of 3(L+1) are lost, and no more
    assert measured(so3(lmax), backend) == (even_paths, 3 * (lmax + 1) - 2)


@pytest.mark.parametrize(("lmax", "odd_paths"), [(1, 1), (2, 4), (3, 11)])
def test_vector_signal_expresses_one_weight_a_degree_but_zero(lmax, odd_paths):
    assert measured(so3(lmax), "vector_signal") == (odd_paths, 3 * lmax - 2)


@pytest.mark.parametrize("lmax", [1, 2])
def test_cp_spans_all_paths_that_share_their_weights(lmax):
    assert measured(so3(lmax), "cp") == (len(so3(lmax).paths), 3 * (lmax + 1) - 2)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "problem",
    [
        natural_problem(2),
        TensorProductProblem("0e+0e+1o", "0e+1o", "0e+1o", mode="uuu"),  # blocks of one irrep mix
        TensorProductProblem("0e+1e+1o", "0e+1o+1e", "0e+1e+1o", mode="uuu"),
    ],
    ids=str,
)
def test_equals_the_rank_of_the_whole_map_moved_weight_by_weight(problem, backend):
    """With the weights of the product itself, which the audit leaves out because they add nothing.

    The map is linear in each single weight, so that a difference of any step is exact.
    """
    reached = reachable(problem, backend)
    if not reached:
        assert backend == "vector_signal"
        return
    problem = replace(problem, irreps_out=reached)
    tp = tensor_product(problem, backend).double()
    linears = [
        o3.Linear(a, b).double()
        for a, b in (
            (problem.irreps_in1, problem.irreps_in1),
            (problem.irreps_in2, problem.irreps_in2),
            (tp.irreps_out, o3.Irreps([(1, ir) for ir in dict.fromkeys(ir for _, ir in tp.irreps_out)])),
        )
    ]
    d1, d2 = problem.irreps_in1.dim, problem.irreps_in2.dim
    x = torch.eye(d1, dtype=torch.float64).repeat_interleave(d2, 0)
    y = torch.eye(d2, dtype=torch.float64).repeat(d1, 1)

    sizes = [*(linear.weight_numel for linear in linears), tp.weight_numel]

    def bilinear_map(weights):
        w1, w2, w3, w = weights.split(sizes)
        return linears[2](tp(linears[0](x, w1), linears[1](y, w2), w), w3).detach().flatten()

    point = torch.randn(sum(sizes), dtype=torch.float64)
    origin = bilinear_map(point)
    steps = torch.eye(len(point), dtype=torch.float64)
    rank = torch.linalg.matrix_rank(torch.stack([bilinear_map(point + step) - origin for step in steps]), rtol=1e-9)
    assert measured(problem, backend)[1] == int(rank)


def test_channels_add_up_until_the_span_is_full():
    couplings = measure_couplings(so3(3), "gaunt_grid")
    found = [expressivity(couplings, channels=channels)[0] for channels in (1, 2, 3, 4)]
    assert found[0] == 10
    assert found == sorted(found)
    assert found[2:] == [23, 23]


def test_multiplicities_do_not_matter():
    one, many = TensorProductProblem("0e+1o", "0e+1o"), TensorProductProblem("4x0e+3x1o", "0e+2x1o", mode="uvu")
    for backend in ("clebsch_gordan", "gaunt_grid"):
        first, second = audit(one, backend, samples=2), audit(many, backend, samples=2)
        assert (first.span, first.expressivity) == (second.span, second.expressivity)
        assert first.interactability == second.interactability


def test_large_degrees_take_seconds():
    assert measured(so3(6), "gaunt_grid") == (106, 19)


# --- interactability --------------------------------------------------------------------------------------------------


def table_of(problem, backend, **options):
    restricted = replace(problem, irreps_out=reachable(problem, backend))
    return interactability(problem, measure_couplings(restricted, backend, **options))


@pytest.mark.parametrize("problem", [so3(2), natural_problem(2)], ids=["so3", "natural"])
def test_interactability_is_the_rule_of_sums(problem):
    sums = {"clebsch_gordan": {0, 1}, "cp": {0, 1}, "vector_signal": {1}, "gaunt_grid": {0}, "gaunt_fourier": {0}}
    for backend in BACKENDS:
        table = table_of(problem, backend)
        assert len(table) == len(problem.paths)
        assert table == {triple: odd(triple) in sums[backend] for triple in table}


def test_vector_signals_complete_gaunt():
    gaunt, vector = (table_of(natural_problem(3), name) for name in ("gaunt_grid", "vector_signal"))
    assert gaunt["1o", "1o", "1e"] is False
    assert vector["1o", "1o", "1e"] is True
    assert all(gaunt[triple] != vector[triple] for triple in gaunt)


# --- equivariance -----------------------------------------------------------------------------------------------------


def test_rotation_matrices_represent_rotations():
    rotations = o3.rand_matrix(2, dtype=torch.float64)
    rotations = torch.linalg.qr(rotations).Q
    for l in range(4):
        first, second = wigner_d(l, rotations)
        torch.testing.assert_close(
            wigner_d(l, (rotations[0] @ rotations[1])[None])[0], first @ second, rtol=0, atol=1e-13
        )
        points = torch.randn(5, 3, dtype=torch.float64)
        harmonics, turned = (o3.spherical_harmonics(l, p, True) for p in (points, points @ rotations[0].T))
        torch.testing.assert_close(turned, harmonics @ first.T, rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", ["uvu", "uuu", "uvw"])
def test_equivariant_to_rounding(backend, mode):
    problem = TensorProductProblem("3x0e+2x1o+2x1e", "2x0e+1x1o", "2x0e+2x1e+1x1o", mode=mode)
    result = audit(problem, backend, samples=4)
    assert result.equivariance_error["float64"] < (1e-9 if backend == "cp" else 1e-13)
    assert 1e-9 < result.equivariance_error["float32"] < 1e-5


def test_exact_cp_couples_all_and_is_equivariant():
    problem = TensorProductProblem("0e+1e", "0e+1e", "0e+1e", mode="uuu")
    result = audit(problem, "cp")
    assert all(result.interactability.values())
    assert result.equivariance_error["float64"] < 1e-9


def test_cp_of_rank_seven_is_equivariant_and_couples_all():
    problem = TensorProductProblem("0e+1e", "0e+1e", "0e+1e", mode="uuu")
    result = audit(problem, "cp", rank=7, samples=64)
    assert result.rank == 7
    assert result.equivariance_error["float64"] < 1e-13
    assert all(result.interactability.values())
    assert result.span == 5


def test_cp_of_the_rank_of_tdn_is_nearly_equivariant():
    problem = TensorProductProblem("0e+1e+2e", "0e+1e+2e", "0e+1e+2e", mode="uuu")
    result = audit(problem, "cp", rank=28, samples=64)
    assert 1e-3 < result.equivariance_error["float64"] < 0.05


def test_equivariance_error_sees_a_wrong_product_and_leaves_it_as_it_was():
    tp = tensor_product(so3(1), "gaunt_grid").double()
    before = tp.factor1.clone()
    assert equivariance_error(tp, dtype=torch.float32) < 1e-5
    assert torch.equal(tp.factor1, before)
    tp._exact["factor1"] = (before + 0.1 * torch.randn_like(before), False)
    assert equivariance_error(tp) > 1e-3


# --- costs ------------------------------------------------------------------------------------------------------------


def test_costs_by_hand():
    scalars = TensorProductProblem("4x0e", "0e", "0e", mode="uvu")
    result = audit(scalars, "clebsch_gordan", samples=2)
    assert result.weight_numel == 4
    assert result.bytes == 4 * (4 + 1 + 4 + 4)
    # 4 products, each times a coefficient (2 FLOP by convention) and a weight with its sum (2)
    assert result.flops_by_way["dense"] == 4 * (1 + 2 + 2)
    assert result.flops_by_way["sparse"] == 4 * (3 + 2)
    assert result.flops_by_way["channelwise"] == 2 + 2 * 4 + 4
    grid = audit(so3(1), "gaunt_grid", samples=2)
    assert grid.flops == 2 * grid.rank * (4 + 4 + 4) + grid.rank + 4


def test_operations_grow_with_channels_as_the_modes_say():
    def operations(mode, u, v, w=1, backend="gaunt_grid"):
        out = f"{w}x0e+{w}x1o"
        problem = TensorProductProblem(f"{u}x0e+{u}x1o", f"{v}x0e+{v}x1o", out, mode=mode)
        tp = tensor_product(problem, backend)
        (count,) = [count for way, count in flops(tp).items() if way in ("bilinear", "fourier", "dense")]
        return count

    for backend in ("gaunt_grid", "gaunt_fourier", "clebsch_gordan"):
        assert operations("uuu", 8, 8, backend=backend) == 2 * operations("uuu", 4, 4, backend=backend)
    # 8 points, d = 4: A x for all u v, B y for v, sums of products over v, C, and weights
    assert operations("uvu", 4, 2) == 2 * 8 * 4 * (8 + 2 + 4) + 2 * 8 * 8 + 4 * 8
    assert operations("uvw", 4, 2, 3) == 2 * 8 * 4 * (6 + 2 + 3) + 2 * 8 * 6 + 2 * 4 * 24
    # clebsch_gordan: each of 4 pairs of blocks has one path
    assert operations("uvw", 4, 2, 3, backend="clebsch_gordan") == 8 * (
        (1 + 3 + 3 + 9) + 2 * (1 + 9 + 9 + 9) + 2 * 3 * (1 + 1 + 3 + 3)
    )


# --- the report, and mistakes -----------------------------------------------------------------------------------------


def test_report_is_json_and_names_what_is_not_reached():
    result = audit(natural_problem(1), "gaunt_fourier", samples=2)
    assert result.unreached == "1e"
    report = json.loads(json.dumps(result.to_dict()))
    assert report["gap"] is None
    assert {"in1": "1o", "in2": "1o", "out": "1e", "interacts": False} in report["interactability"]
    assert report["span"] == 5


def test_mistakes_are_told():
    problem = so3(1)
    with pytest.raises(ValueError, match="available: clebsch_gordan"):
        audit(problem, "gaunt")
    with pytest.raises(ValueError, match="only cp has a rank"):
        audit(problem, "gaunt_grid", rank=3)
    with pytest.raises(ValueError, match="expected at least 1"):
        audit(problem, "gaunt_grid", samples=0)
    with pytest.raises(ValueError, match=r"vector_signal reaches none of 1x0e .* clebsch_gordan or cp"):
        audit(TensorProductProblem("0e", "0e"), "vector_signal")
    with pytest.raises(ValueError, match="lmax=-1"):
        natural_problem(-1)
    with pytest.raises(ValueError, match="ascending"):
        gain_shrinks_per_expressivity((2,))
    with pytest.raises(ValueError, match="batch=0"):
        grid_beats_fourier(1, batch=0)
    with pytest.raises(ValueError, match="first odd sum"):
        odd_sums_need_vector_signals(0)


# --- The Price of Freedom ---------------------------------------------------------------------------------------------


def test_grid_beats_fourier():
    finding = grid_beats_fourier(4, batch=64, repeats=5)
    assert finding.holds
    assert finding.numbers["fourier_over_grid_flops"] > 1
    json.dumps(finding.to_dict())


def test_gain_shrinks_per_expressivity():
    finding = gain_shrinks_per_expressivity((1, 4), batch=64, repeats=5)
    assert finding.holds
    assert [row["expressivity"] for row in finding.numbers["rows"]] == [
        {"clebsch_gordan": 6, "gaunt_grid": 5},
        {"clebsch_gordan": 85, "gaunt_grid": 17},
    ]


def test_odd_sums_need_vector_signals():
    finding = odd_sums_need_vector_signals(3)
    assert finding.holds
    assert finding.numbers["gaunt_grid_odd"] == 0
    assert finding.numbers["vector_signal_odd"] == finding.numbers["odd_paths"] == 14


def test_equivariance_error_sees_broken_parity():
    """A product whose output has the wrong parity is equivariant under rotations, not under inversions."""
    tp = tensor_product(TensorProductProblem("0e+1o", "0e+1o", "0e+1o", mode="uuu"), "gaunt_grid")
    assert equivariance_error(tp) < 1e-13
    tp.irreps_out = o3.Irreps("0e+1e")
    assert equivariance_error(tp) > 0.1
