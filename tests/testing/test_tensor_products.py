import pytest
import torch

from sciml.tensor_products import BACKENDS, TensorProductProblem, reachable, tensor_product
from sciml.testing import check_tensor_product


def product(backend, mode="uvu", **options):
    in1, in2 = ("2x0e+3x1o+2e", "0e+2x1o") if backend != "cp" else ("2x0e+3x1e", "0e+2x1e")
    found = [(1, ir) for _, ir in reachable(TensorProductProblem(in1, in2, mode=mode), backend) if ir.l < 2]
    return tensor_product(TensorProductProblem(in1, in2, found, mode=mode), backend, **options)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", ["mul_ir", "ir_mul"])
def test_backends_obey_the_laws(backend, layout):
    report = check_tensor_product(product(backend, layout=layout))
    assert report.errors["gradient"] > 0
    assert "second_gradient" in str(report)


def test_a_low_rank_breaks_rotations_and_says_so():
    with pytest.raises(AssertionError, match="CP breaks rotation"):
        check_tensor_product(product("cp", rank=6))
    report = check_tensor_product(product("cp", rank=6), tolerances={"rotation": 5.0, "float32": 1e-2})
    assert report.errors["rotation"] > 1e-3


def test_every_law_can_be_broken():
    tp = product("gaunt_grid")
    tp._exact["factor1"] = (tp._exact["factor1"][0] + 1e-3 * torch.randn_like(tp._exact["factor1"][0]), False)
    with pytest.raises(AssertionError, match="breaks rotation, inversion"):
        check_tensor_product(tp)


def test_unknown_laws_are_refused():
    with pytest.raises(ValueError, match="there is no law layout; the laws are rotation"):
        check_tensor_product(product("gaunt_grid"), tolerances={"layout": 1.0})
