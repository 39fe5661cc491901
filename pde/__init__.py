"""Solvers of partial differential equations, and networks that learn to do the same.

A `Stepper` takes the fields at one time to those a step later; so does a trained `Surrogate`.
"""

from typing import TYPE_CHECKING

from sciml.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from sciml.pde.checkpoint import load_surrogate as load_surrogate
    from sciml.pde.checkpoint import save_surrogate as save_surrogate
    from sciml.pde.compressible import CompressibleNavierStokes as CompressibleNavierStokes
    from sciml.pde.dilated_resnet import DilatedResNet as DilatedResNet
    from sciml.pde.field_data import Trajectories as Trajectories
    from sciml.pde.fourier_operator import FourierOperator as FourierOperator
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
    from sciml.pde.surrogate import Surrogate as Surrogate
    from sciml.pde.unet import ModernUNet as ModernUNet

_EXPORTS = {
    "CompressibleNavierStokes": "compressible",
    "DilatedResNet": "dilated_resnet",
    "FourierOperator": "fourier_operator",
    "Grid": "grid",
    "IncompressibleNavierStokes": "incompressible",
    "KolmogorovForcing": "incompressible",
    "ModernUNet": "unet",
    "Rollout": "rollouts",
    "rollout": "rollouts",
    "ShallowWater": "shallow_water",
    "ShallowWaterVolumes": "shallow_water_volumes",
    "SineNet": "sinenet",
    "BuoyantSmoke": "smoke",
    "Stepper": "stepper",
    "Surrogate": "surrogate",
    "Trajectories": "field_data",
    "UnstableError": "stepper",
    "load_surrogate": "checkpoint",
    "save_surrogate": "checkpoint",
}

__all__ = sorted(_EXPORTS)

__getattr__, __dir__ = lazy_exports(__name__, _EXPORTS)
