"""From flags and YAML to the `Config` of a job, by jsonargparse."""

import argparse
import dataclasses
import difflib
import json
import re
import types
import typing
from collections.abc import Iterable, Sequence
from typing import Any

from jsonargparse import ArgumentParser


def parse_config(config_class: type, arguments: Sequence[str], *, program: str, description: str) -> Any:
    """Build `config_class` from `--config FILE.yaml` and flags; of two that name the same field the later one counts.

    A field of type list takes its values side by side (`--temperatures 300 500`) as well as in YAML (`[300, 500]`), and
    the entries of a dict are flags of their own (`--model.channels 64`).

    Raises:
        ValueError: if a flag or key is unknown or missing, or a value has the wrong type.
    """
    parser = ArgumentParser(prog=program, description=description, exit_on_error=False)
    parser.add_argument("--config", action="config", help="YAML file with any of the flags below as keys.")
    parser.add_class_arguments(config_class)
    names = [field.name for field in dataclasses.fields(config_class)]
    try:
        namespace = parser.instantiate(parser.parse_args(join_lists(arguments, config_class)))
    except argparse.ArgumentError as error:
        raise ValueError(f"{explain(str(error), names)}\n`{program} --help` lists the flags") from None
    return config_class(**{name: namespace[name] for name in names})


def join_lists(arguments: Sequence[str], config_class: type) -> list[str]:
    """Write `--flag a b` as `--flag=["a","b"]` wherever the field `flag` of `config_class` is a list or a tuple."""
    elements = {
        f"--{name}": element
        for name, hint in typing.get_type_hints(config_class).items()
        if (element := element_type(hint)) is not None
    }
    joined: list[str] = []
    position = 0
    while position < len(arguments):
        flag, equals, value = arguments[position].partition("=")
        position += 1
        if flag not in elements:
            joined.append(flag + equals + value)
            continue
        values = [value] if equals else []
        while not equals and position < len(arguments) and not arguments[position].startswith("--"):
            values.append(arguments[position])
            position += 1
        if not values or (len(values) == 1 and (values[0].startswith("[") or values[0] == "null")):
            joined += [flag, *values]
        else:
            items = [item if is_number(item) and elements[flag] is not str else json.dumps(item) for item in values]
            joined.append(f"{flag}=[{','.join(items)}]")
    return joined


def element_type(hint: Any) -> Any | None:
    """Type of the elements if `hint` is a list or a tuple, perhaps optional; None for every other type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        members = [member for member in arguments if member is not type(None)]
        return element_type(members[0]) if len(members) == 1 else None
    return arguments[0] if isinstance(origin, type) and issubclass(origin, list | tuple) and arguments else None


def is_number(text: str) -> bool:
    """Whether `text` reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def explain(message: str, names: Iterable[str]) -> str:
    """Name the flag or key that was probably meant where the parser complains about an unknown one."""
    unknown = re.search(r"unrecognized arguments: --([\w.-]+)|Option '([\w-]+)' is not accepted", message)
    if unknown is None:
        return message.replace('Parser key "config": File does not exist', "no such file")
    word = unknown[1] or unknown[2]
    kind = f"unknown flag --{word}" if unknown[1] else f"unknown key {word!r} in the configuration file"
    return kind + did_you_mean(word.replace("-", "_"), names)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` with the nearest of the known words, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
