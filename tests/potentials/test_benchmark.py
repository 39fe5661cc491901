"""The benchmark runs, measures what it names, and refuses to time a calculator that is wrong."""

import json

import numpy as np
import pytest

from sciml.potentials import benchmark
from sciml.potentials.analytic import LennardJones
from sciml.potentials.checkpoint import save_potential


@pytest.fixture
def argon():
    return LennardJones({"Ar-Ar": {"epsilon": 0.0104, "sigma": 3.4}}, 6.0)


def test_writes_times_and_laws(argon, tmp_path):
    save_potential(argon, tmp_path / "checkpoint")
    benchmark.run(str(tmp_path / "checkpoint"), num_atoms=20, num_calls=5, output=str(tmp_path / "benchmark.json"))
    report = json.loads((tmp_path / "benchmark.json").read_text())
    results = report["results"]
    assert results["calculator_ms"] > 0
    assert results["calculator_overhead"] == pytest.approx(results["calculator_ms"] / results["model_ms"] - 1)
    assert results["law_forces"] < 1e-8
    assert 0 < results["import_sciml_s"] < 5
    assert report["versions"]["sciml"]


def test_box_has_the_density_of_a_liquid(argon):
    atoms = benchmark.box(argon, 64)
    assert len(atoms) == 64
    assert len(atoms) / atoms.get_volume() == pytest.approx(0.1)
    assert atoms.get_all_distances(mic=True)[~np.eye(64, dtype=bool)].min() > 1.5


def test_wrong_calculator_is_not_timed(argon, monkeypatch):
    class Wrong(benchmark.PotentialCalculator):
        def calculate(self, *args):
            super().calculate(*args)
            self.results["forces"] = 1.1 * self.results["forces"]

    monkeypatch.setattr(benchmark, "PotentialCalculator", Wrong)
    with pytest.raises(ValueError, match="not those of the model"):
        benchmark.time_calculator(argon, benchmark.box(argon, 8), num_calls=5)
