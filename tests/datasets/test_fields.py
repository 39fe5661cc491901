"""Files of flow fields: what is written comes back, also from files of others, and bad files are named."""

import numpy as np
import pytest
import torch

from sciml.datasets import FieldSet, open_fields, write_fields
from sciml.datasets.field_statistics import FieldStatistics, trajectory_moments
from sciml.pde import Grid
from sciml.pde.stepper import Field

h5py = pytest.importorskip("h5py")
GRID = Grid((6, 4), (3.0, 1.0), ("periodic", "wall"))
FIELDS = [Field("density", "M/L²"), Field("velocity_x", "L/T", 0), Field("velocity_y", "L/T", 1)]
CONTENT = FieldSet("gas", GRID, FIELDS, times=[0.5, 1.0, 1.5], parameters={"gamma": 1.4}, attributes={"seed": 3})


def random_frames(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 3, 3, 6, 4)).astype(np.float32)


@pytest.fixture
def path(tmp_path):
    write_fields(tmp_path / "gas.hdf5", CONTENT, [random_frames(5)[:2], random_frames(5)[2:]], trajectories=5)
    return tmp_path / "gas.hdf5"


def test_what_is_written_comes_back(path):
    fields = open_fields(path)
    assert fields.name == "gas"
    assert fields.channels == ("density", "velocity_x", "velocity_y")
    assert fields.fields == tuple(FIELDS)
    assert fields.grid == GRID
    assert fields.trajectories == 5
    assert fields.parameters == {"gamma": pytest.approx(1.4)}
    assert fields.scalars["gamma"] == pytest.approx(1.4)
    assert fields.attributes["seed"] == 3
    assert fields.frame_time == 0.5
    np.testing.assert_allclose(fields.coordinates[0], np.arange(0.25, 3, 0.5))
    frames = fields.frames()
    assert frames.dtype == np.float32
    np.testing.assert_array_equal(frames, random_frames(5))
    np.testing.assert_array_equal(fields.frames(slice(1, None, 2), slice(1, 3)), random_frames(5)[1::2, 1:3])
    np.testing.assert_array_equal(fields.frames(-1, 2), random_frames(5)[4:, 2:3])
    assert fields.frames(slice(2, 2)).shape == (0, 3, 3, 6, 4)
    assert fields.constants().shape == (5, 0, 6, 4)


def test_units_can_be_those_of_the_world(tmp_path):
    content = FieldSet("gas", GRID, FIELDS, times=[0, 1, 2], units={"L": "m", "T": "s"})
    write_fields(tmp_path / "a.h5", content, [random_frames(1)], trajectories=1)
    assert [field.unit for field in open_fields(tmp_path / "a.h5").fields] == ["M/m²", "m/s", "m/s"]


def test_equal_content_gives_equal_bytes(path, tmp_path):
    write_fields(tmp_path / "again.hdf5", CONTENT, [random_frames(5)], trajectories=5)
    assert (tmp_path / "again.hdf5").read_bytes() == path.read_bytes()


def test_files_of_a_folder_are_one(tmp_path):
    whole = random_frames(7)
    for number, part in enumerate((whole[:3], whole[3:4], whole[4:])):
        write_fields(tmp_path / f"part{number}.hdf5", CONTENT, [part], trajectories=len(part))
    fields = open_fields(tmp_path)
    for wanted in (slice(None), slice(2, 5), slice(1, 7, 2), slice(0, 7, 5), slice(3, 4), slice(-2, None)):
        np.testing.assert_array_equal(fields.frames(wanted), whole[wanted])
    np.testing.assert_array_equal(fields.frames(4), whole[4:5])


