"""Equivariant interatomic potentials, PDE surrogates and symplectic simulation.

Nothing heavy is imported here: `import sciml` takes milliseconds, and each part is imported when first used
(`sciml.potentials`, `sciml.tensor_products`, `sciml.nn`, `sciml.graphs`, `sciml.training`, `sciml.datasets`,
`sciml.pde`, `sciml.integrators`, `sciml.testing`).
"""

import importlib
from pathlib import Path
from types import ModuleType

__version__ = "0.1.0"

_PARTS = (
    "benchmark",
    "cli",
    "datasets",
    "environment",
    "files",
    "graphs",
    "integrators",
    "kernels",
    "lazy_exports",
    "messages",
    "model_folder",
    "neighbors",
    "nn",
    "packed",
    "pde",
    "potentials",
    "recording",
    "rotations",
    "shipping",
    "tensor_products",
    "testing",
    "training",
)

# In a checkout the parts `potentials`, `pde`, `integrators` and `datasets` stand beside this folder, not in it.
# Appending the root lets `import sciml.potentials` work there without an installation.
_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "pyproject.toml").exists():
    __path__.append(str(_checkout))


def __getattr__(name: str) -> ModuleType:
    if name in _PARTS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(_PARTS)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PARTS])
