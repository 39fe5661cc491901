"""The job simulate as a user types it."""

import numpy as np
import pytest

from sciml.cli import main
from sciml.integrators import FieldRun


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")  # lines must not break within what the tests look for
    return tmp_path


def sciml(command):
    return main(command.split())


def test_simulate_and_continue(folder, capsys):
    assert sciml("simulate klein-gordon kink-antikink --velocity 0.3 --time 2 --frames 5 --output run.nc") == 0
    out = capsys.readouterr().out
    assert "topological charge" in out
    assert "wrote run.nc" in out
    run = FieldRun.load("run.nc")
    assert run.notes["velocity"] == 0.3
    assert len(run.t) == 5
    assert (
        sciml(
            "simulate klein-gordon kink-antikink --velocity 0.3 --time 4 --frames 9 --output run.nc "
            "--picture map.png --film film.gif"
        )
        == 0
    )
    longer = FieldRun.load("run.nc")
    assert np.array_equal(longer.phi[:5], run.phi)
    assert len(longer.t) == 9
    assert (folder / "map.png").exists()
    assert (folder / "film.gif").exists()


def test_simulate_from_yaml(folder):
    (folder / "ring.yaml").write_text("preset: collapsing-ring\noutput: ring.nc\ntime: 1.0\nframes: 2\nnum_x: 96\n")
    assert sciml("simulate klein-gordon --config ring.yaml") == 0
    assert FieldRun.load("ring.nc").phi.shape == (2, 96, 96)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("simulate", "which system? There is klein-gordon"),
        ("simulate klein-gorden kink --output a.nc", "did you mean klein-gordon?"),
        ("simulate klein-gordon kinc --output a.nc", "did you mean kink?"),
        ("simulate klein-gordon kink --output a.nc --velocity 1.5", "below that of light"),
        ("simulate klein-gordon kink --output a.nc --boundary periodic", "does not fit a periodic grid"),
        ("simulate klein-gordon kink --output a.nc --velocty 0.5", "did you mean --velocity?"),
        ("simulate klein-gordon kink --output a.png", "ends in .nc"),
    ],
)
def test_simulate_complains_in_one_line(folder, capsys, command, message):
    assert sciml(command) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_simulate_help(capsys):
    with pytest.raises(SystemExit):
        sciml("simulate --help")
    assert "klein-gordon" in capsys.readouterr().out
