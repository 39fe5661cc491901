"""What a training left behind: errors, lengths and times, read from a run folder, a checkpoint or shipped weights."""

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sciml.environment import sha256
from sciml.potentials.checkpoint import checkpoint_folder, read_config

TARGETS = ("energy_per_atom", "forces", "stress")

_EPOCH = re.compile(r"epoch (\d+), step \d+, ([\d.]+) s: ")  # a line of train.log


@dataclass(frozen=True)
class RunRecord:
    """A training, as far as it is known; what is not is None or empty.

    Attributes:
        name: as it was given.
        checkpoint: folder of the weights.
        model: name of the architecture, a key of `MODELS`.
        validation: RMSE by property on the validation structures: eV/atom, eV/Å, eV/Å³.
        test: RMSE by property on the test structures.
        validation_data: what tells validation sets apart: files, or how they were split off.
        test_data: what tells test sets apart: hashes of the files, and the frames.
        epoch: epoch of the weights.
        epochs: epochs of the whole training.
        steps: updates of the whole training.
        seconds: of the whole training, with those of `pretrained/`.
        equivariance_error: relative, of the model's sphere grids.
        settings: config.yaml of the run.
        metadata: that of the checkpoint.
    """

    name: str
    checkpoint: Path
    model: str
    validation: dict[str, float]
    test: dict[str, float]
    validation_data: str
    test_data: str
    epoch: int | None
    epochs: int | None
    steps: int | None
    seconds: float | None
    equivariance_error: float | None
    settings: dict[str, Any]
    metadata: dict[str, Any]


def read_run(name: str) -> RunRecord:
    """Read a run folder (its best/ and test/), a checkpoint folder or shipped weights.

    Raises:
        ValueError: if there is none, or test/ was made with other weights.
    """
    given = Path(name)
    checkpoint = given / "best" if (given / "best" / "config.json").is_file() else checkpoint_folder(name)
    run = checkpoint.parent if checkpoint.name == "best" else checkpoint
    description = read_config(checkpoint)
    metadata = description.get("metadata", {})
    card = metadata.get("card", {})
    settings = _read_settings(run / "config.yaml") or card.get("settings", {})
    test, test_data = _read_test(run / "test" / "evaluation.json", checkpoint)
    epochs, steps = _read_length(run / "metrics.csv")
    keys = ("train", "valid", "valid_fraction", "index", "seed")
    return RunRecord(
        name=name.rstrip("/"),
        checkpoint=checkpoint,
        model=description["model"],
        validation={key: metadata[f"valid_{key}_rmse"] for key in TARGETS if f"valid_{key}_rmse" in metadata},
        test=test or card.get("test", {}),
        validation_data=json.dumps([settings.get(key) for key in keys]) if settings else "",
        test_data=test_data or card.get("test_data", ""),
        epoch=metadata.get("epoch"),
        epochs=epochs or card.get("epochs"),
        steps=steps or card.get("steps", metadata.get("step")),
        seconds=_read_seconds(run) or card.get("seconds"),
        equivariance_error=metadata.get("equivariance_error"),
        settings=settings,
        metadata=metadata,
    )


def _read_settings(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _read_test(path: Path, checkpoint: Path) -> tuple[dict[str, float], str]:
    """RMSE by property, and what identifies the structures."""
    if not path.is_file():
        return {}, ""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        weights, overall = report["checkpoint"]["sha256"], report["overall"]
        data = json.dumps([sorted(file["sha256"] for file in report["data"]), report["index"]])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a report of `sciml evaluate` ({error!r}); evaluate again") from error
    if weights != sha256(checkpoint / "model.safetensors"):
        raise ValueError(
            f"{path} was made with other weights than those in {checkpoint}; evaluate them with "
            f"`sciml evaluate --checkpoint {checkpoint} --output {path.parent} --data FILE`"
        )
    return {key: overall[key]["rmse"] for key in TARGETS if key in overall}, data


def _read_length(path: Path) -> tuple[int | None, int | None]:
    """Epochs and steps of the last row of metrics.csv."""
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) if path.is_file() else []
    return (int(rows[-1]["epoch"]), int(rows[-1]["step"])) if rows else (None, None)


def _read_seconds(run: Path) -> float | None:
    """Sum over the epochs in train.log, which a continued run appends to, and over those of pretrained/train.log."""
    seconds: dict[tuple[str, int], float] = {}
    for path in (run / "train.log", run / "pretrained" / "train.log"):
        if path.is_file():
            for epoch, duration in _EPOCH.findall(path.read_text(encoding="utf-8")):
                seconds[str(path), int(epoch)] = float(duration)
    return sum(seconds.values()) if seconds else None
