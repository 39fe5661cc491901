"""Pictures are drawn and films are written, frame by frame."""

import numpy as np
import pytest
from PIL import Image

from sciml.integrators import field_pictures as pictures
from sciml.integrators.field_presets import simulation
from sciml.integrators.kink_collisions import CollisionSettings, sweep_velocities


@pytest.fixture(scope="module")
def run():
    return simulation("kink-antikink", time=40.0, frames=41, num_x=512).run()


def test_pictures(run, tmp_path):
    for name in ("space_time_map", "conservation", "phase_portrait", "spectrum"):
        figure = getattr(pictures, name)(run)
        figure.savefig(tmp_path / f"{name}.png", dpi=50)
        assert np.asarray(Image.open(tmp_path / f"{name}.png")).std() > 5  # not blank
        assert all(axes.get_xlabel() for axes in figure.axes[:1])


def test_fractal(tmp_path):
    sweep = sweep_velocities([0.2, 0.25, 0.3], CollisionSettings(time=60.0, length=120.0, num_x=256, dt=0.3))
    pictures.collision_fractal(sweep).savefig(tmp_path / "fractal.png", dpi=50)


@pytest.mark.parametrize("preset", ["kink", "collapsing-ring"])
def test_films(preset, tmp_path):
    short = simulation(preset, time=2.0, frames=5, num_x=96 if preset == "collapsing-ring" else None).run()
    calls = []
    pictures.write_film(
        short, tmp_path / "film.gif", every=2, on_progress=lambda done, total: calls.append((done, total))
    )
    assert Image.open(tmp_path / "film.gif").n_frames >= 1
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert [path.name for path in tmp_path.iterdir()] == ["film.gif"]


def test_other_films_are_refused(run, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"films are \.gif or \.mp4"):
        pictures.write_film(run, tmp_path / "film.avi")
    monkeypatch.setattr(pictures.FFMpegWriter, "isAvailable", classmethod(lambda _: False))
    with pytest.raises(ValueError, match="ffmpeg is not installed"):
        pictures.write_film(run, tmp_path / "film.mp4")
