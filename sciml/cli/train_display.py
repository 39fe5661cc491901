"""What `sciml train` shows: a progress bar, a log file and a table at the end."""

import logging
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from sciml.training.losses import Objective
from sciml.training.progress import LoopSettings, share_done
from sciml.training.progress import Progress as RunProgress

logger = logging.getLogger("sciml.train")


def summary(progress: RunProgress, objective: Objective, folder: Path) -> Table:
    """Table of the best epoch's validation errors."""
    best = progress.best
    title = f"{folder / 'best'}: epoch {best['epoch']} of {progress.epoch} (stopped by {progress.stopped})"
    table = Table(title=title, title_justify="left")
    for column in ("validation", "MAE", "RMSE", "unit"):
        table.add_column(column, justify="left" if column in ("validation", "unit") else "right")
    for target, unit in zip(objective.targets, objective.units, strict=True):
        values = [f"{1e3 * best[f'valid_{target}_{error}']:.3f}" for error in ("mae", "rmse")]
        table.add_row(target.replace("_", " "), *values, "10⁻³" if unit == "1" else f"m{unit}")
    return table


class ProgressBar:
    """Shows epoch, loss and validation errors on the console; times go to the log."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("epoch {task.fields[epoch]}"), BarColumn(), TextColumn("{task.description}"))
        self.bar = Progress(*columns, TimeRemainingColumn(), console=console, refresh_per_second=4)
        self.errors = ""

    def __enter__(self) -> "ProgressBar":
        self.bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.stop()

    def on_start(self, progress: RunProgress, settings: LoopSettings) -> None:
        """Set the bar up."""
        self.settings, self.started = settings, time.monotonic()
        # Of the end that comes first: with a budget of time or steps max_epochs may be far beyond it.
        self.task = self.bar.add_task("", total=1.0, **self._position(progress))
        if progress.epoch:
            self.bar.console.print(f"continuing after epoch {progress.epoch}")

    def _position(self, progress: RunProgress) -> dict[str, Any]:
        settings = self.settings
        by_epochs = settings.time_budget is None and settings.max_steps is None
        return {
            "completed": min(share_done(progress, settings, progress.epoch, progress.step), 1.0),
            "epoch": f"{progress.epoch}/{settings.max_epochs}" if by_epochs else str(progress.epoch),
        }

    def on_step(self, batch: int, num_batches: int, loss: float) -> None:
        """Show the loss."""
        text = f"{batch}/{num_batches} loss {loss:.3g}{self.errors}"
        self.bar.update(self.task, description=text)

    def on_epoch(self, progress: RunProgress) -> None:
        """Advance the bar, and log the metrics with the time they took."""
        row = progress.rows[-1]
        units = {"valid_energy_per_atom_mae": "meV/atom", "valid_forces_mae": "meV/Å"}
        self.errors = "".join(f" | {1e3 * row[name]:.1f} {unit}" for name, unit in units.items() if name in row)
        self.errors = self.errors or f" | validation {row['valid_loss']:.3g}"
        self.bar.update(self.task, **self._position(progress))
        now = time.monotonic()
        values = ", ".join(f"{name} {value:.6g}" for name, value in row.items() if name not in ("epoch", "step"))
        logger.info("epoch %d, step %d, %.2f s: %s", row["epoch"], row["step"], now - self.started, values)
        self.started = now


class Logs:
    """Sends the package's log to train.log, and its warnings to the console, while a run lasts."""

    def __init__(self, folder: Path, console: Console, *, to_file: bool) -> None:
        self.logger = logging.getLogger("sciml")
        self.file: logging.Handler = logging.NullHandler()
        if to_file:
            folder.mkdir(parents=True, exist_ok=True)
            self.file = logging.FileHandler(folder / "train.log", encoding="utf-8")
            self.file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        on_console = RichHandler(console=console, level=logging.WARNING, show_path=False, show_time=False)
        self.handlers = [on_console, self.file]

    def __enter__(self) -> None:
        self.level = self.logger.level
        self.logger.setLevel(logging.INFO)
        for handler in self.handlers:
            self.logger.addHandler(handler)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, ValueError):
            # The dispatcher shows it on the console.
            self.file.handle(logger.makeRecord(logger.name, logging.ERROR, "", 0, str(error), (), None))
        for handler in self.handlers:
            self.logger.removeHandler(handler)
            handler.close()
        self.logger.setLevel(self.level)
