import errno
import os
import stat
from contextlib import nullcontext

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


def test_files_and_their_folder_are_flushed_in_order(tmp_path, monkeypatch):
    """After a power failure, a file may not be there without those that were written before it."""
    events = []
    replace, fsync = os.replace, os.fsync

    def spied_fsync(descriptor):
        events.append(("flush", os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))))
        fsync(descriptor)

    def spied_replace(source, target):
        events.append(("rename", os.path.basename(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", spied_fsync)
    monkeypatch.setattr(os, "replace", spied_replace)
    atomic_write(tmp_path / "file.txt", lambda p: p.write_text("new"))
    assert events == [("flush", ".tmp-file.txt"), ("rename", "file.txt"), ("flush", tmp_path.name)]


@pytest.mark.parametrize(("code", "tolerated"), [(errno.EINVAL, True), (errno.EIO, False)])
def test_a_file_system_that_cannot_flush_folders_is_good_enough(tmp_path, monkeypatch, code, tolerated):
    fsync = os.fsync

    def refuse_folders(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    with nullcontext() if tolerated else pytest.raises(OSError, match=os.strerror(code)):
        atomic_write(tmp_path / "file.txt", lambda p: p.write_text("new"))
    assert (tmp_path / "file.txt").read_text() == "new"
