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


def test_quick_bench_of_potentials(tmp_path, capsys):
    output = tmp_path / "bench.json"
    assert (
        main(["bench", "potentials", "--quick", "--models", "facet", "escaip", "transip", "--output", str(output)]) == 0
    )
    assert "Si 64 transip: it takes no periodic structures" in capsys.readouterr().out
    results = json.loads(output.read_text())["results"]
    assert [(r["case"]["atoms"], r["contender"]) for r in results] == [
        (size, name) for size in (8, 64, 15) for name in ("facet", "escaip", "transip")
    ]
    for result in results:
        if result["failure"] is None:
            assert result["seconds"]["calculator"] > 0.5 * result["seconds"]["model"] > 0
            assert result["figures"]["force_error"] < 1e-4
            assert ("training_steps_per_second" in result["figures"]) == (result["case"]["structure"] == "acac")
    assert results[3]["figures"]["edges"] > 64 * 40


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["tensor-product"], "did you mean"),
        (["--what", "potential"], "did you mean potentials"),
        (["potentials", "--models", "facets"], "did you mean facet"),
        (["potentials", "--models", "facet", "--atoms", "65"], "a cubic supercell has 8, 64"),
        (["kernels"], "for a GPU: --device cuda; or --quick"),
        (["tensor-products", "--settings", "sis"], "available: siso"),
        (["tensor-products", "--backends", "cq"], "available: clebsch_gordan"),
        (["tensor-products", "extra"], "extra"),
    ],
)
def test_mistakes_get_one_line(flags, message, capsys):
    assert main(["bench", *flags]) == 2
    assert message in capsys.readouterr().err
