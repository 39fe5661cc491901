"""The state that a killed training continues from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sciml.files import atomic_write
from sciml.messages import differing_settings

FORMAT_VERSION = 1

TRAINING_ONLY = "training_only"
"""Name of a model's submodule that helps to train it: the training state has its weights, a checkpoint does not."""


def save_training_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings and containers of them) atomically."""
    atomic_write(path, lambda temporary: torch.save({"format_version": FORMAT_VERSION, **state}, temporary))


def load_training_state(path: Path) -> dict[str, Any] | None:
    """The state saved at `path`, on the CPU, or None if there is none; no code in the file is run.

    Raises:
        ValueError: if it was written by another version of the format.
    """
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    version = state.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version}, this version of sciml reads {FORMAT_VERSION}; "
            "start in a new output folder (with --init-from the old one's best/ to keep its weights)"
        )
    return state


def check_fingerprint(saved: Mapping[str, Any], current: Mapping[str, Any], *, folder: Path) -> None:
    """Refuse to continue a run under other settings or on other data than it was started with.

    Raises:
        ValueError: naming each setting that differs, with both values.
    """
    lines = "\n  ".join(differing_settings(saved, current, longest=2000))
    if not lines:
        return
    raise ValueError(
        f"{folder} holds a run with other settings:\n  {lines}\n"
        "give the same settings to continue it, another output folder for a new run, "
        f"or a new folder with --init_from {folder / 'best'} to start from its weights"
    )
