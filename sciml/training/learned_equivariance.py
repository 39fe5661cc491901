"""Equivariance that is learned: features are asked to turn with the structure (TransIP, arXiv:2510.00027)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from sciml.graphs import AtomicGraph
from sciml.rotations import random_rotations, rotated
from sciml.training.checkpoints import TRAINING_ONLY
from sciml.training.losses import LossTerm, Objective, Sums, term_sums

NETWORKS = ("learned", "vectors")

# In evaluation mode the rotations are always the same, so that the values of epochs can be compared.
_EVALUATION_SEED = 0


@dataclass(frozen=True)
class EquivarianceTerm:
    """How strongly features are asked to turn with the structure, and how they may.

    Attributes:
        weight: factor of the term; 0 leaves it out.
        network: learned (a small network, dropped after training, predicts the turned features) or vectors (the second
            half of the channels are vectors, the others invariants). Features that are vectors already, such as the
            direct forces of EScAIP, have nothing to learn about how they turn: choose vectors.
        hidden: channels of the learned network's hidden layer.
        pooled: whether the mean over the atoms of a structure is compared instead of each atom.
    """

    weight: float = 0.0
    network: Literal["learned", "vectors"] = "learned"
    hidden: int = 128
    pooled: bool = False

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise ValueError(f"got network={self.network!r} for the equivariance; available: {', '.join(NETWORKS)}")
        if not 0 <= self.weight < float("inf"):
            raise ValueError(f"got the equivariance weight {self.weight}; it must be finite and not negative")
        if self.hidden < 1:
            raise ValueError(f"got hidden={self.hidden} for the equivariance; it must be positive")


class LearnedEquivariance:
    """An objective plus  w · mean over atoms and channels of ( T(f(x), R) − f(R x) )²,  of the target "equivariance".

    f are the features that the potential's `embedding` gives, x the structures of the batch, R a random rotation of
    each, and T either `TurnedByNetwork` or `turned_as_vectors`. Both sides are differentiated. So that f cannot become
    smaller to please the term, potentials offer features of a fixed scale: of root mean square 1 (TransIP), or such
    that the labels fix it (direct forces of EScAIP).

    Features that are the same for all structures satisfy the term, too. Where it outweighs the other terms, training
    can end there: the spread of energies is zero then, and the relative rotation error of the forces, all noise, above
    1. Choose a smaller weight if so. (Not differentiating f(R x) avoids this, but without augmentation it lowered no
    rotation error where it was tried.)

    The term costs one forward pass for f(R x); f(x) is that of the objective's own pass. It is not in the validated
    loss, and not divided by any energy or length: it has no unit.

    The learned network becomes the submodule `training_only` of the potential, so that the loop trains it, averages it
    and continues it; checkpoints are written without it.

    Args:
        objective: what is minimised besides.
        potential: which will be trained, on its device and in its dtype.
        term: weight and network.

    Raises:
        ValueError: if the potential is invariant by construction, or offers no features.
    """

    def __init__(self, objective: Objective, potential: nn.Module, term: EquivarianceTerm) -> None:
        name = type(potential).__name__
        symmetry = getattr(potential, "symmetry", "none")
        if symmetry != "none":
            raise ValueError(
                f"{name} is invariant under {symmetry} by construction, there is no equivariance for it to learn; "
                "set loss.equivariance.weight to 0"
            )
        missing = [
            part for part in ("embedding", "embedding_channels", "embedding_probe") if not hasattr(potential, part)
        ]
        if missing:
            raise ValueError(
                f"{name} offers no features to compare under rotation: it has no {' and no '.join(missing)} (see "
                "sciml.potentials.interface.Potential); set loss.equivariance.weight to 0"
            )
        self.objective = objective
        self.term = term
        self.targets = (*objective.targets, "equivariance")
        self.weights = (*objective.weights, 0.0)
        self.units = (*objective.units, "1")
        if term.network == "learned":
            like = next(potential.parameters())
            network = TurnedByNetwork(cast(int, potential.embedding_channels), term.hidden)
            potential.add_module(TRAINING_ONLY, network.to(device=like.device, dtype=like.dtype))

    def training_weights(self, progress: float) -> tuple[float, ...]:
        """Those of the objective, and the term's."""
        return (*self.objective.training_weights(progress), self.term.weight)

    def __call__(self, model: nn.Module, batch: AtomicGraph) -> Sums:
        """Sums of the objective and of the term over the structures of `batch`."""
        with listening(cast(nn.Module, model.embedding_probe)) as heard:
            sums = self.objective(model, batch)
        generator = None
        if not model.training:
            generator = torch.Generator(batch.positions.device).manual_seed(_EVALUATION_SEED)
        rotations = random_rotations(batch.num_systems, like=batch.positions, generator=generator)
        features, turned = heard[-1], cast(Any, model).embedding(rotated(batch, rotations))
        of_rows = rotations[batch.system_index]  # (atoms, 3, 3)
        if self.term.pooled:
            features, turned, of_rows = mean_of_systems(features, batch), mean_of_systems(turned, batch), rotations
        of_rows = of_rows.to(features.dtype)
        if self.term.network == "learned":
            expected = cast(nn.Module, getattr(model, TRAINING_ONLY))(features, of_rows)
        else:
            expected = turned_as_vectors(features, of_rows)
        added = term_sums(expected.double(), turned.double(), LossTerm(kind="mse"))
        return Sums(*(torch.cat([values, value[None]]) for values, value in zip(sums, added, strict=True)))


class TurnedByNetwork(nn.Module):
    """T(f, R) = f + W₂ GELU(W₁ [f, R − 1] + b₁) + b₂, the identity at the start.

    Args:
        channels: of f.
        hidden: of the hidden layer.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.inner = nn.Linear(channels + 9, hidden)
        self.outer = nn.Linear(hidden, channels)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, features: Tensor, rotations: Tensor) -> Tensor:
        """Of features (rows, channels) and a rotation of each, (rows, 3, 3)."""
        identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
        inputs = torch.cat([features, (rotations - identity).flatten(1)], dim=1)
        return features + self.outer(nn.functional.gelu(self.inner(inputs)))


def turned_as_vectors(features: Tensor, rotations: Tensor) -> Tensor:
    """blockdiag(1, R, …, R) f: the last 3k of the channels are k vectors, half of the channels but at least one.

    Args:
        features: f, (rows, channels).
        rotations: R, (rows, 3, 3).
    """
    num_vectors = max(features.shape[1] // 6, 1)
    invariants, vectors = features.tensor_split([features.shape[1] - 3 * num_vectors], dim=1)
    turned = torch.einsum("rij,rkj->rki", rotations, vectors.unflatten(1, (num_vectors, 3)))
    return torch.cat([invariants, turned.flatten(1)], dim=1)


def mean_of_systems(features: Tensor, graph: AtomicGraph) -> Tensor:
    """Mean over the atoms of each system, (systems, channels), of (atoms, channels)."""
    systems = graph.system_index
    sums = features.new_zeros(graph.num_systems, features.shape[1]).index_add(0, systems, features)
    ones = features.new_ones(len(features))
    return sums / features.new_zeros(graph.num_systems).index_add(0, systems, ones).clamp_min(1)[:, None]


@contextmanager
def listening(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what a module returns while the block runs."""
    heard: list[Tensor] = []
    hook = module.register_forward_hook(lambda _module, _inputs, output: heard.append(output))
    try:
        yield heard
    finally:
        hook.remove()
