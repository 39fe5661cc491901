"""Generated fields do not depend on interruptions, processes, blocks or clusters, and say what they are."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import yaml

from sciml.cli import main
from sciml.datasets import open_fields
from sciml.datasets.field_statistics import FieldStatistics
from sciml.datasets.flow_blocks import trajectories
from sciml.datasets.flows import FLOWS, SmokeFlow, differences_from_published, flow_of
from sciml.datasets.generate import Generation, generate
from sciml.pde import UnstableError

pytest.importorskip("h5py")
SMALL = Generation("ins", resolution=16, trajectories=5, valid=2, test=1, seed=4)


@pytest.fixture(autouse=True)
def blocks_of_two(monkeypatch):
    monkeypatch.setattr(SmokeFlow, "block", 2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "ins"
    assert generate(SMALL, folder)
    return folder


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def test_splits_have_their_trajectories(whole):
    assert sorted(contents(whole)) == [
        "data/test/ins.hdf5",
        "data/train/ins.hdf5",
        "data/valid/ins.hdf5",
        "generation.json",
        "stats.yaml",
    ]
    parts = [open_fields(whole, split) for split in ("train", "valid", "test")]
    assert [part.trajectories for part in parts] == [5, 2, 1]
    train, valid, _ = (part.frames() for part in parts)
    assert train.shape == (5, 14, 3, 16, 16)
    assert len({frames.tobytes() for frames in (*train, *valid)}) == 7
    fields = parts[0]
    assert fields.channels == ("smoke", "velocity_x", "velocity_y")
    assert fields.boundaries == ("wall", "wall")
    assert fields.frame_time == 6
    assert fields.times[0] == 13.5
    assert fields.parameters["buoyancy"] == 0.5
    assert fields.attributes["seed"] == 4
    assert fields.attributes["split"] == "train"
    assert fields.attributes["software"].startswith("sciml ")
    with pytest.raises(ValueError, match="several splits"):
        open_fields(whole)


def test_frames_are_those_of_the_solver(whole):
    flow = flow_of("ins")
    solver = flow.solver(16)
    seed = np.random.SeedSequence((4, 0, 3)).generate_state(2, np.uint32)
    generator = torch.Generator().manual_seed(int(seed[0]) << 31 | int(seed[1]) >> 1)
    frames = solver.run(flow.start(solver.grid, generator), 64)[:, 9:65:4]
    np.testing.assert_array_equal(open_fields(whole, "train").frames(3), frames)


def test_statistics_are_stored(whole):
    measured = open_fields(whole, "train").measured_statistics(history=4)
    assert {open_fields(whole, split).statistics for split in ("train", "valid", "test")} == {measured}
    table = yaml.safe_load((whole / "stats.yaml").read_text())
    assert table["std"]["velocity"] == list(measured.std[1:])
    assert table["rms"]["smoke"] == pytest.approx(np.hypot(measured.mean[0], measured.std[0]))
    assert set(table) == {"mean", "std", "mean_delta", "std_delta", "rms", "rms_delta"}


@pytest.mark.parametrize("name", list(FLOWS))
def test_a_trajectory_is_a_function_of_its_seed(name):
    flow = flow_of(name)
    together = trajectories(flow, 16, [(0, 0, 0), (0, 0, 1), (0, 1, 1)])
    assert torch.isfinite(together).all()
    assert together.dtype == torch.float32
    assert together.shape[:2] == (3, flow.frames)
    torch.testing.assert_close(trajectories(flow, 16, [(0, 0, 1)])[0], together[1], rtol=0, atol=0)
    assert not torch.equal(together[1], together[2])


def test_blocks_do_not_change_a_bit(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(SmokeFlow, "block", 3)
    generate(SMALL, tmp_path / "three")
    assert contents(tmp_path / "three") == contents(whole)


def test_more_trajectories_begin_with_the_fewer(whole, tmp_path):
    generate(dataclasses.replace(SMALL, trajectories=3, valid=0, test=0), tmp_path / "few")
    few = open_fields(tmp_path / "few", "train").frames()
    np.testing.assert_array_equal(few, open_fields(whole, "train").frames(slice(3)))
    assert not (tmp_path / "few" / "data" / "valid").exists()


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def test_killed_before_any_file_is_replaced(whole, tmp_path, monkeypatch):
    replace = os.replace
    for moment in range(20):
        count = 0

        def kill_at(source, target, moment=moment):
            nonlocal count
            if count == moment:
                raise Killed
            replace(source, target)
            count += 1

        output = tmp_path / str(moment)
        monkeypatch.setattr(os, "replace", kill_at)
        try:
            generate(SMALL, output)
        except Killed:
            monkeypatch.setattr(os, "replace", replace)
            assert not (output / "stats.yaml").exists()
            assert generate(SMALL, output)
        else:
            assert moment == 10  # settings, 3 + 1 + 1 blocks, 3 files, statistics
            return
        assert contents(output) == contents(whole)
    raise AssertionError("every file is replaced once")


def test_a_command_killed_with_two_workers_is_continued_by_one(tmp_path, monkeypatch):
    monkeypatch.undo()

    def command(output, workers):
        flags = f"--resolution 16 --trajectories 64 --valid 0 --test 0 --output {tmp_path / output} --workers {workers}"
        return ["generate", "ins", *flags.split()]

    process = subprocess.Popen(
        [sys.executable, "-m", "sciml.cli", *command("killed", 2)], start_new_session=True, stdout=subprocess.DEVNULL
    )
    while not list((tmp_path / "killed" / "parts").glob("train-*.npz")):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "stats.yaml").exists()
    assert main(command("killed", 1)) == 0
    assert main(command("whole", 1)) == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_the_same_command_again_does_nothing_and_another_is_refused(whole):
    before = contents(whole)
    assert not generate(SMALL, whole)
    assert contents(whole) == before
    with pytest.raises(ValueError, match="seed: 4 then, 5 now"):
        generate(dataclasses.replace(SMALL, seed=5), whole)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match="holds other files"):
        generate(SMALL, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_trajectory_that_cannot_be_computed_is_named(tmp_path, monkeypatch):
    start, calls = SmokeFlow.start, []

    def spoilt(self, grid, generator):
        calls.append(1)
        u = start(self, grid, generator)
        return u * torch.nan if generator.initial_seed() == bad else u

    seed = np.random.SeedSequence((4, 0, 3)).generate_state(2, np.uint32)
    bad = int(seed[0]) << 31 | int(seed[1]) >> 1
    monkeypatch.setattr(SmokeFlow, "start", spoilt)
    with pytest.raises(UnstableError, match=r"trajectory 3 of train \(seed 4\) cannot be computed: its fields are no"):
        generate(SMALL, tmp_path / "a")
    assert (tmp_path / "a" / "parts" / "train-000000-000002.npz").exists()
    assert not (tmp_path / "a" / "data").exists()
    winds = Generation("swe", resolution=16, trajectories=1, parameters={"speed": 300.0, "depth": 50000.0})
    with pytest.raises(UnstableError, match=r"trajectory 0 of train .* at most .* is stable"):
        generate(winds, tmp_path / "b")


def test_wrong_settings_are_named():
    for wrong, message in (
        ({"flow": "inz"}, "did you mean ins"),
        ({"parameters": {"bouyancy": 1}}, "did you mean buoyancy"),
        ({"parameters": {"buoyancy": "x"}}, "expected a number"),
        ({"resolution": 256}, "explicit diffusion is unstable"),
        ({"trajectories": 0}, "at least one to train on"),
        ({"seed": -1}, "seed=-1"),
        ({"device": "tpu"}, "expected cpu or cuda"),
    ):
        with pytest.raises(ValueError, match=message):
            Generation(**{"flow": "ins", **wrong})


def test_differences_from_published_constants_are_named():
    flow = flow_of("ins")
    zero = (0.0, 0.0, 0.0)
    good = FieldStatistics((0.72, 0, 0), (0.44, 0.44, 0.5), zero, zero, (0.2, 0.7, 0.882))
    assert differences_from_published(flow, 128, good, 300) == []
    wrong = dataclasses.replace(good, std=(0.44, 0.46, 0.5))
    (line,) = differences_from_published(flow, 128, wrong, 300)
    assert line.startswith("std of velocity_x is 0.460, published 0.439")
    assert differences_from_published(flow, 128, wrong, 299) == []
    assert differences_from_published(flow, 96, wrong, 300) == []
    assert differences_from_published(flow_of("ins", {"buoyancy": 0.2}), 128, wrong, 300) == []


def test_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    line = "generate swe --output winds --resolution 16 --trajectories 2 --workers 1 --parameters.speed 10"
    command = line.split()
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "wrote to winds in" in text
    assert "2 to train, 1 to valid, 1 to test" in text
    assert "persistence" in text
    assert json.loads((tmp_path / "winds" / "generation.json").read_text())["parameters"] == {"speed": 10.0}
    fields = open_fields("winds", "valid")
    assert [field.unit for field in fields.fields] == ["m", "m/s", "m/s"]
    assert fields.at == "nodes"
    assert main(command) == 0
    assert "winds is complete; nothing to do" in capsys.readouterr().out
    assert main([*command, "--seed", "1"]) == 2
    assert "seed: 0 then, 1 now" in capsys.readouterr().err
    assert main(["generate", "ins", "--output", "x", "--device", "cuda", "--workers", "2"]) == 2
    assert "one process computes on CUDA" in capsys.readouterr().err