def of_the_well(path):
    """A file by the Well's documentation, with what ours do not have."""
    with h5py.File(path, "w") as file:
        file.attrs["dataset_name"], file.attrs["grid_type"] = "example", "cartesian"
        file.attrs["n_spatial_dims"], file.attrs["n_trajectories"] = 2, 2
        file.attrs["simulation_parameters"], file.attrs["alpha"] = ["alpha"], 0.25
        dimensions = file.create_group("dimensions")
        dimensions.attrs["spatial_dims"] = ["x", "y"]
        for name, size in (("time", 3), ("x", 4), ("y", 5)):
            dataset = dimensions.create_dataset(name, data=np.arange(size, dtype=np.float32) * 2)
            dataset.attrs["sample_varying"] = dataset.attrs["time_varying"] = False
        boundaries = file.create_group("boundary_conditions")
        for axis, kind, mask in (("x", "PERIODIC", [1, 0, 0, 1]), ("y", "WALL", [1, 0, 0, 0, 0])):
            group = boundaries.create_group(f"{axis}_{kind}")
            group.attrs["associated_dims"], group.attrs["bc_type"] = [axis], kind
            group["mask"] = np.array(mask, dtype=bool)
        file.create_group("scalars").attrs["field_names"] = ["alpha"]
        file["scalars/alpha"] = np.float32(0.25)
        generator, arrays = np.random.default_rng(0), {}
        layout = {
            "t0_fields": {"ground": ((4, 5), False, False, [1, 1]), "layers": ((2, 3, 5), True, True, [0, 1])},
            "t1_fields": {"flow": ((2, 3, 4, 5, 2), True, True, [1, 1])},
            "t2_fields": {"strain": ((2, 3, 4, 5, 2, 2), True, True, [1, 1])},
        }
        for order, fields in layout.items():
            group = file.create_group(order)
            group.attrs["field_names"] = list(fields)
            for name, (shape, by_trajectory, by_time, by_axis) in fields.items():
                arrays[name] = generator.normal(size=shape).astype(np.float32)
                group[name] = arrays[name]
                group[name].attrs.update(
                    {"sample_varying": by_trajectory, "time_varying": by_time, "dim_varying": np.array(by_axis, bool)}
                )
    return arrays


def test_a_file_of_the_well_is_read(tmp_path):
    arrays = of_the_well(tmp_path / "well.hdf5")
    fields = open_fields(tmp_path / "well.hdf5")
    assert fields.channels == ("layers", "flow_x", "flow_y", "strain_xx", "strain_xy", "strain_yx", "strain_yy")
    assert [field.component for field in fields.fields] == [None, 0, 1, None, None, None, None]
    assert [field.name for field in fields.constant_fields] == ["ground"]
    assert fields.boundaries == ("periodic", "wall/open")
    assert fields.lengths == (8.0, 10.0)
    assert fields.statistics is None
    frames = fields.frames(1)[0]
    np.testing.assert_array_equal(frames[:, 0], np.broadcast_to(arrays["layers"][1][:, None], (3, 4, 5)))
    np.testing.assert_array_equal(frames[:, 2], arrays["flow"][1, ..., 1])
    np.testing.assert_array_equal(frames[:, 4], arrays["strain"][1, ..., 0, 1])
    np.testing.assert_array_equal(fields.constants()[1, 0], arrays["ground"])
    with pytest.raises(ValueError, match="wall/open"):
        fields.grid  # noqa: B018
    assert len(fields.measured_statistics().mean) == 7


def test_statistics_are_those_of_numpy(path):
    frames = random_frames(5).astype(np.float64)
    statistics = FieldStatistics.from_moments(trajectory_moments(torch.from_numpy(random_frames(5)), history=2))
    np.testing.assert_allclose(statistics.mean, frames.mean((0, 1, 3, 4)), rtol=1e-12)
    np.testing.assert_allclose(statistics.std, frames.std((0, 1, 3, 4)), rtol=1e-12)
    change = np.diff(frames, axis=1)
    np.testing.assert_allclose(statistics.mean_delta, change.mean((0, 1, 3, 4)), rtol=1e-12)
    np.testing.assert_allclose(statistics.std_delta, change.std((0, 1, 3, 4)), rtol=1e-12)
    last, new = frames[:, 1], frames[:, 2]  # the one step after a history of two
    expected = np.sqrt(((new - last) ** 2).sum((2, 3)) / (new**2).sum((2, 3))).mean(0)
    np.testing.assert_allclose(statistics.persistence, expected, rtol=1e-12)
    assert statistics.mean_persistence == pytest.approx(expected.mean())
    assert open_fields(path).measured_statistics(history=2) == statistics


