"""The dispatcher of `sciml <job>`: a table of jobs, of which only the one that is asked for is imported."""

import argparse
import dataclasses
import difflib
import importlib
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import sciml

# job: (module with `Config` and `run`, one line of help)
JOBS: dict[str, tuple[str, str]] = {
    "demo": ("sciml.cli.demo", "label ethanol, train a small potential, evaluate it and run MD with it, in minutes"),
    "label": ("sciml.cli.label", "sample structures by MD under a reference method and write them with their labels"),
    "train": ("sciml.cli.train", "train a potential on labelled structures"),
    "evaluate": ("sciml.cli.evaluate", "compare a trained potential with labelled structures"),
    "md": ("sciml.cli.md", "run molecular dynamics with a trained potential"),
    "relax": ("sciml.cli.relax", "relax positions, and the cell if asked for, with a trained potential"),
}

# What a user can cause and mend: reported in one line. Everything else is a defect and keeps its traceback.
USER_ERRORS = (ValueError, FileNotFoundError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job that `argv` (default: the command line) names; return the exit code.

    0 success, 2 wrong arguments or input (one line on stderr, no traceback unless the environment variable
    SCIML_TRACEBACK is set), 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(overview())
        return 0
    if arguments[0] in ("-V", "--version"):
        sys.stdout.write(f"sciml {sciml.__version__}\n")
        return 0
    job, *rest = arguments
    if job not in JOBS:
        return fail("sciml", f"unknown job {job!r}{suggestion(job, JOBS)}; the jobs are {', '.join(JOBS)}")
    try:
        module = importlib.import_module(JOBS[job][0])
        module.run(parse(job, module.Config, rest))
    except KeyboardInterrupt:
        return fail(f"sciml {job}", "interrupted", code=130)
    except USER_ERRORS as error:
        if os.environ.get("SCIML_TRACEBACK"):
            raise
        return fail(f"sciml {job}", str(error))
    return 0


def overview() -> str:
    """Text of `sciml --help`."""
    width = max(map(len, JOBS))
    lines = [f"  {job:<{width}}  {help_line}" for job, (_, help_line) in JOBS.items()]
    return "\n".join(
        [
            "usage: sciml <job> [--config FILE.yaml] [--flag VALUE ...]",
            "       sciml <job> --help            the job's flags",
            "       sciml <job> --print_config    its configuration as YAML",
            "       sciml --version",
            "",
            "jobs:",
            *lines,
            "",
        ]
    )


def parse(job: str, config_class: type, arguments: Sequence[str]) -> Any:
    """Build `config_class` from YAML (`--config`) and flags; later ones override earlier ones.

    Raises:
        ValueError: if a flag or key is unknown, or a value has the wrong type.
    """
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog=f"sciml {job}", description=JOBS[job][1], exit_on_error=False)
    parser.add_argument("--config", action="config", help="YAML file with any of the flags below as keys.")
    parser.add_class_arguments(config_class)
    try:
        namespace = parser.instantiate(parser.parse_args(list(arguments)))
    except argparse.ArgumentError as error:
        names = [field.name for field in dataclasses.fields(config_class)]
        raise ValueError(f"{readable(str(error), names)}\nsciml {job} --help lists the flags") from None
    return config_class(**{field.name: namespace[field.name] for field in dataclasses.fields(config_class)})


def readable(message: str, names: Iterable[str]) -> str:
    """Say which flag was probably meant where the parser complains about an unknown one."""
    unknown = re.search(r"unrecognized arguments: --([\w-]+)", message)
    if unknown is None:
        return message
    return f"unknown flag --{unknown[1]}{suggestion(unknown[1], names, prefix='--')}"


def suggestion(word: str, known: Iterable[str], *, prefix: str = "") -> str:
    """`; did you mean ...?` with the nearest of the known words, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {prefix}{near[0]}?" if near else ""


def fail(program: str, message: str, *, code: int = 2) -> int:
    """Write one error to stderr and return the exit code."""
    sys.stderr.write(f"{program}: error: {message}\n")
    return code
