"""Files that are either the old or the new version at every moment."""

import errno
import os
from collections.abc import Callable
from pathlib import Path


def atomic_write(path: Path, write: Callable[[Path], object]) -> None:
    """Replace the file `path` by what `write` writes, so that a crash leaves the old file or the new one, never a part.

    `write` gets a temporary file in the same folder with the same suffix; it is flushed to the disk and then renamed,
    which POSIX makes atomic. The folder is flushed last, so that of several files none outlives a power failure without
    those that were written before it. One process at a time may write a given path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        write(temporary)
        _flush(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush(path.parent)


def _flush(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL or not path.is_dir():  # some network file systems cannot flush folders
            raise
    finally:
        os.close(descriptor)
