import os

import pytest

from sciml.files import atomic_write


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "folder" / "file.txt"
    atomic_write(path, lambda p: p.write_text("old"))

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        atomic_write(path, fail)
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["file.txt"]


def test_what_a_killed_write_left_does_not_disturb_the_next(tmp_path):
    path = tmp_path / "file.txt"
    (tmp_path / ".tmp-file.txt").write_text("left by a killed process")
    atomic_write(path, lambda p: p.write_text("new"))
    assert os.listdir(tmp_path) == ["file.txt"]
