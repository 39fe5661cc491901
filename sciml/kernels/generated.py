"""Kernels whose source is written for one problem: kept as readable files, named by their content, and imported."""

import hashlib
import importlib.util
import logging
import os
import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from sciml.files import atomic_write

logger = logging.getLogger("sciml.kernels")


@lru_cache(maxsize=512)
def import_source(name: str, source: str) -> ModuleType:
    """The module with this source, from a file of that content.

    The file stands in the folder `kernels` of the user's cache ($SCIML_CACHE, else ~/.cache/sciml), or in a temporary
    folder if that cannot be written. Triton and debuggers read it; compiled kernels are in Triton's own cache.

    Args:
        name: how the file's name begins.
        source: Python source.
    """
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    path = _folder() / f"{name}_{digest}.py"
    if not path.is_file() or path.read_text(encoding="utf-8") != source:
        try:
            _write(path, source)
        except OSError as error:
            path = Path(tempfile.mkdtemp(prefix="sciml-kernels-")) / path.name
            logger.warning("cannot write kernels to the cache (%s); they are in %s", error, path.parent)
            _write(path, source)
    module_name = f"sciml_generated_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    return module


def _folder() -> Path:
    return Path(os.environ.get("SCIML_CACHE") or Path.home() / ".cache" / "sciml") / "kernels"


def _write(path: Path, source: str) -> None:
    # Several processes may write the same content: each its own temporary file.
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".tmp-") as folder:
        own = Path(folder) / path.name
        atomic_write(own, lambda temporary: temporary.write_text(source, encoding="utf-8"))
        os.replace(own, path)