def test_truncated_and_foreign_files_are_named(path, tmp_path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"gas\.hdf5 is truncated.*again"):
        open_fields(path)
    path.write_bytes(b"no data")
    with pytest.raises(ValueError, match=r"gas\.hdf5 is no HDF5 file"):
        open_fields(path)
    with h5py.File(path, "w") as file:
        file["u"] = np.zeros(3)
    with pytest.raises(ValueError, match=r"not of the layout of the Well: the groups dimensions.*write_fields"):
        open_fields(path)
    with pytest.raises(FileNotFoundError, match=r"did you mean .*gas\.hdf5"):
        open_fields(tmp_path / "gaz.hdf5")
    path.unlink()
    with pytest.raises(FileNotFoundError, match="holds no"):
        open_fields(tmp_path)


def change(path, what):
    with h5py.File(path, "r+") as file:
        what(file)


def test_inconsistent_files_are_named(path):
    change(path, lambda file: file.attrs.__setitem__("n_trajectories", 6))
    with pytest.raises(ValueError, match=r"t0_fields/density has the shape \(5, 3, 6, 4\); expected \(6, 3, 6, 4\)"):
        open_fields(path)
    change(path, lambda file: file.attrs.__delitem__("n_trajectories"))
    with pytest.raises(ValueError, match="n_trajectories"):
        open_fields(path)


def test_what_is_no_number_is_named(path):
    change(path, lambda file: file["t1_fields/velocity"].__setitem__((3, 1, 2, 2, 1), np.nan))
    fields = open_fields(path)
    assert fields.frames(slice(0, 3)).shape[0] == 3
    with pytest.raises(ValueError, match=r"gas\.hdf5.*trajectory 3, frame 1: velocity_y is NaN"):
        fields.frames()
    bad = random_frames(5)
    bad[4, 2, 0] = np.inf
    with pytest.raises(ValueError, match=r"gas is not written: trajectory 4, frame 2: density is NaN"):
        write_fields(path.with_name("bad.hdf5"), CONTENT, [bad[:2], bad[2:]], trajectories=5)
    assert sorted(one.name for one in path.parent.iterdir()) == ["gas.hdf5"]


def test_wrong_channels_are_named(path):
    open_fields(path, channels=["density", "velocity_x", "velocity_y"])
    with pytest.raises(ValueError, match=r"in another order.*that of the file"):
        open_fields(path, channels=["velocity_x", "velocity_y", "density"])
    with pytest.raises(ValueError, match=r"has the channels density, velocity_x.*expected smoke"):
        open_fields(path, channels=["smoke"])
    for wrong in ([1, 2, 0], [0, 2, 1]):
        with pytest.raises(ValueError, match="first scalars, then all components of each vector, x first"):
            FieldSet("gas", GRID, [FIELDS[i] for i in wrong], times=[0, 1])


def test_wrong_numbers_are_named(path):
    fields = open_fields(path)
    with pytest.raises(ValueError, match="there is no trajectory 5"):
        fields.frames(5)
    with pytest.raises(ValueError, match="must rise"):
        fields.frames(slice(None, None, -1))
    with pytest.raises(ValueError, match="got 2 trajectories; expected 5"):
        write_fields(path, CONTENT, [random_frames(2)], trajectories=5)
    with pytest.raises(ValueError, match=r"expected 1 of \(frames, channels, \*grid\) = \(3, 3, 6, 4\)"):
        write_fields(path, CONTENT, [random_frames(2)], trajectories=1)
    with pytest.raises(ValueError, match="expected one of train"):
        open_fields(path, "validation")


def test_files_that_do_not_belong_together_are_named(path):
    other = FieldSet("air", GRID, FIELDS, times=[0, 1, 2])
    write_fields(path.with_name("other.hdf5"), other, [random_frames(1)], trajectories=1)
    with pytest.raises(ValueError, match="do not belong together: they differ in name"):
        open_fields(path.parent)
