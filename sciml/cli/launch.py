"""What every training run starts with: processes on their devices, and settings in plain containers."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from lightning_fabric import Fabric


def launch(device: str, *, bfloat16: bool = False) -> Fabric:
    """The processes: one, or those that torchrun started, each on its device.

    Args:
        device: auto, cpu, cuda or cuda:1.
        bfloat16: whether its autocast rounds to bfloat16; otherwise it does nothing.

    Raises:
        ValueError: if there is no such device.
    """
    world, local = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    kind, _, number = device.partition(":")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise ValueError(f"got the device {device!r}; expected auto, cpu, cuda or cuda:1")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"got the device {device!r}, but torch {torch.__version__} finds no CUDA device here")
    if number and world > 1:
        raise ValueError(f"got the device {device!r} with {world} processes; give 'cuda', each takes one of its own")
    fabric = Fabric(
        accelerator=kind,
        devices=[int(number)] if number and kind == "cuda" else local,
        num_nodes=world // local,
        strategy="ddp" if world > 1 else "auto",
        precision="bf16-mixed" if bfloat16 else None,
    )
    fabric.launch()
    return fabric


def plain(value: Any) -> Any:
    """Nested containers as dicts and lists, which YAML writes without tags."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, tuple | list) else value


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
