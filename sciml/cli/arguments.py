"""From flags and YAML to the `Config` of a job, by jsonargparse."""

import argparse
import dataclasses
import itertools
import json
import re
import types
import typing
from collections.abc import Iterable, Sequence
from typing import Any

from jsonargparse import ArgumentParser

from sciml.messages import did_you_mean


def parse_config(config_class: type, arguments: Sequence[str], *, program: str, description: str) -> Any:
    """Build `config_class` from `--config FILE.yaml` and flags; of two that name the same field the later one counts.

    A field of type list takes its values side by side (`--temperatures 300 500`) as well as in YAML (`[300, 500]`), the
    entries of a dict are flags of their own (`--model.channels 64`), a bool needs no value (`--cell` is `--cell true`),
    and dashes in flags count as underscores.

    Raises:
        ValueError: if a flag or key is unknown or missing, or a value has the wrong type.
    """
    parser = ArgumentParser(prog=program, description=description, exit_on_error=False)
    parser.add_argument("--config", action="config", help="YAML file with any of the flags below as keys.")
    parser.add_class_arguments(config_class)
    try:
        namespace = parser.instantiate(parser.parse_args(spell_out(arguments, config_class)))
    except argparse.ArgumentError as error:
        message = explain(str(error), setting_names(config_class))
        raise ValueError(f"{message}\n`{program} --help` lists the flags") from None
    return config_class(**{field.name: namespace[field.name] for field in dataclasses.fields(config_class)})


def setting_names(config_class: type, prefix: str = "") -> list[str]:
    """Names of the fields, and of those of nested dataclasses: keys, keys.energy, ..."""
    hints = typing.get_type_hints(config_class)
    names: list[str] = []
    for field in dataclasses.fields(config_class):
        names.append(f"{prefix}{field.name}")
        if dataclasses.is_dataclass(hints[field.name]):
            names += setting_names(hints[field.name], f"{names[-1]}.")
    return names


def spell_out(arguments: Sequence[str], config_class: type) -> list[str]:
    """Write flags as the parser takes them: `--init-from a` as `--init_from=a`, `--data a b` as `--data=["a","b"]`."""
    hints = {"config": str, **typing.get_type_hints(config_class)}
    spelled: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        flag, equals, value = argument.removeprefix("--").partition("=")
        flag = flag.replace("-", "_")
        if not argument.startswith("--") or flag.partition(".")[0].removesuffix("+") not in hints:
            spelled.append(argument)
            continue
        element = element_type(hints.get(flag))
        values = [value] if equals else []
        while rest and not equals and is_value(rest[0]) and (element is not None or not values):
            values.append(rest.pop(0))
        if element is not None and values:
            values = [as_list(values, element)]
        if hints.get(flag) is bool and not values:
            values = ["true"]
        spelled.append("=".join([f"--{flag}", *values]))
    return spelled


def name_leading_words(arguments: Sequence[str], *, field: str, config_class: type) -> list[str]:
    """Give the words before the first flag to `field`: all of them if it is a list, else the first."""
    words = list(itertools.takewhile(lambda argument: not argument.startswith("-"), arguments))
    if words and element_type(typing.get_type_hints(config_class)[field]) is None:
        words = words[:1]
    return [f"--{field}", *words, *arguments[len(words) :]] if words else list(arguments)


def as_list(values: Sequence[str], element: Any) -> str:
    """One YAML list of the values, unless the only value is a list already, or null."""
    if len(values) == 1 and (values[0].startswith("[") or values[0] == "null"):
        return values[0]
    return f"[{','.join(value if is_number(value) and element is not str else json.dumps(value) for value in values)}]"


def element_type(hint: Any) -> Any | None:
    """Type of the elements if `hint` is a list or a tuple, perhaps optional; None for every other type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        members = [member for member in arguments if member is not type(None)]
        return element_type(members[0]) if len(members) == 1 else None
    return arguments[0] if isinstance(origin, type) and issubclass(origin, list | tuple) and arguments else None


def is_value(text: str) -> bool:
    """Whether `text` belongs to the flag before it; what starts with one dash does: -1.5, or the slice -5:."""
    return not text.startswith("--") and text != "-h"


def is_number(text: str) -> bool:
    """Whether `text` reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def explain(message: str, names: Iterable[str]) -> str:
    """Put a complaint of the parser into the user's words, with the name that was probably meant."""
    if unknown := re.search(r"unrecognized arguments: --([\w.-]+)", message):
        return f"unknown flag --{unknown[1]}{nearest(unknown[1].replace('-', '_'), names, prefix='--')}"
    if unknown := re.search(r"Option '([\w.-]+)' is not accepted", message):
        return f"unknown key {unknown[1]!r} in the configuration file{nearest(unknown[1], names)}"
    if unknown := re.search(r"Group '([\w.]+)' does not accept option '([\w.-]+)'", message):
        key = f"{unknown[1]}.{unknown[2]}"
        return f"unknown key {key!r} in the configuration file{nearest(key, names)}"
    message = message.replace('Parser key "config": File does not exist', "no such file")
    message = re.sub(r'Parser key "([\w.]+)":\s*', r"\1: ", message)
    return re.sub(r"<class '(\w+)'>", r"\1", message)


def nearest(word: str, names: Iterable[str], *, prefix: str = "") -> str:
    """`; did you mean ...?`, or all settings of the group that a dotted name begins with."""
    group, dot, rest = word.partition(".")
    names = list(names)
    members = [name.removeprefix(f"{group}.") for name in names if dot and name.startswith(f"{group}.")]
    if not members:
        return did_you_mean(word, names, prefix=prefix)
    return did_you_mean(rest, members, prefix=f"{prefix}{group}.") or f"; {group} has {', '.join(members)}"
