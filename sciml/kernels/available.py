"""Whether Triton kernels can run here. Imports Triton only when asked."""

import os
from importlib.util import find_spec

import torch


def interpreted() -> bool:
    """Whether kernels run in Triton's interpreter, slowly, on any device: TRITON_INTERPRET=1 was set in time."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def check_kernels() -> None:
    """Check that kernels could run on this machine.

    Raises:
        ValueError: with what is missing.
    """
    if find_spec("triton") is None:
        raise ValueError("the implementation 'triton' needs the package triton, which is not installed; use 'torch'")
    if not torch.cuda.is_available() and not interpreted():
        raise ValueError(
            "the implementation 'triton' needs a CUDA device, and torch finds none; use 'torch' or 'auto' "
            "(TRITON_INTERPRET=1 in the environment runs kernels on a CPU, for tests, very slowly)"
        )


def check_device(device: torch.device) -> None:
    """Check that kernels can run on tensors of a device.

    Raises:
        ValueError: if they cannot.
    """
    if device.type != "cuda" and not interpreted():
        raise ValueError(f"got tensors on {device}; the implementation 'triton' needs them on a CUDA device")
