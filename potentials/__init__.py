"""Interatomic potentials, their ASE calculator and checkpoints."""

from typing import TYPE_CHECKING

from sciml.lazy_exports import lazy_exports

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

__getattr__, __dir__ = lazy_exports(__name__, _EXPORTS)
