"""Checkpoints: a folder with the weights in `model.safetensors` and what rebuilds the model in `config.json`.

Nothing is unpickled, and the model class is looked up in a literal table, so a checkpoint from a stranger is only data.
A shipped checkpoint is a folder in `sciml/potentials/weights` and is loaded by its name.
"""

import importlib
import inspect
import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ase.io
import torch
from ase import Atoms
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sciml.files import atomic_write
from sciml.messages import did_you_mean
from sciml.potentials.interface import Potential
from sciml.training.checkpoints import TRAINING_ONLY

FORMAT_VERSION = 1

MODELS: dict[str, str] = {
    "committee": "sciml.potentials.committee:Committee",
    "escaip": "sciml.potentials.escaip:EScAIP",
    "facet": "sciml.potentials.facet:Facet",
    "lennard_jones": "sciml.potentials.analytic:LennardJones",
    "lens": "sciml.potentials.lens:Lens",
    "morse": "sciml.potentials.analytic:Morse",
    "tdn": "sciml.potentials.tdn:TDN",
    "transip": "sciml.potentials.transip:TransIP",
}
"""Name in a checkpoint or YAML file -> import path of the class; `MODELS["mine"] = "package.module:Class"` adds one."""

WEIGHTS = Path(__file__).parent / "weights"

DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "float64": torch.float64}


def build_potential(name: str, config: Mapping[str, Any]) -> Potential:
    """Build the model `name` of `MODELS` with the keyword arguments `config`, freshly initialised.

    Raises:
        ValueError: if there is no such model, or it does not take one of the arguments, or lacks one.
    """
    model = model_class(name)
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


def model_class(name: str) -> type[Potential]:
    """The class of the model `name` of `MODELS`.

    Raises:
        ValueError: if there is no such model.
    """
    if name not in MODELS:
        hint = did_you_mean(name, MODELS) or ";"
        raise ValueError(f"there is no model {name!r}{hint} choose one of {', '.join(MODELS)}")
    module, _, attribute = MODELS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def model_name(potential: Potential) -> str:
    """Name of the class of `potential` in `MODELS`.

    Raises:
        ValueError: if it is not there.
    """
    path = f"{type(potential).__module__}:{type(potential).__qualname__}"
    for name, known in MODELS.items():
        if known == path:
            return name
    raise ValueError(
        f"{type(potential).__qualname__} cannot be saved because it has no name: "
        f"add one with sciml.potentials.checkpoint.MODELS['my_model'] = {path!r}, before loading as well"
    )


def potential_dtype(potential: Potential) -> torch.dtype:
    """Dtype of the parameters; float64 if there are none."""
    return next((p.dtype for p in potential.parameters() if p.is_floating_point()), torch.float64)


def as_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """Turn "float32" or "float64" into the torch dtype.

    Raises:
        ValueError: if it is another.
    """
    found = DTYPES.get(str(dtype).removeprefix("torch."))
    if found is None:
        raise ValueError(f"got dtype {dtype!r}; a potential runs in {' or '.join(DTYPES)}")
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


def save_potential(potential: Potential, folder: str | Path, *, metadata: Mapping[str, Any] | None = None) -> None:
    """Write `potential` to `folder`, each file atomically; `metadata` (JSON values) goes into config.json.

    A submodule `training_only` (`sciml.training.checkpoints.TRAINING_ONLY`) is left out.

    Raises:
        ValueError: if the class is not in `MODELS`, or the config or metadata are not JSON values.
    """
    folder = Path(folder)
    description = {
        "format_version": FORMAT_VERSION,
        "model": model_name(potential),
        "config": potential.config,
        "dtype": str(potential_dtype(potential)).removeprefix("torch."),
        "metadata": dict(metadata or {}),
    }
    try:
        text = json.dumps(description, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ValueError(f"config and metadata of a checkpoint must be JSON values: {error}") from error
    tensors = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
               for name, tensor in potential.state_dict().items()
               if not name.startswith(f"{TRAINING_ONLY}.")}  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / "model.safetensors", lambda path: save_file(tensors, path))
    atomic_write(folder / "config.json", lambda path: path.write_text(text, encoding="utf-8"))


def read_config(folder_or_name: str | Path) -> dict[str, Any]:
    """Read the config.json of a checkpoint: format_version, model, config, dtype, metadata.

    Raises:
        ValueError: if it is not there, not valid, or written by a newer version of this package.
    """
    folder = checkpoint_folder(folder_or_name)
    path = folder / "config.json"
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); was it edited by hand?") from error
    version = description.get("format_version") if isinstance(description, dict) else None
    if not isinstance(version, int):
        raise ValueError(f"{path} has no format_version, so it is not a checkpoint of this package")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version}, this package reads up to {FORMAT_VERSION}; "
            "upgrade with `pip install -U sciml-suite`"
        )
    absent = {"model", "config", "dtype"} - description.keys()
    if absent:
        raise ValueError(f"{path} lacks {', '.join(sorted(absent))}")
    return description


def load_potential(
    folder_or_name: str | Path, *, device: str | torch.device = "cpu", dtype: str | torch.dtype | None = None
) -> Potential:
    """Load a checkpoint folder, or shipped weights by name, in evaluation mode; `dtype` None keeps the saved one.

    Raises:
        ValueError: if there is no such checkpoint, or the weights do not fit the model.
    """
    folder = checkpoint_folder(folder_or_name)
    description = read_config(folder)
    device = as_device(device)
    potential = build_potential(description["model"], description["config"]).to(as_dtype(description["dtype"]))
    path = folder / "model.safetensors"
    try:
        potential.load_state_dict(load_file(path), strict=True)
    except FileNotFoundError as error:
        raise ValueError(f"the checkpoint {folder} has no model.safetensors") from error
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error})") from error
    except RuntimeError as error:  # torch reports on several lines
        raise ValueError(
            f"{path} does not fit the model of its config.json ({textwrap.shorten(str(error), 500)}); "
            "were the two files written by the same run?"
        ) from error
    return potential.to(device=device, dtype=None if dtype is None else as_dtype(dtype)).eval()


def checkpoint_folder(folder_or_name: str | Path) -> Path:
    """Folder of a checkpoint, given by its path or by the name of shipped weights; a run folder is not guessed into.

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
    names = available_weights()
    if str(folder_or_name) in names:
        return WEIGHTS / str(folder_or_name)
    shipped = f"the shipped weights are {', '.join(names)}" if names else "no weights are shipped with this version"
    raise ValueError(
        f"there is no checkpoint folder {str(folder_or_name)!r} (working directory: {Path.cwd()}) "
        f"and no shipped weights of that name{did_you_mean(str(folder_or_name), names) or ';'} {shipped}"
    )


def shipped_structure(name: str) -> Atoms:
    """A structure that the shipped weights `name` are made for, relaxed with them.

    Raises:
        ValueError: if there are no such weights, or they came without a structure.
    """
    path = checkpoint_folder(name) / "structure.xyz"
    if not path.is_file():
        raise ValueError(f"the weights {name} have no structure: {path} is missing")
    atoms = ase.io.read(path)
    assert isinstance(atoms, Atoms)
    return atoms


def available_weights() -> list[str]:
    """Names of the shipped weights."""
    return sorted(path.parent.name for path in WEIGHTS.glob("*/config.json"))
