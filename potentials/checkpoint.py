"""Checkpoints: a folder with the weights in `model.safetensors` and what rebuilds the model in `config.json`.

Nothing is unpickled, and the model class is looked up in a literal table, so a checkpoint from a stranger is only data.
A shipped checkpoint is a folder in `sciml/potentials/weights` and is loaded by its name.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ase.io
import torch
from ase import Atoms

from sciml import model_folder
from sciml.model_folder import DTYPES as DTYPES
from sciml.model_folder import as_device, as_dtype
from sciml.potentials.interface import Potential

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


def build_potential(name: str, config: Mapping[str, Any]) -> Potential:
    """Build the model `name` of `MODELS` with the keyword arguments `config`, freshly initialised.

    Raises:
        ValueError: if there is no such model, or it does not take one of the arguments, or lacks one.
    """
    return model_folder.build(name, config, MODELS)


def model_class(name: str) -> type[Potential]:
    """The class of the model `name` of `MODELS`.

    Raises:
        ValueError: if there is no such model.
    """
    return model_folder.class_of(name, MODELS)


def model_name(potential: Potential) -> str:
    """Name of the class of `potential` in `MODELS`.

    Raises:
        ValueError: if it is not there.
    """
    return model_folder.name_of(potential, MODELS, table="sciml.potentials.checkpoint.MODELS")


def potential_dtype(potential: Potential) -> torch.dtype:
    """Dtype of the parameters; float64 if there are none."""
    return next((p.dtype for p in potential.parameters() if p.is_floating_point()), torch.float64)


def save_potential(potential: Potential, folder: str | Path, *, metadata: Mapping[str, Any] | None = None) -> None:
    """Write `potential` to `folder`, each file atomically; `metadata` (JSON values) goes into config.json.

    A submodule `training_only` (`sciml.training.checkpoints.TRAINING_ONLY`) is left out.

    Raises:
        ValueError: if the class is not in `MODELS`, or the config or metadata are not JSON values.
    """
    description = {
        "format_version": FORMAT_VERSION,
        "model": model_name(potential),
        "config": potential.config,
        "dtype": str(potential_dtype(potential)).removeprefix("torch."),
        "metadata": dict(metadata or {}),
    }
    model_folder.write_model(potential, Path(folder), description)


def read_config(folder_or_name: str | Path) -> dict[str, Any]:
    """Read the config.json of a checkpoint: format_version, model, config, dtype, metadata.

    Raises:
        ValueError: if it is not there, not valid, or written by a newer version of this package.
    """
    folder = checkpoint_folder(folder_or_name)
    description = model_folder.read_description(folder, version=FORMAT_VERSION, keys={"model", "config", "dtype"})
    if "fields" in description:
        raise ValueError(f"{folder} is a surrogate of an equation, not a potential; see sciml.pde.load_surrogate")
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
    model_folder.read_weights(potential, folder)
    return potential.to(device=device, dtype=None if dtype is None else as_dtype(dtype)).eval()


def checkpoint_folder(folder_or_name: str | Path) -> Path:
    """Folder of a checkpoint, given by its path or by the name of shipped weights; a run folder is not guessed into.

    Raises:
        ValueError: if there is none; it names what exists.
    """
    return model_folder.find_folder(folder_or_name, WEIGHTS)


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
    return model_folder.names_in(WEIGHTS)
