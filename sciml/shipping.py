"""What shipped weights of all kinds have in common: names, texts of their cards, sizes, settings without a machine."""

import argparse
import re
import shutil
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

LARGEST = 5_000_000  # bytes; all weights travel in every wheel

# Settings of a run that say where it happened, not what it was.
_LOCAL_SETTINGS = ("output", "device", "threads", "recorded", "max_time")


def check_card(name: str, texts: Mapping[str, str], *, architectures: Collection[str]) -> None:
    """Check the name of weights and the texts of their card.

    Raises:
        ValueError: for a name that is not of small letters, digits and dashes, or an architecture's; or an empty text.
    """
    if not re.fullmatch(r"[a-z0-9]+([-_][a-z0-9]+)*", name) or name in architectures:
        raise ValueError(
            f"got the name {name!r}; expected small letters, digits and dashes, and no architecture's name"
        )
    for field, text in texts.items():
        if not text.strip():
            raise ValueError(f"got an empty {field}; a card without it is of no use")


def check_free(target: Path, *, replace: bool) -> None:
    """Raise a ValueError if there are weights of that name, and `replace` is not set."""
    if target.exists() and not replace:
        raise ValueError(f"{target} exists; give --replace, or another name")


def put_in_place(folder: Path, target: Path, *, replace: bool) -> None:
    """Copy a checkpoint folder to where shipped weights are.

    Raises:
        ValueError: if there are weights of that name and `replace` is not set, or they are larger than 5 MB.
    """
    check_free(target, replace=replace)
    size = (folder / "model.safetensors").stat().st_size
    if size > LARGEST:
        raise ValueError(f"the weights take {size / 1e6:.1f} MB, at most {LARGEST / 1e6:.0f} MB are shipped")
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder, target)


def portable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of `sciml train` with the names of files only, and without what concerns the machine.

    >>> portable({"train": ["some/where/a.xyz"], "output": "runs/a", "seed": 0})
    {'train': ['a.xyz'], 'seed': 0}
    """
    kept = {key: value for key, value in settings.items() if key not in _LOCAL_SETTINGS and value is not None}
    for key in ("train", "valid", "test"):
        if key in kept:
            kept[key] = [Path(file).name for file in kept[key]]
    if "init_from" in kept:
        kept["init_from"] = Path(kept["init_from"]).name
    if "pretrain" in kept:
        kept["pretrain"] = portable(kept["pretrain"])
    return kept


def training_text(card: Mapping[str, Any]) -> str:
    """Lengths of a training, and its settings as a file for `sciml train`."""
    parts = [f"{card[key]:.4g} {key}" if key == "seconds" else f"{card[key]} {key}"
             for key in ("epochs", "steps", "seconds") if card.get(key) is not None]  # fmt: skip
    length = f"Length: {', '.join(parts)}.\n\n" if parts else ""
    if not card["settings"]:
        return f"{length}The settings are not known: the weights did not come from a run folder."
    settings = yaml.safe_dump(card["settings"], sort_keys=False, allow_unicode=True, width=110)
    return f"{length}`sciml train --config config.yaml`, with config.yaml:\n\n```yaml\n{settings}```"


def run_ship(
    ship: Callable[..., Path], argv: Sequence[str] | None, *, program: str, description: str, own: Mapping[str, str]
) -> int:
    """The command line of `ship`; returns the exit code, which is 2 for arguments that cannot be used.

    Args:
        ship: takes a run, a name, `own`, and data, licence, limits and replace.
        argv: arguments; None for those of the process.
        program: how it is called.
        description: one line.
        own: flags that only this `ship` has, and what they are.
    """
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("run", help="run folder")
    parser.add_argument("name", help="by which the weights will be loaded")
    texts = {
        **own,
        "data": "on what was trained, its source and licence",
        "licence": "of the weights",
        "limits": "what they must not be used for",
    }
    for flag, text in texts.items():
        parser.add_argument(f"--{flag}", required=True, help=text)
    parser.add_argument("--replace", action="store_true", help="replace weights of that name")
    try:
        target = ship(**vars(parser.parse_args(argv)))
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{program}: error: {error}\n")
        return 2
    sys.stdout.write(f"written: {target}\n")
    return 0
