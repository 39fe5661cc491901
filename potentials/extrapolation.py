"""When a simulation has left what its potential has learned."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols

from sciml.neighbors import VerletList
from sciml.potentials.training_domain import TrainingDomain


@dataclass(frozen=True)
class Limits:
    """How far from what was learned is too far.

    Attributes:
        distance: a pair of atoms is too close below this share of the shortest distance of such a pair in training. A
            pair that never was within the cutoff in training is too close at any distance below it.
        force: a force is too large above this many times the largest in training.
        spread: eV/Å, above which the members of a committee disagree about the force on an atom.
    """

    distance: float = 0.9
    force: float = 2.0
    spread: float = 0.5

    def __post_init__(self) -> None:
        for name, value in (("distance", self.distance), ("force", self.force), ("spread", self.spread)):
            if not 0 < value < math.inf:
                raise ValueError(f"got the limit {name}={value} of extrapolation; expected a positive number")


class ExtrapolationCheck:
    """Says of a structure whether, where and why its potential extrapolates, for `run_md(stop_when=...)`.

    Distances and forces are compared with the training domain; the members of a committee with each other. Neither
    proves that a prediction is right: a structure may be new in ways that show in no pair of atoms.

    Args:
        domain: what was seen in training; None if only the members of a committee can tell.
        cutoff: Å, of the potential, below which pairs were counted in training.
        limits: how far is too far.
        committee: whether the calculator gives "forces_spread".

    Raises:
        ValueError: if there is neither a domain nor a committee.
    """

    def __init__(
        self, domain: TrainingDomain | None, *, cutoff: float, limits: Limits | None = None, committee: bool = False
    ) -> None:
        if domain is None and not committee:
            raise ValueError("got no training domain and no committee; nothing can tell what was learned")
        self.limits = limits or Limits()
        self.committee = committee
        self.largest_force = math.nan if domain is None else self.limits.force * domain.largest_force
        self.domain = domain
        self._table = torch.full((119, 119), cutoff, dtype=torch.float64)  # Å, closer than which is too close
        for (a, b), length in ({} if domain is None else domain.shortest).items():
            self._table[a, b] = self._table[b, a] = self.limits.distance * length
        self._cutoff = cutoff
        self._neighbors: tuple[tuple[int, ...], VerletList] | None = None

    def __call__(self, atoms: Atoms) -> str | None:
        """Why the potential extrapolates, None if nothing says so; forces are those of `atoms.calc`."""
        reasons = (self._too_close(atoms), self._too_strong(atoms), self._in_doubt(atoms))
        return next((reason for reason in reasons if reason is not None), None)

    def _too_close(self, atoms: Atoms) -> str | None:
        if self.domain is None:
            return None
        numbers = torch.from_numpy(atoms.numbers.astype(np.int64))
        neighbors = self._neighbors_of(numbers)
        edge_index, shifts = neighbors.update(atoms.positions, atoms.cell.array, atoms.pbc)
        senders, receivers = edge_index
        positions = torch.from_numpy(atoms.positions)
        vectors = positions[senders] - positions[receivers] + shifts @ torch.from_numpy(atoms.cell.array)
        lengths = torch.linalg.vector_norm(vectors, dim=1)
        shares = lengths / self._table[numbers[senders], numbers[receivers]]
        if not len(shares) or float(shares.min()) >= 1:
            return None
        edge = int(shares.argmin())
        i, j = sorted((int(senders[edge]), int(receivers[edge])))
        a, b = sorted((int(numbers[i]), int(numbers[j])))
        seen = self.domain.shortest.get((a, b))
        what = f"atoms {i} ({atoms.symbols[i]}) and {j} ({atoms.symbols[j]}) are {float(lengths[edge]):.3f} Å apart"
        pair = f"{chemical_symbols[a]}-{chemical_symbols[b]}"
        if seen is None:
            return f"{what}; in training no pair {pair} was within the cutoff of {self._cutoff:g} Å"
        return f"{what}, below {self.limits.distance:g} times the shortest {pair} in training, {seen:.3f} Å"

    def _neighbors_of(self, numbers: torch.Tensor) -> VerletList:
        """A list that reaches as far as any pair of these elements can be too close."""
        elements = tuple(numbers.unique().tolist())
        if self._neighbors is None or self._neighbors[0] != elements:
            farthest = float(self._table[list(elements)][:, list(elements)].max())
            self._neighbors = elements, VerletList(farthest)
        return self._neighbors[1]

    def _too_strong(self, atoms: Atoms) -> str | None:
        if math.isnan(self.largest_force):
            return None
        sizes = np.linalg.norm(atoms.get_forces(apply_constraint=False), axis=1)
        atom = int(sizes.argmax())
        if sizes[atom] <= self.largest_force:
            return None
        return (
            f"the force on atom {atom} ({atoms.symbols[atom]}) is {sizes[atom]:.3g} eV/Å, above {self.limits.force:g} "
            f"times the largest in training, {self.largest_force / self.limits.force:.3g} eV/Å"
        )

    def _in_doubt(self, atoms: Atoms) -> str | None:
        if not self.committee:
            return None
        atoms.get_forces(apply_constraint=False)
        spreads = atoms.calc.results["forces_spread"]
        atom = int(spreads.argmax())
        if spreads[atom] <= self.limits.spread:
            return None
        return (
            f"the committee's forces on atom {atom} ({atoms.symbols[atom]}) spread by {spreads[atom]:.3g} eV/Å, above "
            f"{self.limits.spread:g} eV/Å"
        )
