"""What a model is asked to minimise, as sums and counts, so that any number of processes give the same loss.

The loss of a batch is

    L = Σ_t w_t · (Σ_k ℓ_t(e_k)) / n_t

over the targets t (energy per atom, forces, stress), their errors e_k and the number n_t of *known* contributions in
the whole, global batch. An objective returns the sums and the counts; the loop adds them over processes and divides.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import huber_loss

from sciml.graphs import AtomicGraph

if TYPE_CHECKING:
    from sciml.training.learned_equivariance import LearnedEquivariance as LearnedEquivariance

Kind = Literal["mae", "mse", "huber", "norm"]


class Sums(NamedTuple):
    """Sums over one batch for each target; all (targets,), float64, and additive over batches and processes.

    Attributes:
        loss: Σ ℓ(e).
        loss_count: what to divide `loss` by: components, or rows for the kind "norm".
        absolute: Σ |e| over components.
        square: Σ e² over components.
        components: number of components.
    """

    loss: Tensor
    loss_count: Tensor
    absolute: Tensor
    square: Tensor
    components: Tensor


class Objective(Protocol):
    """What the training loop minimises.

    Attributes:
        targets: names of the targets; they name the columns of metrics.csv.
        weights: weight of each target in the loss that is validated.
        units: unit of each target's error, for plots and messages.
    """

    targets: tuple[str, ...]
    weights: tuple[float, ...]
    units: tuple[str, ...]

    def training_weights(self, progress: float) -> tuple[float, ...]:
        """Weights in the loss that is minimised; `progress` in [0, 1) of the training."""

    def __call__(self, model: nn.Module, batch: Any) -> Sums:
        """Evaluate the model on a batch; `loss` can be differentiated if the model is in training mode."""


@dataclass(frozen=True)
class LossTerm:
    """Weight and shape of one term of the loss.

    Attributes:
        weight: factor of the term; 0 leaves the target out of the loss but still reports its error.
        kind: mae (mean |e|), mse (mean e²), huber (mean of e²/2 up to delta and linear beyond), or norm (mean Euclidean
            norm of a row: for forces |ΔF| of an atom, which does not depend on the axes).
        delta: where huber turns linear, in the unit of the target.
        second_weight: factor of the term in the second stage of the training, and in validation; None for `weight`.
    """

    weight: float = 1.0
    kind: Kind = "mae"
    delta: float = 0.01
    second_weight: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("mae", "mse", "huber", "norm"):
            raise ValueError(f"got the loss kind {self.kind!r}; it is one of mae, mse, huber, norm")
        for weight in (self.weight, self.last_weight):
            if not 0 <= weight < float("inf"):
                raise ValueError(f"got the loss weight {weight}; it must be finite and not negative")
        if not self.delta > 0:
            raise ValueError(f"got delta={self.delta} for the Huber loss; it must be positive")

    @property
    def last_weight(self) -> float:
        """Factor in the last stage."""
        return self.weight if self.second_weight is None else self.second_weight


def term_sums(prediction: Tensor, label: Tensor, term: LossTerm) -> Sums:
    """Sums (each a scalar) of one target; `prediction` and `label` (rows, components), NaN labels are left out."""
    known = ~label.isnan()
    error = torch.where(known, prediction - label, 0.0)  # (rows, components)
    components = known.sum().to(error.dtype)
    absolute, square = error.abs().sum(), error.square().sum()
    loss_count = components
    if term.kind == "mae":
        loss = absolute
    elif term.kind == "mse":
        loss = square
    elif term.kind == "huber":
        loss = huber_loss(error, torch.zeros_like(error), reduction="sum", delta=term.delta)
    else:
        # A row that is only partly known has no norm.
        complete = known.all(dim=1)
        loss = torch.where(complete, torch.linalg.vector_norm(error, dim=1), 0.0).sum()
        loss_count = complete.sum().to(error.dtype)
    return Sums(loss, loss_count, absolute.detach(), square.detach(), components)


def global_loss(weights: Tensor, sums: Sums) -> Tensor:
    """Loss of the given sums, a scalar; targets without labels contribute nothing."""
    return (weights * sums.loss / sums.loss_count.clamp(min=1)).sum()


class PotentialObjective:
    """Errors of energy per atom (eV/atom), forces (eV/Å) and stress (eV/Å³) of an interatomic potential.

    Stress labels of systems that are not periodic along all three axes mean nothing and are left out.

    Args:
        terms: LossTerm by target, for those of `energy_per_atom`, `forces`, `stress` that have labels.
        second_stage: share of the training after which terms have their `second_weight`.
    """

    UNITS: Mapping[str, str] = {"energy_per_atom": "eV/atom", "forces": "eV/Å", "stress": "eV/Å³"}

    def __init__(self, terms: Mapping[str, LossTerm], *, second_stage: float = 0.75) -> None:
        unknown = sorted(set(terms) - set(self.UNITS))
        if unknown:
            raise ValueError(f"got the targets {unknown}; a potential has {list(self.UNITS)}")
        for stage in ("weight", "last_weight"):
            if not any(getattr(term, stage) > 0 for term in terms.values()):
                raise ValueError("every loss weight is zero; there is nothing to train on")
        if not 0 <= second_stage <= 1:
            raise ValueError(f"got second_stage={second_stage}; it is a share of the training, between 0 and 1")
        self.second_stage = second_stage
        self.terms = dict(terms)
        self.targets = tuple(terms)
        self.weights = tuple(term.last_weight for term in terms.values())
        self.units = tuple(self.UNITS[target] for target in terms)

    def training_weights(self, progress: float) -> tuple[float, ...]:
        """Weights of the stage; validation has those of the last one, so that its losses can be compared."""
        first = progress < self.second_stage
        return tuple(term.weight if first else term.last_weight for term in self.terms.values())

    def __call__(self, model: nn.Module, batch: AtomicGraph) -> Sums:
        """Sums over the structures of `batch`; the model returns energy, forces and stress of a graph."""
        output = model(batch)
        parts = []
        for target, term in self.terms.items():
            if target == "energy_per_atom":
                sizes = batch.energy.new_zeros(batch.num_systems).index_add(
                    0, batch.system_index, torch.ones_like(batch.positions[:, 0])
                )
                prediction, label = (output.energy / sizes)[:, None], (batch.energy / sizes)[:, None]  # (systems, 1)
            elif target == "forces":
                prediction, label = output.forces, batch.forces  # (atoms, 3)
            else:
                periodic = batch.pbc.all(dim=1)[:, None]
                prediction = output.stress.flatten(1)  # (systems, 9)
                label = torch.where(periodic, batch.stress.flatten(1), torch.nan)
            parts.append(term_sums(prediction, label, term))
        return Sums(*(torch.stack(values) for values in zip(*parts, strict=True)))


def __getattr__(name: str) -> Any:
    if name == "LearnedEquivariance":  # built on this module, and thus not importable before it
        from sciml.training.learned_equivariance import LearnedEquivariance

        return LearnedEquivariance
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
