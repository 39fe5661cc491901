"""What a result was made with: versions and hardware, for the JSON files that carry numbers."""

import hashlib
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import sciml

_DISTRIBUTIONS = ("torch", "numpy", "e3nn", "torch-geometric", "ase", "vesin", "triton")


def describe_environment() -> dict[str, Any]:
    """Versions of this package and of what it computes with, processor, threads and GPUs, as JSON values."""
    return {
        "versions": {
            "sciml": sciml.__version__,
            "python": platform.python_version(),
            **{name: version for name in _DISTRIBUTIONS if (version := _version(name)) is not None},
        },
        "hardware": {
            "platform": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        },
    }


def sha256(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
