"""A trained model as a folder: the weights in `model.safetensors`, and what rebuilds it in `config.json`.

What checkpoints of potentials and of surrogates share. Nothing is unpickled, and the class of a model is looked up in a
literal table, so that a checkpoint from a stranger is only data.
"""

import importlib
import inspect
import json
import textwrap
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from sciml.files import atomic_write
from sciml.messages import did_you_mean
from sciml.training.checkpoints import TRAINING_ONLY

DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "float64": torch.float64}


def class_of(name: str, models: Mapping[str, str]) -> Any:
    """The class of the model `name` in a table of import paths.

    Raises:
        ValueError: if there is no such model.
    """
    if name not in models:
        hint = did_you_mean(name, models) or ";"
        raise ValueError(f"there is no model {name!r}{hint} choose one of {', '.join(models)}")
    module, _, attribute = models[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def name_of(model: nn.Module, models: Mapping[str, str], *, table: str) -> str:
    """Name of the class of `model` in a table of import paths, which has the name `table` for the user.

    Raises:
        ValueError: if it is not there.
    """
    path = f"{type(model).__module__}:{type(model).__qualname__}"
    for name, known in models.items():
        if known == path:
            return name
    raise ValueError(
        f"{type(model).__qualname__} cannot be saved because it has no name: "
        f"add one with {table}['my_model'] = {path!r}, before loading as well"
    )


def build(name: str, config: Mapping[str, Any], models: Mapping[str, str]) -> Any:
    """Build the model `name` with the keyword arguments `config`, freshly initialised.

    Raises:
        ValueError: if there is no such model, or it does not take one of the arguments, or lacks one.
    """
    model = class_of(name, models)
    parameters = inspect.signature(model).parameters
    for argument in config:
        if argument not in parameters:
            raise ValueError(
                f"model {name!r} has no argument {argument!r}{did_you_mean(argument, parameters) or ';'} "
                f"it takes {', '.join(parameters)}"
            )
    missing = [p.name for p in parameters.values() if p.default is p.empty and p.name not in config]
    if missing:
        raise ValueError(f"model {name!r} needs the argument{'s' * (len(missing) > 1)} {', '.join(missing)}")
    return model(**config)


def as_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """Turn "float32" or "float64" into the torch dtype.

    Raises:
        ValueError: if it is another.
    """
    found = DTYPES.get(str(dtype).removeprefix("torch."))
    if found is None:
        raise ValueError(f"got dtype {dtype!r}; a model runs in {' or '.join(DTYPES)}")
    return found


def as_device(device: str | torch.device) -> torch.device:
    """Turn a name such as "cpu" or "cuda:1" into the torch device.

    Raises:
        ValueError: if there is no such device here.
    """
    try:
        device = torch.device(device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # an AssertionError is what a torch built without CUDA raises
        reason = str(error).splitlines()[0]
        raise ValueError(f"cannot use the device {str(device)!r} ({reason}); try 'cpu'") from error
    return device


def write_model(model: nn.Module, folder: Path, description: Mapping[str, Any]) -> None:
    """Write the weights of `model`, and `description` as config.json, each file atomically.

    A submodule `training_only` (`sciml.training.checkpoints.TRAINING_ONLY`) is left out.

    Raises:
        ValueError: if the description is not made of JSON values.
    """
    try:
        text = json.dumps(description, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ValueError(f"config and metadata of a checkpoint must be JSON values: {error}") from error
    tensors = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
               for name, tensor in model.state_dict().items()
               if not name.startswith(f"{TRAINING_ONLY}.")}  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / "model.safetensors", lambda path: save_file(tensors, path))
    atomic_write(folder / "config.json", lambda path: path.write_text(text, encoding="utf-8"))


def read_description(folder: Path, *, version: int, keys: Collection[str]) -> dict[str, Any]:
    """The config.json of a checkpoint.

    Args:
        folder: of the checkpoint.
        version: newest format that is understood.
        keys: that have to be there.

    Raises:
        ValueError: if it is not valid, has not all keys, or was written by a newer version of this package.
    """
    path = folder / "config.json"
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); was it edited by hand?") from error
    found = description.get("format_version") if isinstance(description, dict) else None
    if not isinstance(found, int):
        raise ValueError(f"{path} has no format_version, so it is not a checkpoint of this package")
    if found > version:
        raise ValueError(
            f"{path} has format version {found}, this package reads up to {version}; "
            "upgrade with `pip install -U sciml-suite`"
        )
    absent = set(keys) - description.keys()
    if absent:
        raise ValueError(f"{path} lacks {', '.join(sorted(absent))}")
    return description


def read_weights(model: nn.Module, folder: Path) -> None:
    """Load the weights of a checkpoint into `model`, which is of the dtype that they were saved in.

    Raises:
        ValueError: if there are none, they are damaged, or they do not fit.
    """
    path = folder / "model.safetensors"
    try:
        model.load_state_dict(load_file(path), strict=True)
    except FileNotFoundError as error:
        raise ValueError(f"the checkpoint {folder} has no model.safetensors") from error
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error})") from error
    except RuntimeError as error:  # torch reports on several lines
        raise ValueError(
            f"{path} does not fit the model of its config.json ({textwrap.shorten(str(error), 500)}); "
            "were the two files written by the same run?"
        ) from error


def find_folder(folder_or_name: str | Path, weights: Path) -> Path:
    """Folder of a checkpoint, given by its path or by the name of shipped weights; a run folder is not guessed into.

    Args:
        folder_or_name: what the user gave.
        weights: folder of the shipped weights.

    Raises:
        ValueError: if there is none; it names what exists.
    """
    folder = Path(folder_or_name)
    if (folder / "config.json").is_file():
        return folder
    if folder.is_dir():
        inside = sorted(path.parent.name for path in folder.glob("*/config.json"))
        hint = f"; it contains the checkpoints {', '.join(str(folder / name) for name in inside)}" if inside else ""
        raise ValueError(f"the folder {folder} is not a checkpoint: it has no config.json{hint}")
    names = names_in(weights)
    if str(folder_or_name) in names:
        return weights / str(folder_or_name)
    shipped = f"the shipped weights are {', '.join(names)}" if names else "no weights are shipped with this version"
    raise ValueError(
        f"there is no checkpoint folder {str(folder_or_name)!r} (working directory: {Path.cwd()}) "
        f"and no shipped weights of that name{did_you_mean(str(folder_or_name), names) or ';'} {shipped}"
    )


def names_in(weights: Path) -> list[str]:
    """Names of the checkpoints in a folder."""
    return sorted(path.parent.name for path in weights.glob("*/config.json"))
