"""The command line `sciml <job>`; each job is a module with a `Config` dataclass and a function `run`."""

from sciml.cli.main import main

__all__ = ["main"]
