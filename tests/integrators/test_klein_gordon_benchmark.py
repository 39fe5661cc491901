"""The benchmark of fields: its quick rows keep what must be kept; frequencies to many digits."""

import json

import numpy as np
import pytest

from sciml.integrators.frequencies import leading_frequencies
from sciml.integrators.klein_gordon_benchmark import Row, main


def test_quick_rows_keep_their_bounds(tmp_path, capsys):
    assert main(["linear-wave", "kink-constants", "reversal", "--output", str(tmp_path / "rows.json")]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert {row["verdict"] for row in rows} <= {"must", "aim"}
    assert "shape mode" in capsys.readouterr().out


def test_verdicts():
    assert Row("error", 1e-9, 1e-8, 1e-10).verdict() == "must"
    assert Row("ratio", 5.0, 4.0, 8.0, True).verdict() == "must"
    assert Row("ratio", 9.0, 4.0, 8.0, True).verdict() == "aim"
    assert Row("error", 1.0, 1e-8).verdict() == "missed"
    assert Row("number", 1.0).verdict() == ""


def test_unknown_rows(capsys):
    with pytest.raises(SystemExit):
        main(["liner-wave"])
    assert "there is no row liner-wave" in capsys.readouterr().err


def test_frequencies_of_two_lines():
    t = np.arange(4000) * 0.1
    values = 0.4 + 2 * np.cos(1.2247448713 * t + 0.3) + 0.05 * np.cos(2.9 * t)
    frequencies, amplitudes = leading_frequencies(values, 0.1, number=2)
    assert frequencies == pytest.approx([1.2247448713, 2.9], abs=1e-8)
    assert np.abs(amplitudes) == pytest.approx([2, 0.05], rel=1e-5)
    with pytest.raises(ValueError, match="at least 16"):
        leading_frequencies([1.0], 0.1)
