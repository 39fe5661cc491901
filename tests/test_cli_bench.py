"""`sciml bench`: a quick run writes a table, JSON and a plot."""

import json
import time

import pytest
import torch

from sciml.cli import main


def test_quick_bench(tmp_path, capsys):
    start, threads = time.perf_counter(), torch.get_num_threads()
    output = tmp_path / "bench.json"
    flags = ["--settings", "siso", "uuu", "--backends", "gaunt_grid", "vector_signal", "e3nn", "--output", str(output)]
    assert main(["bench", "tensor-products", "--quick", *flags]) == 0
    assert time.perf_counter() - start < 20
    assert torch.get_num_threads() == threads
    text = capsys.readouterr().out
    assert "siso" in text
    assert "l=1 vector_signal failed: ValueError: vector_signal has no path of uuu" in text
    report = json.loads(output.read_text())
    assert len(report["results"]) == 2 * 2 * 3
    timed = [result for result in report["results"] if result["failure"] is None]
    assert len(timed) == 10
    for result in timed:
        assert set(result["seconds"]) == {"forward", "backward", "double_backward"}
        assert result["figures"]["over_e3nn"] > 0
        assert result["figures"]["relative_error"] < 1e-4
    assert report["versions"]["torch"] == torch.__version__
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["tensor-product"], "did you mean"),
        (["--what", "potentials"], "There is tensor-products"),
        (["kernels"], "for a GPU: --device cuda; or --quick"),
        (["tensor-products", "--settings", "sis"], "available: siso"),
        (["tensor-products", "--backends", "cq"], "available: clebsch_gordan"),
        (["tensor-products", "extra"], "extra"),
    ],
)
def test_mistakes_get_one_line(flags, message, capsys):
    assert main(["bench", *flags]) == 2
    assert message in capsys.readouterr().err
