"""Names of a package that are imported from its modules when they are first used, because torch takes seconds."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_exports(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package.

    A name must not be that of its module: importing the module would put it in the name's place.

    Args:
        package: its `__name__`.
        modules: module inside the package, by exported name.
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}; it has {', '.join(sorted(modules))}")
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)

    def names() -> list[str]:
        return sorted({*vars(importlib.import_module(package)), *modules})

    return get, names
