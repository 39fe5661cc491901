"""The dispatcher of `sciml <job>`: a table of jobs, of which only the one that is asked for is imported."""

import importlib
import os
import sys
from collections.abc import Sequence

import sciml
from sciml.messages import did_you_mean

# job: (module with a dataclass `Config` and a function `run(config)`, one line of help)
JOBS: dict[str, tuple[str, str]] = {
    "demo": ("sciml.cli.demo", "label ethanol, train a small potential, evaluate it and run MD with it, in minutes"),
    "label": ("sciml.cli.label", "sample structures by MD under a reference method and write them with their labels"),
    "train": ("sciml.cli.train", "train a potential on labelled structures, or a surrogate on fields"),
    "evaluate": ("sciml.cli.evaluate", "compare a trained potential with structures, or a surrogate with fields"),
    "compare": ("sciml.cli.compare", "accuracy of trained potentials against their cost, and the front of the best"),
    "models": ("sciml.cli.models", "list architectures and shipped weights, or show the card of one"),
    "rollout": ("sciml.cli.rollout", "roll a trained surrogate out, beside its solver's frames"),
    "md": ("sciml.cli.md", "run molecular dynamics with a trained potential"),
    "relax": ("sciml.cli.relax", "relax positions, and the cell if asked for, with a trained potential"),
    "generate": ("sciml.cli.generate", "solve equations of flow and write the data that surrogates are trained on"),
    "simulate": ("sciml.cli.simulate", "solve a physical system: sciml simulate klein-gordon kink-antikink"),
    "audit": ("sciml.cli.audit", "what each tensor product can express, how equivariant it is, and what it costs"),
    "bench": ("sciml.cli.bench", "time tensor products beside those of other libraries, after checking them"),
}

# What a user can cause and mend is reported in one line. Everything else is a defect and keeps its traceback.
USER_ERRORS = (ValueError, OSError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job that `argv` (default: the command line) names and return the exit code.

    0: success; 2: wrong arguments or input, reported without a traceback unless the environment variable
    SCIML_TRACEBACK is set; 130: interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(overview())
        return 0
    if arguments[0] == "--version":
        sys.stdout.write(f"sciml {sciml.__version__}\n")
        return 0
    job, *rest = arguments
    if job not in JOBS:
        hint = did_you_mean(job, JOBS) or "."
        return fail("sciml", f"error: unknown job {job!r}{hint} The jobs are {', '.join(JOBS)}", code=2)
    program = f"sciml {job}"
    module_name, description = JOBS[job]
    try:
        from sciml.cli.arguments import (
            name_leading_words,
            parse_config,
        )  # jsonargparse takes 0.1 s, which --help need not pay

        module = importlib.import_module(module_name)
        if hasattr(module, "choose"):  # `sciml simulate klein-gordon`: the word chooses the flags
            module, word, rest = module.choose(rest)
            program = f"{program} {word}"
        if hasattr(module, "FIRST_WORD"):  # `sciml bench tensor-products`, `sciml compare runs/a runs/b`
            rest = name_leading_words(rest, field=module.FIRST_WORD, config_class=module.Config)
        if hasattr(module, "OTHER_JOB"):  # potentials and surrogates share the words `train` and `evaluate`
            from sciml.cli.other_job import of_surrogates

            flag, other = module.OTHER_JOB
            if of_surrogates(rest, flag):
                module = importlib.import_module(other)
                description = module.DESCRIPTION
            elif {"-h", "--help"} & set(rest):
                example = "sinenet" if flag == "model.name" else "CHECKPOINT"
                description += f" (the flags of surrogates: {program} --{flag} {example} --help)"
        module.run(parse_config(module.Config, rest, program=program, description=description))
    except KeyboardInterrupt:
        return fail(program, "interrupted", code=130)
    except USER_ERRORS as error:
        if os.environ.get("SCIML_TRACEBACK"):
            raise
        return fail(program, f"error: {error}", code=2)
    return 0


def overview() -> str:
    """Text of `sciml --help`."""
    jobs = "\n".join(f"  {job:<10}{description}" for job, (_, description) in JOBS.items())
    return f"""usage: sciml <job> [--config FILE.yaml] [--flag VALUE ...]
       sciml <job> --help            the job's flags
       sciml <job> --print_config    its configuration as YAML, to start a file from
       sciml --version

jobs:
{jobs}
"""


def fail(program: str, message: str, *, code: int) -> int:
    """Write one message to stderr and return the exit code."""
    sys.stderr.write(f"{program}: {message}\n")
    return code
