"""Checkpoints of surrogates: a folder with weights, and all that a prediction in physical units needs.

`config.json` has the format version, the network and its arguments, fields with their units, the time between frames,
the grid with its boundaries, and mean and standard deviation of each field. Nothing is unpickled.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sciml import model_folder
from sciml.pde.grid import Grid
from sciml.pde.network import Network
from sciml.pde.stepper import Field
from sciml.pde.surrogate import Normalisation, Surrogate

FORMAT_VERSION = 1

NETWORKS: dict[str, str] = {
    "dilated_resnet": "sciml.pde.dilated_resnet:DilatedResNet",
    "fno": "sciml.pde.fourier_operator:FourierOperator",
    "sinenet": "sciml.pde.sinenet:SineNet",
    "unet": "sciml.pde.unet:ModernUNet",
}
"""Name in a checkpoint or YAML file -> import path of the class; `NETWORKS["mine"] = "module:Class"` adds one."""

WEIGHTS = Path(__file__).parent / "weights"

_KEYS = {"model", "config", "dtype", "fields", "grid", "frame_time", "history", "bundle", "delta", "normalisation"}


def build_network(name: str, config: Mapping[str, Any]) -> Network:
    """Build the network `name` of `NETWORKS` with the keyword arguments `config`, freshly initialised.

    Raises:
        ValueError: if there is no such network, or it does not take one of the arguments, or lacks one.
    """
    return model_folder.build(name, config, NETWORKS)


def save_surrogate(surrogate: Surrogate, folder: str | Path, *, metadata: Mapping[str, Any] | None = None) -> None:
    """Write `surrogate` to `folder`, each file atomically; `metadata` (JSON values) goes into config.json.

    Raises:
        ValueError: if the class of the network is not in `NETWORKS`, or something is no JSON value.
    """
    network = surrogate.network
    description = {
        "format_version": FORMAT_VERSION,
        "model": model_folder.name_of(network, NETWORKS, table="sciml.pde.checkpoint.NETWORKS"),
        "config": network.config,
        "dtype": str(next(network.parameters()).dtype).removeprefix("torch."),
        **surrogate.description,
        "metadata": dict(metadata or {}),
    }
    model_folder.write_model(network, Path(folder), description)


def read_surrogate_config(folder_or_name: str | Path) -> dict[str, Any]:
    """Read the config.json of a surrogate.

    Raises:
        ValueError: if it is not there, not valid, of a potential, or written by a newer version of this package.
    """
    folder = model_folder.find_folder(folder_or_name, WEIGHTS)
    description = model_folder.read_description(folder, version=FORMAT_VERSION, keys={"model", "config"})
    if "fields" not in description and description["model"] not in NETWORKS:
        raise ValueError(f"{folder} is the potential {description['model']!r}, not a surrogate of an equation")
    absent = _KEYS - description.keys()
    if absent:
        raise ValueError(f"{folder / 'config.json'} lacks {', '.join(sorted(absent))}")
    return description


def load_surrogate(
    folder_or_name: str | Path, *, device: str | torch.device = "cpu", dtype: str | torch.dtype | None = None
) -> Surrogate:
    """Load a checkpoint folder, or shipped weights by name, in evaluation mode; `dtype` None keeps the saved one.

    Raises:
        ValueError: if there is no such checkpoint, or the weights do not fit the network.
    """
    folder = model_folder.find_folder(folder_or_name, WEIGHTS)
    found = read_surrogate_config(folder)
    device = model_folder.as_device(device)
    network = build_network(found["model"], found["config"]).to(model_folder.as_dtype(found["dtype"]))
    model_folder.read_weights(network, folder)
    grid = dict(found["grid"])
    surrogate = Surrogate(
        network,
        fields=[Field(**field) for field in found["fields"]],
        at=grid.pop("at", "centers"),
        grid=Grid(**grid),
        frame_time=found["frame_time"],
        normalisation={name: Normalisation(**one) for name, one in found["normalisation"].items()},
        history=found["history"],
        bundle=found["bundle"],
        delta=found["delta"],
        parameters={name: Normalisation(**one) for name, one in found.get("parameters", {}).items()},
        units=found.get("units"),
    )
    wanted = model_folder.as_dtype(found["dtype"] if dtype is None else dtype)
    return surrogate.to(device=device, dtype=wanted).eval()
