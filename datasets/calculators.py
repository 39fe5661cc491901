"""ASE calculators by name: a literal table of known ones, and any other class by its import path."""

import importlib
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from ase.calculators.calculator import Calculator

from sciml.messages import did_you_mean


class KnownCalculator(NamedTuple):
    """A calculator that has a name of its own.

    Attributes:
        path: import path of the class.
        arguments: keyword arguments unless given otherwise.
        install: what to type where the class cannot be imported.
    """

    path: str
    arguments: Mapping[str, Any]
    install: str


CALCULATORS: dict[str, KnownCalculator] = {
    # GFN2-xTB, semiempirical quantum chemistry: doi:10.1021/acs.jctc.8b01176
    "tblite": KnownCalculator(
        "tblite.ase:TBLite", {"method": "GFN2-xTB", "verbosity": 0}, "pip install sciml-suite[label]"
    ),
    "emt": KnownCalculator("ase.calculators.emt:EMT", {}, "pip install ase"),
    "lj": KnownCalculator("ase.calculators.lj:LennardJones", {}, "pip install ase"),
}

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def calculator_factory(name: str, arguments: Mapping[str, Any] | None = None) -> Callable[[], Calculator]:
    """A function that makes a new calculator at each call.

    Args:
        name: a key of CALCULATORS, or an import path such as "package.module:Class", "package.module.Class" or
            "package.module:Class.from_file".
        arguments: keyword arguments of the class.

    Raises:
        ValueError: if the name is unknown, the package is not installed, or the class does not take the arguments.
    """
    known = CALCULATORS.get(name)
    path = known.path if known else name
    keywords = {**(known.arguments if known else {}), **(arguments or {})}
    make = _import_path(path, name=name, install=known.install if known else None)
    if known:
        _check_names(make, keywords, name=name)

    def new_calculator() -> Calculator:
        try:
            calculator = make(**keywords)
        except TypeError as error:
            raise ValueError(f"calculator {name!r} cannot be made with the arguments {keywords}: {error}") from error
        if not hasattr(calculator, "get_potential_energy"):
            raise ValueError(f"{path!r} made a {type(calculator).__name__}, which is not an ASE calculator")
        return calculator

    return new_calculator


def _import_path(path: str, *, name: str, install: str | None) -> Callable[..., Any]:
    """The object at "package.module:attribute" or "package.module.attribute"."""
    module, _, attribute = path.partition(":") if ":" in path else path.rpartition(".")
    if not module or not attribute:
        raise ValueError(
            f"unknown calculator {name!r}{did_you_mean(name, CALCULATORS) or '.'} "
            f"The known ones are {', '.join(CALCULATORS)}; any other is named by its import path, "
            "such as package.module:Class"
        )
    try:
        with single_thread():
            target: Any = importlib.import_module(module)
    except ImportError as error:
        advice = install or f"install the package that has the module {module!r}"
        raise ValueError(f"calculator {name!r} cannot be imported ({error}); {advice}") from error
    for part in attribute.split("."):
        if not hasattr(target, part):
            raise ValueError(f"calculator {name!r}: {module!r} has no {attribute!r}")
        target = getattr(target, part)
    return target


def _check_names(calculator: Any, keywords: Mapping[str, Any], *, name: str) -> None:
    """Raise if an argument is unknown; ASE's own calculators take any keyword and ignore what they do not know."""
    names = {*inspect.signature(calculator.__init__).parameters, *calculator.default_parameters}
    allowed = sorted(names - {"self", "atoms", "args", "kwargs"})
    for keyword in keywords:
        if keyword not in allowed:
            raise ValueError(f"calculator {name!r} has no argument {keyword!r}; it has {', '.join(allowed)}")


@contextmanager
def single_thread() -> Iterator[None]:
    """Let libraries that are loaded inside use one thread, unless the environment says otherwise.

    OpenMP and BLAS read the environment when they are loaded. Walkers run one per core, and a small molecule is slower
    on several threads than on one.
    """
    added = [variable for variable in THREAD_VARIABLES if variable not in os.environ]
    os.environ.update(dict.fromkeys(added, "1"))
    try:
        yield
    finally:
        for variable in added:
            del os.environ[variable]
