"""The benchmark of kernels runs, passes its gate only if all is right, and says what it measured."""

import json

import pytest
import torch

from sciml.cli import main
from sciml.kernels import channelwise_derivatives
from sciml.tensor_products import kernel_benchmark
from sciml.tensor_products.kernel_benchmark import KernelCase, run_kernel_benchmark
from sciml.tensor_products.kernel_tuning import CANDIDATES, PASSES, tune

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def test_quick_benchmark_of_kernels(tmp_path, capsys):
    output = tmp_path / "kernels.json"
    flags = ["--layers", "mace-medium", "--passes", "forward", "backward", "--device", DEVICE, "--output", str(output)]
    assert main(["bench", "kernels", "--quick", *flags]) == 0
    assert "mace-medium" in capsys.readouterr().out
    results = {result["contender"]: result for result in json.loads(output.read_text())["results"]}
    assert {"triton", "triton-radial", "torch", "torch-radial", "e3nn"} <= set(results)
    for result in results.values():
        assert result["failure"] is None
        assert result["seconds"].keys() == {"forward", "backward"}
        assert 0 < result["figures"]["backward_error"] < 2e-6
        assert result["figures"]["cold_start"] > 0


def test_wrong_kernels_are_not_timed(monkeypatch):
    right = channelwise_derivatives.node_pass
    monkeypatch.setattr(
        channelwise_derivatives, "node_pass", lambda *a, **k: {n: 1.01 * t for n, t in right(*a, **k).items()}
    )
    case = KernelCase("mace-medium", device=DEVICE, scale=2e-4, channels=2)
    (result,) = run_kernel_benchmark([case], names=["triton"], passes=["forward"])
    assert result.failure.startswith("failed: GateError: triton is wrong in the forward pass of mace-medium")
    assert not result.seconds


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": ["tritn"]}, "got tritn; available: triton"),
        ({"passes": ["sideways"]}, "got sideways; available: for"),
    ],
)
def test_unknown_names(arguments, message):
    with pytest.raises(ValueError, match=message):
        run_kernel_benchmark([], **arguments)


def test_unknown_layer():
    with pytest.raises(ValueError, match="got the layer 'mace'; available: mace-medium"):
        KernelCase("mace")


@pytest.mark.skipif(DEVICE == "cuda", reason="other processes, which compile there, do not know the tiny layer")
def test_every_pass_can_be_tuned(monkeypatch):
    monkeypatch.setattr(
        "sciml.tensor_products.kernel_tuning.CANDIDATES",
        {name: candidates[:1] for name, candidates in CANDIDATES.items()},
    )
    monkeypatch.setitem(kernel_benchmark.LAYERS, "tiny", kernel_benchmark.Layer("0e+1o", "0e+1o", "0e+1o", 128, 2, 3))
    found = tune(["tiny"], device=DEVICE, channels=2, budget=0.0)
    assert [timed.name for timed in found] == list(PASSES)
    assert all(timed.failure is None and timed.seconds > 0 for timed in found)
