"""`sciml models`: the architectures and the shipped weights, or the card of one of them."""

import importlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sciml import model_folder
from sciml.messages import did_you_mean
from sciml.pde import checkpoint as surrogates
from sciml.potentials import checkpoint
from sciml.potentials.checkpoint import MODELS, available_weights, model_class, read_config

FIRST_WORD = "name"  # the field that a first word without dashes fills


@dataclass
class Config:
    """List what there is; `sciml models ethanol` is `sciml models --name ethanol`.

    Attributes:
        name: of shipped weights, whose card is shown, or of an architecture, whose arguments are described.
    """

    name: str | None = None


def run(config: Config) -> None:
    """Print the list, or one card.

    Raises:
        ValueError: if there are no weights and no architecture of that name.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, 140))  # a file has no width that the tables have to fit
    if config.name is not None:
        console.print(card_of(config.name), markup=False, highlight=False, soft_wrap=True)
        return
    console.print(architectures())
    names = available_weights()
    if names:
        console.print(shipped(names))
    else:
        console.print("no weights are shipped with this version", highlight=False)
    of_fields = model_folder.names_in(surrogates.WEIGHTS)
    if of_fields:
        console.print(shipped_surrogates(of_fields))
    console.print("`sciml models NAME` shows one in full", highlight=False)


def card_of(name: str) -> str:
    """README.md of shipped weights, or the description of an architecture.

    Raises:
        ValueError: if there is neither.
    """
    names, of_fields = available_weights(), model_folder.names_in(surrogates.WEIGHTS)
    if name in (*names, *of_fields):
        path = (checkpoint.WEIGHTS if name in names else surrogates.WEIGHTS) / name / "README.md"
        if not path.is_file():
            raise ValueError(f"the weights {name} have no card: {path} is missing; `python -m sciml.potentials.ship` "
                             "writes it")  # fmt: skip
        return path.read_text(encoding="utf-8").rstrip()
    if name in MODELS:
        of_module = inspect.getdoc(importlib.import_module(model_class(name).__module__))
        return f"{name}: {MODELS[name].replace(':', '.')}\n\n{of_module}\n\n{inspect.getdoc(model_class(name))}"
    known = [*names, *of_fields, *MODELS]
    hint = did_you_mean(name, known) or ";"
    raise ValueError(f"there are no weights and no architecture {name!r}{hint} choose one of {', '.join(known)}")


def summary_of(name: str) -> str:
    """What an architecture is, in one line: of the module's docstring if it bears the class's name, else the class's.

    >>> summary_of("morse")
    'Morse pairs.'
    """
    found = model_class(name)
    alone = found.__module__.rpartition(".")[2] == found.__name__.lower()
    text = inspect.getdoc(importlib.import_module(found.__module__) if alone else found) or ""
    return text.partition("\n")[0].removeprefix(f"{found.__name__}: ")


def architectures() -> Table:
    """Names and one line of each."""
    table = Table(title="architectures (--model.name of sciml train)", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("name", no_wrap=True)
    table.add_column("what it is")
    for name in sorted(MODELS):
        table.add_row(name, escape(summary_of(name)))
    return table


def shipped(names: list[str]) -> Table:
    """Shipped weights with what their cards say."""
    table = _weights(
        "shipped weights (--checkpoint of sciml md, relax, evaluate)",
        "RMSE in meV/atom and meV/Å; on validation structures where marked v",
        ("name", "model", "species", "data", "licence"),
        ("E", "F"),
    )
    for name in names:
        description = read_config(name)
        card = description.get("metadata", {}).get("card", {})
        table.add_row(
            name,
            description["model"],
            " ".join(card.get("species", ["–"])),
            escape(card.get("data", "no card")),
            escape(card.get("licence", "–")),
            _error(card, "energy_per_atom"),
            _error(card, "forces"),
            str(card.get("num_weights", "–")),
            _megabytes(checkpoint.WEIGHTS / name),
        )
    return table


def shipped_surrogates(names: list[str]) -> Table:
    """Shipped weights for fields with what their cards say."""
    table = _weights(
        "shipped surrogates (sciml rollout NAME)",
        "scaled L2 one step ahead on test trajectories, and that of repeating the last frame",
        ("name", "model", "fields", "data", "licence"),
        ("error", "persistence"),
    )
    for name in names:
        card = surrogates.read_surrogate_config(name)["metadata"]["card"]
        errors = (f"{card['one_step'][key]:.3f}" for key in ("scaled_l2", "persistence"))
        texts = (card["model"], ", ".join(card["fields"]), escape(card["data"]), escape(card["licence"]))
        table.add_row(name, *texts, *errors, str(card["num_weights"]), _megabytes(surrogates.WEIGHTS / name))
    return table


def _weights(title: str, caption: str, texts: Sequence[str], errors: Sequence[str]) -> Table:
    """An empty table of shipped weights, with their number and size behind the errors."""
    table = Table(title=title, title_justify="left", caption=caption, box=box.SIMPLE_HEAD)
    for heading in texts:
        table.add_column(heading, overflow="fold")
    for heading in (*errors, "weights", "MB"):
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _megabytes(folder: Path) -> str:
    return f"{(folder / 'model.safetensors').stat().st_size / 1e6:.2g}"


def _error(card: Mapping[str, Any], key: str) -> str:
    """The RMSE on test structures, or else on validation structures; eV in the card, meV here."""
    for kind, mark in (("test", ""), ("validation", " v")):
        if key in card.get(kind, {}):
            return f"{1e3 * card[kind][key]:.4g}{mark}"
    return "–"
