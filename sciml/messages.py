"""What error messages are put together from."""

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any


def did_you_mean(word: str, known: Iterable[str], *, prefix: str = "") -> str:
    """`; did you mean ...?` with the nearest of the known words, or nothing.

    >>> did_you_mean("chanels", ["channels", "cutoff"], prefix="--")
    '; did you mean --channels?'
    """
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {prefix}{near[0]}?" if near else ""


def check_positive(values: Mapping[str, float]) -> None:
    """Check arguments, by name.

    Raises:
        ValueError: for the first that is not positive.
    """
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"got {name}={value}; it must be positive")


def check_not_negative(values: Mapping[str, float]) -> None:
    """Check arguments, by name.

    Raises:
        ValueError: for the first that is negative or not finite.
    """
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"got {name}={value}; it must not be negative")


def differing_settings(saved: Mapping[str, Any], current: Mapping[str, Any], *, longest: int = 60) -> list[str]:
    """One line for each setting that is not the same: its name, the saved value and the current one.

    Values of more than `longest` characters are cut.
    """

    def shown(settings: Mapping[str, Any], name: str) -> str:
        text = repr(settings[name]) if name in settings else "(absent)"
        return text if len(text) <= longest else text[: longest - 3] + "..."

    names = [n for n in {**saved, **current} if n not in saved or n not in current or saved[n] != current[n]]
    return [f"{name}: {shown(saved, name)} then, {shown(current, name)} now" for name in names]
