"""Solvers of partial differential equations, and networks that learn to do the same.

A `Stepper` takes the fields at one time to those a step later; so does a trained `SineNet`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sciml.pde.compressible import CompressibleNavierStokes as CompressibleNavierStokes
    from sciml.pde.grid import Grid as Grid
    from sciml.pde.incompressible import IncompressibleNavierStokes as IncompressibleNavierStokes
    from sciml.pde.incompressible import KolmogorovForcing as KolmogorovForcing
    from sciml.pde.rollouts import Rollout as Rollout
    from sciml.pde.rollouts import rollout as rollout
    from sciml.pde.shallow_water import ShallowWater as ShallowWater
    from sciml.pde.shallow_water_volumes import ShallowWaterVolumes as ShallowWaterVolumes
    from sciml.pde.sinenet import SineNet as SineNet
    from sciml.pde.smoke import BuoyantSmoke as BuoyantSmoke
    from sciml.pde.stepper import Stepper as Stepper
    from sciml.pde.stepper import UnstableError as UnstableError

# Imported when first used, because torch takes a second.
_EXPORTS = {
    "CompressibleNavierStokes": "compressible",
    "Grid": "grid",
    "IncompressibleNavierStokes": "incompressible",
    "KolmogorovForcing": "incompressible",
    "Rollout": "rollouts",
    "rollout": "rollouts",
    "ShallowWater": "shallow_water",
    "ShallowWaterVolumes": "shallow_water_volumes",
    "SineNet": "sinenet",
    "BuoyantSmoke": "smoke",
    "Stepper": "stepper",
    "UnstableError": "stepper",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
