"""Which of two jobs with one name is meant, potentials or surrogates, by what the arguments name."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml


def of_surrogates(arguments: Sequence[str], flag: str) -> bool:
    """Whether the value of a flag, such as "model.name" or "checkpoint", is that of a surrogate.

    The flag may be given by itself, inside `--config FILE.yaml`, or inside a group (`--model '{name: sinenet}'`); of
    several the last one counts. A name that nobody knows is none: the other job says what there is.
    """
    name = _value(arguments, flag.split("."))
    if not isinstance(name, str):
        return False
    if flag == "checkpoint":
        return _is_checkpoint(name)
    from sciml.pde.checkpoint import NETWORKS

    return name in NETWORKS


def _value(arguments: Sequence[str], keys: Sequence[str]) -> Any:
    found = None
    words = list(arguments)
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if not name.startswith("--"):
            continue
        value = value if equals else words[number + 1] if number + 1 < len(words) else ""
        path = name.removeprefix("--").replace("-", "_").split(".")
        if path == ["config"]:
            found = _inside(_load(Path(value)), keys, found)
        elif path == list(keys[: len(path)]):
            found = _inside(_parse(value), keys[len(path) :], found)
    return found


def _inside(value: Any, keys: Sequence[str], default: Any) -> Any:
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            return default
        value = value[key]
    return value


def _load(path: Path) -> Any:
    try:
        return _parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None  # the parser of the job complains better


def _parse(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def _is_checkpoint(name: str) -> bool:
    from sciml.pde.checkpoint import WEIGHTS

    for folder in (Path(name), WEIGHTS / name):
        try:
            description = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return isinstance(description, dict) and "fields" in description
    return False
