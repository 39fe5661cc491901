"""The harness of benchmarks: what it times, the floor, and the file that it writes."""

import json
import time

import pytest
import torch

from sciml.benchmark import Limits, Result, device_limits, floor, peak_memory, time_median, write_report


def test_time_is_the_median_of_at_least_five_runs_after_a_warm_up():
    calls = []

    def task():
        calls.append(None)
        time.sleep(0.05 if len(calls) == 4 else 0.002)  # one slow run of many does not count

    seconds = time_median(task, budget=0.0)
    assert len(calls) == 6
    assert 0.002 <= seconds < 0.03


def test_budget_bounds_the_repeats():
    calls = []
    time_median(lambda: (calls.append(None), time.sleep(0.002)), budget=0.1)
    assert 5 <= len(calls) <= 52


def test_floor_is_the_larger_of_traffic_and_arithmetic():
    limits = Limits(bandwidth=1e10, flops=1e12)
    assert floor(1e10, 1e9, limits) == pytest.approx(1.0)
    assert floor(1e3, 2e12, limits) == pytest.approx(2.0)


def test_limits_are_measured_once():
    limits = device_limits("cpu", torch.float32)
    assert limits is device_limits("cpu", torch.float32)
    assert limits.bandwidth > 1e8
    assert limits.flops > 1e8


def test_a_cpu_counts_no_memory():
    assert peak_memory(lambda: None, "cpu") is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_peak_memory_is_what_the_task_allocates():
    assert peak_memory(lambda: torch.empty(2**22, dtype=torch.int8, device="cuda"), "cuda") == 2**22


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_times_wait_for_the_device():
    matrix = torch.ones(4096, 4096, device="cuda")
    limits = device_limits("cuda", torch.float32)
    seconds = time_median(lambda: matrix @ matrix, device="cuda")
    assert seconds > 0.5 * 2 * 4096**3 / limits.flops


def test_report_is_json_with_versions_and_hardware(tmp_path):
    path = tmp_path / "deep" / "report.json"
    result = Result("a", {"l": 1}, {"forward": 1e-3}, {"forward": 1e-4}, {"forward": None}, {"error": 0.0})
    write_report(path, [result, Result("b", {"l": 1}, failure="failed: no")], {"degrees": [1]})
    report = json.loads(path.read_text())
    assert report["results"][0]["seconds"] == {"forward": 1e-3}
    assert report["results"][1]["failure"] == "failed: no"
    assert report["settings"] == {"degrees": [1]}
    assert "torch" in report["versions"]
    assert report["hardware"]["cores"] >= 1
    with pytest.raises(ValueError, match="JSON"):
        write_report(path, [Result("a", {}, {"forward": float("nan")})], {})
