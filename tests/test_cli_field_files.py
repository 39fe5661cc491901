"""Trajectories from files in the layout of the Well."""

import numpy as np
import pytest
import torch

pytest.importorskip("h5py")

from sciml.cli import main
from sciml.cli.field_files import read_trajectories
from sciml.datasets import FieldSet, write_fields
from sciml.pde.smoke import BuoyantSmoke
from tests.pde.tiny_fields import trajectories


def write(path, data, *, name="mine", parameters=None, at="nodes"):
    content = FieldSet(
        name=name,
        grid=data.grid,
        fields=data.fields,
        times=[data.frame_time * number for number in range(data.frames.shape[1])],
        at=at,
        parameters=parameters or {},
        units={"L": "m", "T": "s"},
    )
    write_fields(path, content, [data.frames.numpy()], trajectories=len(data.frames))


@pytest.fixture
def two_files(tmp_path):
    for number, gravity in enumerate((0.5, 1.5)):
        write(
            tmp_path / f"part{number}.hdf5", trajectories(3, seed=number), parameters={"gravity": gravity, "depth": 2}
        )
    return tmp_path


def test_files_and_folders_are_one_set(two_files, monkeypatch):
    monkeypatch.setenv("HERE", str(two_files))
    expected = torch.cat([trajectories(3, seed=number).frames for number in (0, 1)])
    for names in ([str(two_files)], ["$HERE/part*.hdf5"], [f"{two_files}/part0.hdf5", f"{two_files}/part1.hdf5"]):
        data = read_trajectories(names)
        torch.testing.assert_close(data.frames, expected, rtol=0, atol=0)
    assert [(field.name, field.unit, field.component) for field in data.fields] == [
        ("height", "m", None), ("velocity_x", "m/s", 0), ("velocity_y", "m/s", 1)
    ]  # fmt: skip
    assert data.frame_time == pytest.approx(0.2)
    assert data.grid.lengths == pytest.approx((2 * np.pi, 2 * np.pi))
    assert data.at == "nodes"
    assert data.units == {"length": "m", "time": "s"}
    assert data.symmetries is None
    assert data.varying_parameters == ["gravity"]
    assert data.with_parameters(["gravity"]).parameters[:, 0].tolist() == [0.5] * 3 + [1.5] * 3
    assert data.origins[4].endswith("part1.hdf5, trajectory 1")
    with pytest.raises(ValueError, match="do not have the parameters viscosity; they have gravity, depth"):
        data.with_parameters(["viscosity"])


def test_what_does_not_belong_together_is_named(two_files, tmp_path):
    short = trajectories(3, frames=5)
    write(tmp_path / "short.hdf5", short)
    with pytest.raises(ValueError, match=r"short\.hdf5 has 5 frames"):
        read_trajectories([str(two_files / "part0.hdf5"), str(tmp_path / "short.hdf5")])
    write(tmp_path / "none.hdf5", trajectories(3))
    with pytest.raises(ValueError, match="does not have the parameters gravity, depth"):
        read_trajectories([str(two_files / "part0.hdf5"), str(tmp_path / "none.hdf5")])
    with pytest.raises(FileNotFoundError, match="no file matches"):
        read_trajectories([str(tmp_path / "nothing*.hdf5")])
    with pytest.raises(ValueError, match=r"\$NOWHERE/a names an environment variable that is not set"):
        read_trajectories(["$NOWHERE/a"])
    (tmp_path / "broken.hdf5").write_bytes((two_files / "part0.hdf5").read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"broken\.hdf5 is"):
        read_trajectories([str(tmp_path / "broken.hdf5")])


def test_generated_data_know_the_symmetries_of_their_solver(tmp_path):
    flags = ["--resolution", "16", "--trajectories", "2", "--valid", "1", "--test", "1", "--workers", "1"]
    assert main(["generate", "ins", "--output", str(tmp_path / "ins"), *flags]) == 0
    data = read_trajectories([str(tmp_path / "ins" / "data" / "train")])
    assert data.symmetries == BuoyantSmoke.symmetries == {"reflection_x"}
    assert data.at == "faces"
    assert data.varying_parameters == []


def test_generate_train_and_roll_out(tmp_path):
    """The commands of the README, on a grid too small to learn anything."""
    flags = ["--resolution", "16", "--trajectories", "3", "--valid", "1", "--test", "1", "--workers", "1"]
    assert main(["generate", "ins", "--output", str(tmp_path / "ins"), *flags]) == 0
    folder = tmp_path / "ins" / "data"
    model = ["--model.name", "sinenet", "--model.num_waves", "1", "--model.widths", "[4,4,4,4,4]", "--augment", "all"]
    files = ["--train", str(folder / "train"), "--valid", str(folder / "valid"), "--test", str(folder / "test")]
    assert main(["train", *files, "--output", str(tmp_path / "run"), "--max_epochs", "1", *model]) == 0
    best = str(tmp_path / "run" / "best")
    assert (
        main(["rollout", best, "--data", str(folder / "test"), "--output", str(tmp_path / "out"), "--steps", "3"]) == 0
    )
    assert (tmp_path / "run" / "test" / "evaluation.json").exists()
    assert (tmp_path / "out" / "rollout.npz").exists()
