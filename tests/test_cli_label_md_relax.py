"""The jobs label, md and relax as a user types them."""

import json

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read

from sciml.cli import main


def sciml(command):
    return main(command.split())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")  # lines must not break within what the tests look for
    return tmp_path


LABEL = "label --structure H2O --output frames.xyz --calculator emt --stride 4 --equilibration_steps 4"


def test_label_then_continue_then_refuse(folder, capsys):
    command = f"{LABEL} --temperatures 300 500 --frames 3 --walkers 2 --processes 1"
    assert sciml(command) == 0
    frames = read("frames.xyz", index=":")
    kinds = [frame.info["config_type"] for frame in frames]
    assert kinds == ["isolated_atom"] * 2 + ["300K_MD"] * 3 + ["500K_MD"] * 3
    assert sciml(command) == 0
    assert "6 frames of 4 walkers and the isolated atoms H, O; nothing to do" in capsys.readouterr().out
    assert sciml(f"{command} --seed 3") == 2
    assert "seed: 0 then, 3 now" in capsys.readouterr().err


def test_label_by_tblite_with_arguments(folder):
    pytest.importorskip("tblite")
    assert (
        sciml(
            "label --structure H2O --output w.xyz --frames 2 --stride 2 --equilibration_steps 0 --processes 1 "
            "--calculator_arguments.method GFN1-xTB"
        )
        == 0
    )
    assert read("w.xyz").get_potential_energy() == pytest.approx(-157, abs=1)


def test_label_complains_in_one_line(folder, capsys):
    assert sciml("label --structure H2O --output x.xyz --calculator tblitte") == 2
    error = capsys.readouterr().err
    assert "did you mean tblite" in error
    assert "Traceback" not in error
    assert sciml("label --structure watr --output x.xyz") == 2
    assert "neither a file, nor shipped weights, nor a molecule" in capsys.readouterr().err
    assert sciml(f"{LABEL} --dask nonsense") == 2
    assert "tcp://host:8786" in capsys.readouterr().err


def test_md_reports_and_lengthens(folder, capsys):
    bulk("Cu", cubic=True).write("cu.xyz")
    command = "md --structure cu.xyz --calculator emt --output run --timestep 2 --equilibration_steps 20"
    assert sciml(f"{command} --steps 60") == 0
    first = json.loads((folder / "run" / "result.json").read_text())
    assert first["frames"] == 7
    assert abs(first["drift_meV_per_atom_per_ps"]) < 20
    assert first["pressure_GPa"] is None
    assert sciml(f"{command} --steps 80") == 0
    assert json.loads((folder / "run" / "result.json").read_text())["frames"] == 9
    assert len(read("run/trajectory.xyz", index=":")) == 9
    table = np.loadtxt("run/energies.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(table[:, 0], np.arange(9) * 20.0)
    capsys.readouterr()
    assert sciml(f"{command} --steps 80") == 0
    assert "complete" in capsys.readouterr().out
    assert sciml(f"{command} --steps 80 --ensemble langevin") == 2
    assert "ensemble: 'nve' then, 'langevin' now" in capsys.readouterr().err


def test_md_with_a_thermostat_reports_no_drift(folder):
    bulk("Cu", cubic=True).write("cu.xyz")
    assert (
        sciml("md --structure cu.xyz --calculator emt --output npt --ensemble npt --steps 40 --equilibration_steps 10")
        == 0
    )
    result = json.loads((folder / "npt" / "result.json").read_text())
    assert result["drift_meV_per_atom_per_ps"] is None
    assert result["volume_A3"] > 40


def test_md_needs_one_calculator(folder, capsys):
    assert sciml("md --structure H2O --output run") == 2
    assert "either --checkpoint" in capsys.readouterr().err
    assert sciml("md --structure H2O --output run --checkpoint nowhere") == 2
    assert "nowhere" in capsys.readouterr().err


def test_relax_writes_structure_and_path(folder):
    bulk("Cu", a=3.7).write("cu.xyz")
    assert sciml("relax --structure cu.xyz --output relaxed.cif --calculator emt --cell true") == 0
    assert read("relaxed.cif").get_volume() == pytest.approx(11.56, abs=0.03)
    assert len(read("relaxed.path.xyz", index=":")) > 2


def test_relax_that_does_not_converge_exits_with_one(folder, capsys):
    bulk("Cu", a=3.7).write("cu.xyz")
    with pytest.raises(SystemExit) as exit_:
        sciml("relax --structure cu.xyz --output r.xyz --calculator emt --cell true --max_steps 1")
    assert exit_.value.code == 1
    assert "not converged" in capsys.readouterr().out
    assert (folder / "r.xyz").exists()


def test_relax_refuses_an_unknown_ending(folder, capsys):
    assert sciml("relax --structure H2O --output r.nonsense --calculator emt") == 2
    assert "names no format" in capsys.readouterr().err
