"""The benchmark of tensor products: no setting is empty, the gate goes off, and peers compute the same."""

from dataclasses import replace

import pytest
import torch

from sciml.tensor_products import BACKENDS, tensor_product
from sciml.tensor_products import benchmark as module
from sciml.tensor_products.benchmark import (
    PASSES,
    Case,
    GateError,
    backend_contender,
    check,
    measure,
    peer_contender,
    run_benchmark,
)
from sciml.tensor_products.benchmark_settings import SETTINGS, setting_problem
from sciml.tensor_products.peers import installed_peers

ALL = list(PASSES)


def contender(backend, setting="mimo_truncated", degree=1, *, channels=2, dtype=torch.float64, layout="mul_ir"):
    problem = setting_problem(setting, degree, channels, backend)
    return backend_contender(backend, problem, dtype=dtype, device="cpu", layout=layout)


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("degree", range(1, 9))
def test_no_setting_is_empty_and_clebsch_gordan_has_all_paths(setting, degree):
    problem = setting_problem(setting, degree, 2, "clebsch_gordan")
    expected = {
        "siso": 1,
        "simo": 2 * degree + 1,
        "mimo": sum(2 * min(i, j) + 1 for i in range(degree + 1) for j in range(degree + 1)),
    }
    number = len(problem.paths)
    assert number == expected.get(setting, number) > 0
    odd = [path for path in problem.paths if sum(problem.degrees(path)) % 2]
    assert (not odd) if setting == "uuu" else (odd or setting == "siso")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_siso_is_never_empty(backend, degree):
    problem = setting_problem("siso", degree, 2, backend)
    ((mul, ir),) = problem.irreps_out
    even, odd = backend.startswith("gaunt"), backend == "vector_signal"
    assert mul == 2
    assert ir.p == 1
    assert ir.l == degree + (1 if (even and degree % 2) or (odd and degree % 2 == 0) else 0)
    x = torch.randn(3, problem.irreps_in1.dim)
    assert tensor_product(problem, backend)(x, torch.randn_like(x)).norm() > 0


def test_settings_are_checked():
    with pytest.raises(ValueError, match="available: siso"):
        setting_problem("sisi", 1, 1, "cp")
    with pytest.raises(ValueError, match="at least 1"):
        setting_problem("siso", 0, 1, "cp")
    with pytest.raises(ValueError, match="vector_signal has no path of uuu"):
        setting_problem("uuu", 2, 1, "vector_signal")
    with pytest.raises(ValueError, match="got dtype='half'"):
        Case("siso", 1, dtype="half")


# --- the gate ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["none", "shared", "per_sample"])
@pytest.mark.parametrize("layout", ["mul_ir", "ir_mul"])
@pytest.mark.parametrize("setting", ["mimo_truncated", "uvu"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_backends_pass_the_gate(backend, setting, layout, weights):
    case = Case(setting, 2, channels=2, batch=3, dtype="float64", weights=weights, layout=layout)
    assert check(contender(backend, setting, 2, layout=layout), case, ALL) < 1e-9


@pytest.mark.parametrize("backend", ["gaunt_grid", "clebsch_gordan"])
def test_gate_stops_a_wrong_backend_before_it_is_timed(backend, monkeypatch):
    def corrupted(*args, **options):
        right = backend_contender(*args, **options)
        constant = next(right.product.buffers())
        constant.view(-1)[int(constant.abs().argmax())] *= 1.01
        return right

    monkeypatch.setattr(module, "backend_contender", corrupted)
    monkeypatch.setattr(module, "time_median", lambda *_, **__: pytest.fail("timed"))
    with pytest.raises(GateError, match=f"{backend} is wrong in the forward pass.*nothing was timed"):
        run_benchmark([Case("mimo_truncated", 3, 2, 4)], names=[backend])


def test_gate_sees_wrong_gradients_of_right_values():
    class Detached(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z):  # noqa: ARG004
            return z.clone()

        @staticmethod
        def backward(ctx, grad):  # noqa: ARG004
            return 1.001 * grad

    right = contender("cp")
    wrong = replace(right, product=lambda *inputs: Detached.apply(right.product(*inputs)))
    case = Case("mimo_truncated", 1, 2, 4, dtype="float64")
    assert check(wrong, case, ["forward"]) < 1e-9
    with pytest.raises(GateError, match="backward pass"):
        check(wrong, case, ["forward", "backward"])


def test_gate_sees_nan():
    right = contender("cp")
    wrong = replace(right, product=lambda *inputs: right.product(*inputs) * float("nan"))
    with pytest.raises(GateError, match="nan"):
        check(wrong, Case("mimo_truncated", 1, 2, 4, dtype="float64"), ["forward"])


# --- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["none", "shared", "per_sample"])
@pytest.mark.parametrize("setting", ["uuu", "uvu", "siso"])
@pytest.mark.parametrize("peer", installed_peers())
def test_peers_pass_the_gate(peer, setting, weights):
    if peer in ("openequivariance", "lunaequivariance") and not torch.cuda.is_available():
        pytest.skip("has no CPU code")
    if peer == "openequivariance" and setting != "uvu":
        pytest.skip("has kernels for uvu and uvw only")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    case = Case(setting, 1, channels=32, batch=3, dtype="float64", device=device, weights=weights)
    problem = setting_problem(setting, 1, 32, "clebsch_gordan")
    made = peer_contender(peer, problem, dtype=torch.float64, device=device, summed=setting == "uuu", weights=weights)
    assert check(made, case, ALL) < 1e-9


def test_figures_belong_together():
    case = Case("mimo", 1, 2, 8)
    result = measure(contender("clebsch_gordan", "mimo", dtype=torch.float32), case, ["forward"], budget=0.0)
    figures = result.figures
    assert figures["expressivity"] == 6  # not 5: the path 1 ⊗ 1 → 1 counts
    assert figures["forward_samples_per_second"] == pytest.approx(8 / result.seconds["forward"])
    assert figures["forward_samples_per_second_per_expressivity"] == pytest.approx(8 / result.seconds["forward"] / 6)
    assert figures["forward_seconds_per_expressivity"] == pytest.approx(result.seconds["forward"] / 6)
    assert result.floor_seconds["forward"] > 0


@pytest.mark.parametrize("setting", ["simo", "mimo", "uuu"])
def test_expressivity_is_that_of_the_audit(setting):
    from sciml.tensor_products.audit import audit

    for backend in ("clebsch_gordan", "gaunt_grid"):
        problem = setting_problem(setting, 2, 1, backend)
        assert module._expressivity(contender(backend, setting, 2, channels=3)) == audit(problem, backend).expressivity


def test_what_breaks_is_a_row(monkeypatch):
    def broken(*args, **options):
        raise RuntimeError("no kernel\nat line 1")

    monkeypatch.setattr(module, "peer_contender", broken)
    seen = []
    results = run_benchmark(
        [Case("uuu", 1, 2, 4)], names=["vector_signal", "e3nn", "cp"], passes=["forward"], budget=0.0,
        on_result=seen.append,
    )  # fmt: skip
    assert [r.contender for r in results] == ["vector_signal", "e3nn", "cp"]
    assert results == seen
    assert "has no path" in results[0].failure
    assert results[1].failure == "failed: RuntimeError: no kernel"
    assert results[2].failure is None
    assert results[2].seconds["forward"] > 0


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="got e4nn; available: clebsch_gordan"):
        run_benchmark([], names=["e4nn"])
    with pytest.raises(ValueError, match="got sideways; available: forward"):
        run_benchmark([], passes=["sideways"])
