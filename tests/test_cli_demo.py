"""The demo in its quick mode, and what it calculates from trajectories."""

import dataclasses
import json
import os
import shlex
import sys

import joblib
import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import molecule
from ase.io import read, write
from PIL import Image
from rich.console import Console

from sciml.cli import demo, label, main, md, train
from sciml.cli.arguments import parse_config
from sciml.cli.demo_analysis import Trajectory, bonds_by_kind, densities, overlap, peaks, same_peak
from sciml.cli.demo_stages import Stages, command_line
from sciml.datasets.workers import workers
from sciml.potentials import load_potential

CONFIGS = {"label": label.Config, "train": train.Config, "md": md.Config}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder in which `sciml demo --quick true` has run."""
    folder = tmp_path_factory.mktemp("demo")
    threads = torch.get_num_threads()
    with workers(2, None) as parallel:  # workers that joblib keeps alive, and that stand in another directory
        parallel(joblib.delayed(os.getcwd)() for _ in range(4))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["demo", "--quick", "true", "--threads", "1"]) == 0
    torch.set_num_threads(threads)
    return folder / "runs" / "demo-quick"


@pytest.fixture(scope="module")
def summary(folder):
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def test_every_plot_is_there_and_not_blank(folder):
    plots = ["model/learning_curve", "evaluation/parity", "energies", "spectra", "bond_lengths"]
    for plot in plots:
        pixels = np.asarray(Image.open(folder / f"{plot}.png").convert("L"))
        assert min(pixels.shape) > 300
        assert 0.005 < (pixels < 128).mean() < 0.5


def test_the_checkpoint_has_learned_something(folder, summary):
    assert load_potential(folder / "model" / "best").species == (1, 6, 8)
    tests = [atoms for atoms in read(folder / "data" / "test.xyz", index=":") if len(atoms) > 1]
    assert len(tests) == 2 * demo.QUICK.test_frames
    zero = np.abs([atoms.get_forces() for atoms in tests]).mean()
    assert summary["test_errors"]["forces"]["mae"] < 0.6 * zero
    assert summary["test_errors"]["forces"]["count"] == 27 * len(tests)


def test_both_simulations_start_alike_and_conserve_energy(folder, summary):
    first, second = (read(folder / name / "trajectory.xyz", index=0) for name in ("md-xtb", "md-facet"))
    assert np.array_equal(first.positions, second.positions)
    assert np.array_equal(first.get_momenta(), second.get_momenta())
    for run in summary["nve"].values():
        assert abs(run["drift_meV_per_atom_per_ps"]) < 3 * run["drift_error_meV_per_atom_per_ps"] + 0.5
        assert 50 < run["temperature_K"] < 700
        assert run["ms_per_step"] > 0


def test_the_reference_vibrates_and_stretches_as_ethanol_does(summary):
    bonds = summary["bonds"]
    assert {kind: values["bonds"] for kind, values in bonds.items()} == {"C-C": 1, "C-H": 5, "C-O": 1, "O-H": 1}
    # Lengths: CRC Handbook, within a hundredth or two; frequencies within the resolution of a run this short.
    for kind, length, frequency in (("C-C", 1.53, 950), ("C-H", 1.09, 2900), ("C-O", 1.43, 1000), ("O-H", 0.97, 3600)):
        assert bonds[kind]["mean_length_A"]["GFN2-xTB"] == pytest.approx(length, abs=0.03)
        assert bonds[kind]["stretch_per_cm"]["GFN2-xTB"] == pytest.approx(frequency, abs=250)


def test_summary_says_how_it_was_made(summary):
    assert summary["versions"]["tblite"]
    assert summary["hardware"]["processor"]
    assert len(summary["seconds"]) == 5
    assert sum(summary["seconds"].values()) == pytest.approx(summary["total_seconds"], abs=0.1)
    assert [command.split()[1] for command in summary["commands"]] == [
        "label",
        "label",
        "train",
        "evaluate",
        "md",
        "md",
        "md",
    ]


def test_running_again_changes_nothing(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder.parent.parent)
    files = ["data/train.xyz", "model/metrics.csv", "md-facet/trajectory.xyz", "md-xtb/energies.csv"]
    before = {name: (folder / name).stat().st_mtime_ns for name in files}
    numbers = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    threads = torch.get_num_threads()
    assert main(["demo", "--quick", "true", "--threads", "1"]) == 0
    torch.set_num_threads(threads)
    assert {name: (folder / name).stat().st_mtime_ns for name in files} == before
    again = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    for name in ("nve", "bonds", "test_errors"):
        assert again[name] == numbers[name]
    assert "nothing to do" in capsys.readouterr().out


def test_the_script_at_the_end_runs(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder.parent.parent)
    script = demo.md_script(str(folder / "model" / "best")).replace("run(1000)", "run(3)")
    assert len(script.strip().splitlines()) == 6
    exec("\n".join(line.strip() for line in script.splitlines()), {})
    assert len(capsys.readouterr().out.splitlines()) == 5


def test_printed_commands_are_the_jobs_that_ran(summary):
    for command in summary["commands"]:
        program, job, *arguments = shlex.split(command)
        assert program == "sciml"
        if job in CONFIGS:
            config = parse_config(CONFIGS[job], arguments, program=job, description="")
            assert command_line(job, config) == command


def test_command_line_is_parsed_back_to_the_same_config():
    config = train.Config(
        train=["a b.xyz", "c.xyz"], output="run", model={"name": "facet", "channels": 8, "lmax": 1}, max_time=1.5,
        optimizer=dataclasses.replace(train.Config(train=[], output="").optimizer, learning_rate=1e-3),
    )  # fmt: skip
    command = command_line("train", config)
    assert command.startswith("sciml train --train 'a b.xyz' c.xyz --output run --model.channels 8")
    assert parse_config(train.Config, shlex.split(command)[2:], program="train", description="") == config


def test_what_cannot_work_is_said_at_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--threads", "0"]) == 2
    assert "threads=0" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tblite.ase", None)
    assert main(["demo"]) == 2
    assert "pip install sciml-suite[label]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_stages_add_up_the_seconds_of_interrupted_runs(tmp_path, monkeypatch):
    clock = iter([0.0, 10.0, 100.0, 105.0, 200.0, 201.0])
    monkeypatch.setattr("sciml.cli.demo_stages.time.monotonic", lambda: next(clock))
    console = Console(quiet=True)
    with pytest.raises(KeyboardInterrupt), Stages(console, tmp_path / "s.json", total=1)("train", ""):
        raise KeyboardInterrupt
    for expected in (15.0, 15.0):  # continued, then only checked
        stages = Stages(console, tmp_path / "s.json", total=1)
        with stages("train", ""):
            pass
        assert stages.seconds == {"train": expected}


# --- analysis against known motions -----------------------------------------------------------------------------------


def oscillating_molecule(tmp_path, *, wavenumber=1500.0, amplitude=0.05):
    """Trajectory files of a diatomic molecule that vibrates harmonically and turns in space."""
    time = 2.0 * np.arange(2000)
    omega = 2 * np.pi * wavenumber * 2.99792458e-5  # 1/fs
    turn = 1e-3
    length = 1.2 + amplitude * np.sin(omega * time)
    rate = amplitude * omega * np.cos(omega * time)
    axis = np.stack([np.cos(turn * time), np.sin(turn * time), 0 * time], axis=1)
    normal = turn * np.stack([-np.sin(turn * time), np.cos(turn * time), 0 * time], axis=1)
    frames = []
    for r, v, a, n in zip(length, rate, axis, normal, strict=True):
        atoms = Atoms("CO", positions=[0 * a, r * a])
        atoms.set_velocities(np.array([0 * a, v * a + r * n]) / units.fs)
        frames.append(atoms)
    write(tmp_path / "trajectory.xyz", frames, columns=["symbols", "positions", "momenta"])
    table = np.stack([time, -5 + 2e-6 * time, 0.1 + 0 * time, 300 + 0 * time], axis=1)
    np.savetxt(
        tmp_path / "energies.csv", table, delimiter=",", header="time,potential,kinetic,temperature", comments=""
    )
    return Trajectory.load(tmp_path, start=400.0)


def test_trajectory_of_a_rotating_oscillator(tmp_path):
    run = oscillating_molecule(tmp_path)
    assert (run.time[0], len(run.time), run.interval) == (400.0, 1800, 2.0)
    kinds = bonds_by_kind(run.atoms)
    assert list(kinds) == ["C-O"]
    assert run.bond_lengths(kinds["C-O"]).mean() == pytest.approx(1.2, abs=1e-3)
    # The rotation shows in the velocities, not in the bond length.
    assert peaks(*run.stretch_spectrum(kinds["C-O"])) == pytest.approx([1500], abs=1)
    assert run.drift[0] == pytest.approx(1e6 * 2e-6 / 2)
    assert run.mean_temperature[0] == 300


def test_same_peak_is_the_nearest_one_however_high():
    x = np.arange(0.0, 4000.0, 20.0)

    def spectrum(*lines):
        return x, sum(height * np.exp(-(((x - position) / 25) ** 2)) for position, height in lines)

    doublet, other = spectrum((1085, 2.0), (1205, 1.0)), spectrum((1091, 1.0), (1199, 2.0), (1000, 0.01))
    assert same_peak(doublet, other) == pytest.approx((1085, 1091), abs=3)
    assert peaks(*other) == pytest.approx([1199, 1091], abs=3)
    assert np.isnan(same_peak(doublet, (x, np.ones_like(x)))).all()


def test_bonds_of_ethanol():
    kinds = bonds_by_kind(molecule("CH3CH2OH"))
    assert {kind: len(pairs) for kind, pairs in kinds.items()} == {"C-C": 1, "C-H": 5, "C-O": 1, "O-H": 1}


def test_overlap_is_one_for_equal_and_zero_for_disjoint_samples():
    generator = np.random.default_rng(0)
    sample = generator.normal(size=4000)
    assert overlap(*densities(sample, sample)) == pytest.approx(1.0, abs=1e-12)
    assert overlap(*densities(sample, sample + 100)) == 0.0
    # ∫ min of two unit Gaussians a distance d apart is erfc(d / √8).
    assert overlap(*densities(sample, generator.normal(size=4000) + 1.0)) == pytest.approx(0.617, abs=0.03)
