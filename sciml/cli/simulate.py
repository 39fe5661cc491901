"""`sciml simulate SYSTEM`: the system that the first word names has flags of its own."""

import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

from sciml.messages import did_you_mean

# system: (module with `Config` and `run(config)`, one line of help)
SYSTEMS = {
    "klein-gordon": ("sciml.cli.simulate_klein_gordon", "scalar fields: waves, kinks, breathers and their collisions"),
}


def choose(arguments: Sequence[str]) -> tuple[ModuleType, str, list[str]]:
    """Module of the system that the first word names, that word, and the other arguments.

    Raises:
        ValueError: if there is no such system.
        SystemExit: after showing the systems, if help was asked for.
    """
    lines = "\n".join(f"  {name:<14}{about}" for name, (_, about) in SYSTEMS.items())
    if list(arguments[:1]) in (["-h"], ["--help"]):
        sys.stdout.write(f"usage: sciml simulate <system> [--flag VALUE ...]\n\nsystems:\n{lines}\n")
        raise SystemExit(0)
    system, *rest = [*arguments] or [""]
    if system not in SYSTEMS:
        got = f"unknown system {system!r}{did_you_mean(system, SYSTEMS)}" if system else "which system?"
        raise ValueError(f"{got} There is {', '.join(SYSTEMS)}: sciml simulate klein-gordon kink --output kink.nc")
    return importlib.import_module(SYSTEMS[system][0]), system, rest
