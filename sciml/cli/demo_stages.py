"""How the demo runs its stages: the command that each one stands for, its seconds, and two simulations at a time."""

import dataclasses
import json
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import joblib
from rich.console import Console

from sciml.cli import md
from sciml.cli.counting_bar import counting_bar
from sciml.datasets.workers import polling, workers
from sciml.potentials.restart import read_json, replace_json


def command_line(job: str, config: Any) -> str:
    """The command that a user types for `config`; what has its default value is left out."""
    return shlex.join(["sciml", job, *_flags(config)])


def _flags(config: Any, prefix: str = "") -> Iterator[str]:
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), f"{prefix}{field.name}"
        factory = field.default_factory
        default: Any = field.default if factory is dataclasses.MISSING else factory()
        if value == default:
            continue
        if isinstance(value, dict):
            for key, item in value.items():
                if key not in default or default[key] != item:
                    yield from (f"--{name}.{key}", _word(item))
        elif dataclasses.is_dataclass(value):
            yield from _flags(value, f"{name}.")
        elif isinstance(value, list):
            yield from (f"--{name}", *map(_word, value))
        else:
            yield from (f"--{name}", _word(value))


def _word(value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)


class Stages:
    """Announces the stages and keeps their seconds in a file, so that a continued demo reports the whole effort."""

    def __init__(self, console: Console, path: Path, *, total: int) -> None:
        self.console, self.path, self.total = console, path, total
        self.number = 0
        self.commands: list[str] = []
        self.records: dict[str, dict[str, Any]] = read_json(path) or {}

    @contextmanager
    def __call__(self, title: str, explanation: str) -> Iterator[None]:
        """One stage. A stage that was done before is only checked again, which does not count."""
        self.number += 1
        self.console.rule(f"[bold]{self.number}/{self.total}  {title}")
        self.console.print(explanation, highlight=False)
        record = self.records.setdefault(title, {"seconds": 0.0, "done": False})
        before, started = record["seconds"], time.monotonic()
        try:
            yield
        except BaseException:
            record["seconds"] = before + time.monotonic() - started
            raise
        else:
            elapsed = time.monotonic() - started
            record["seconds"] = max(before, elapsed) if record["done"] else before + elapsed
            record["done"] = True
        finally:
            replace_json(self.path, self.records)
            self.console.print()

    def show(self, job: str, config: Any) -> None:
        """Print the command that the next job stands for."""
        self.commands.append(command_line(job, config))
        self.console.print(f"[bold green]$[/bold green] {self.commands[-1]}", highlight=False, soft_wrap=True)

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of each stage."""
        return {title: round(record["seconds"], 2) for title, record in self.records.items()}


def simulate_side_by_side(configs: Sequence[md.Config], console: Console) -> None:
    """Run several `sciml md` at a time, a process and a thread each; what they print goes to log.txt of each folder."""
    with counting_bar(console, "steps") as progress:
        tasks = [progress.add_task(f"md {c.output}", total=c.equilibration_steps + c.steps) for c in configs]

        def refresh() -> None:
            for task, config in zip(tasks, configs, strict=True):
                state = read_json(Path(config.output) / "restart.json")
                if state is not None:
                    progress.update(task, completed=config.equilibration_steps + state["step"])

        with workers(len(configs), None) as parallel, polling(refresh):
            parallel(joblib.delayed(_simulate)(config, Path.cwd()) for config in configs)


def _simulate(config: md.Config, directory: Path) -> None:
    # A worker that served another job before may stand in the working directory of that time.
    with chdir(directory):
        folder = Path(config.output)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "log.txt").open("w", encoding="utf-8") as log, redirect_stdout(log):
            md.run(config)
