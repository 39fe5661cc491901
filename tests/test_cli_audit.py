"""The job audit as a user types it."""

import json

import pytest

from sciml.cli import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")  # lines must not break within what the tests look for
    return tmp_path


PROBLEM = ["--irreps_in1", "2x0e+2x1o", "--irreps_in2", "0e+1o"]


def test_quick_audit_writes_its_files_and_says_what_is_left_out(folder, capsys):
    assert main(["audit", *PROBLEM, "--quick"]) == 0
    text = capsys.readouterr().out
    assert "gaunt_grid cannot reach 1e and was audited without" in text
    assert "the grid beats the Fourier series" in text
    report = json.loads((folder / "runs/audit/audit.json").read_text())
    assert [entry["backend"] for entry in report["audits"]] == [
        "clebsch_gordan", "gaunt_fourier", "gaunt_grid", "cp", "vector_signal",
    ]  # fmt: skip
    assert [entry["span"] for entry in report["audits"]] == [6, 5, 5, 6, 1]
    assert len(report["findings"]) == 3
    assert report["versions"]["torch"]
    for name in ("interactability.png", "cost.png"):
        assert (folder / "runs/audit" / name).read_bytes().startswith(b"\x89PNG")


def test_a_product_that_reaches_nothing_is_skipped(folder, capsys):
    flags = "--irreps_out 0e+1o --backends cp vector_signal --rank 9 --findings false --quick --output out"
    assert main(["audit", *PROBLEM, *flags.split()]) == 0
    assert "vector_signal reaches none of 1x0e+1x1o and was left out" in capsys.readouterr().out
    report = json.loads((folder / "out/audit.json").read_text())
    assert report["skipped"] == ["vector_signal"]
    assert report["findings"] == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--backends gaunt", "available: clebsch_gordan"),
        ("--backends gaunt_grid --rank 7", "only cp has a rank"),
        ("--mode uvv", "available: uvu"),
        ("--irreps_in1 2x0x", "expected irreps such as"),
        ("--irreps_out 0e --backends vector_signal", "use clebsch_gordan or cp"),
        ("--irreps_out 4e", "no path"),
        ("--backends []", "got no backends"),
    ],
)
def test_mistakes_are_one_line(folder, capsys, flags, message):
    assert main(["audit", *PROBLEM, *flags.split()]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
