"""Interatomic potentials, their ASE calculator and checkpoints."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sciml.potentials.analytic import LennardJones as LennardJones
    from sciml.potentials.analytic import Morse as Morse
    from sciml.potentials.calculator import PotentialCalculator as PotentialCalculator
    from sciml.potentials.checkpoint import MODELS as MODELS
    from sciml.potentials.checkpoint import build_potential as build_potential
    from sciml.potentials.checkpoint import load_potential as load_potential
    from sciml.potentials.checkpoint import save_potential as save_potential
    from sciml.potentials.checkpoint import shipped_structure as shipped_structure
    from sciml.potentials.committee import Committee as Committee
    from sciml.potentials.escaip import EScAIP as EScAIP
    from sciml.potentials.evaluation import EvaluationResult as EvaluationResult
    from sciml.potentials.evaluation import evaluate as evaluate
    from sciml.potentials.facet import Facet as Facet
    from sciml.potentials.interface import Potential as Potential
    from sciml.potentials.interface import PotentialOutput as PotentialOutput
    from sciml.potentials.lens import Lens as Lens
    from sciml.potentials.tdn import TDN as TDN
    from sciml.potentials.transip import TransIP as TransIP

# Imported when first used, because torch and e3nn take seconds.
_EXPORTS = {
    "LennardJones": "analytic",
    "Morse": "analytic",
    "PotentialCalculator": "calculator",
    "MODELS": "checkpoint",
    "build_potential": "checkpoint",
    "load_potential": "checkpoint",
    "save_potential": "checkpoint",
    "shipped_structure": "checkpoint",
    "Committee": "committee",
    "EScAIP": "escaip",
    "EvaluationResult": "evaluation",
    "evaluate": "evaluation",
    "Facet": "facet",
    "Potential": "interface",
    "PotentialOutput": "interface",
    "Lens": "lens",
    "TDN": "tdn",
    "TransIP": "transip",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
