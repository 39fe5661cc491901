"""Symplectic integrators of fields.

A `KleinGordon` solver takes a field and its velocity through time; `solitons` has exact solutions to start from.
"""

from typing import TYPE_CHECKING

from sciml.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from sciml.integrators.field_ensemble import run_ensemble as run_ensemble
    from sciml.integrators.field_potentials import Potential as Potential
    from sciml.integrators.field_potentials import named_potential as named_potential
    from sciml.integrators.field_potentials import user_potential as user_potential
    from sciml.integrators.field_run import FieldRun as FieldRun
    from sciml.integrators.klein_gordon import AbsorbingLayer as AbsorbingLayer
    from sciml.integrators.klein_gordon import KleinGordon as KleinGordon
    from sciml.integrators.splitting import SCHEMES as SCHEMES
    from sciml.integrators.splitting import SplittingScheme as SplittingScheme

_EXPORTS = {
    "AbsorbingLayer": "klein_gordon",
    "FieldRun": "field_run",
    "KleinGordon": "klein_gordon",
    "Potential": "field_potentials",
    "SCHEMES": "splitting",
    "SplittingScheme": "splitting",
    "named_potential": "field_potentials",
    "run_ensemble": "field_ensemble",
    "user_potential": "field_potentials",
}

__all__ = sorted(_EXPORTS)

__getattr__, __dir__ = lazy_exports(__name__, _EXPORTS)
