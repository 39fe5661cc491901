"""Pair potentials with known derivatives: oracles for tests, and the floor that benchmarks compare with.

    E = Σ_i E_i ,    E_i = ½ Σ_{j ≠ i} s(r_ij) φ_ij(r_ij)

over all neighbours j, periodic images included: each pair gives half of its energy to either atom. The switch

    s(r) = 1                          r < r_on
    s(r) = 1 - x³ (10 - 15 x + 6 x²)  x = (r - r_on)/(r_c - r_on) in [0, 1]
    s(r) = 0                          r > r_c

is twice continuously differentiable, so that forces and their derivatives are continuous at both ends.
Parameters are constants: these potentials cannot be trained.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor

from sciml.graphs import AtomicGraph
from sciml.potentials.interface import Potential


class PairPotential(Potential):
    """Sum of a function φ of the distance over all pairs, switched off between `onset` and `cutoff`.

    Args:
        pairs: parameters of each pair of elements, {"Cu-Cu": {name: value}, "Cu-Zr": {...}}; a pair and its reverse are
            the same. Every pair of the elements that occur must be there.
        cutoff: r_c, Å.
        onset: r_on, Å, where the switch begins; 0.8 r_c if None.

    Raises:
        ValueError: if a pair is missing or given twice, a name or number is not what the potential takes, or the onset
            is not inside [0, cutoff); in use, if an element is not known or two atoms are at the same point.
    """

    parameters_of_a_pair: tuple[str, ...]

    def __init__(self, pairs: Mapping[str, Mapping[str, float]], cutoff: float, *, onset: float | None = None) -> None:
        super().__init__()
        if not 0 < cutoff < math.inf:
            raise ValueError(f"got cutoff={cutoff}; expected a positive, finite length in Å")
        onset = 0.8 * cutoff if onset is None else onset
        if not 0 <= onset < cutoff:
            raise ValueError(f"got onset={onset}; expected 0 <= onset < cutoff, which is {cutoff}")
        self.cutoff, self.onset = float(cutoff), float(onset)
        self._pairs = {pair: {name: float(value) for name, value in given.items()} for pair, given in pairs.items()}
        elements = {pair: _elements(pair) for pair in self._pairs}
        self.species = tuple(sorted({number for pair in elements.values() for number in pair}))
        if not self.species:
            raise ValueError("got no pairs; expected at least one, such as {'Ar-Ar': {...}}")
        shape = len(self.parameters_of_a_pair), len(self.species), len(self.species)
        table = torch.full(shape, torch.nan, dtype=torch.float64)
        for pair, given in self._pairs.items():
            if set(given) != set(self.parameters_of_a_pair) or not all(0 < v < math.inf for v in given.values()):
                raise ValueError(
                    f"got {given} for {pair}; expected positive numbers {', '.join(self.parameters_of_a_pair)}"
                )
            first, second = (self.species.index(number) for number in elements[pair])
            if not table[0, first, second].isnan():
                raise ValueError(f"the pair {pair} is given twice; {pair} and its reverse are the same")
            values = torch.tensor([given[name] for name in self.parameters_of_a_pair], dtype=torch.float64)
            table[:, first, second] = table[:, second, first] = values
        missing = [
            f"{chemical_symbols[self.species[i]]}-{chemical_symbols[self.species[j]]}"
            for i, j in torch.nonzero(table[0].isnan()).tolist()
            if i <= j
        ]
        if missing:
            raise ValueError(f"the parameters of {', '.join(missing)} are missing; every pair needs its own")
        self._table = table  # not a buffer: `to(dtype)` must not round it
        self._numbers = torch.tensor(self.species)

    @property
    def config(self) -> dict[str, Any]:
        """Keyword arguments that build this potential anew."""
        return {"pairs": self._pairs, "cutoff": self.cutoff, "onset": self.onset}

    @property
    def num_hops(self) -> int:
        """One."""
        return 1

    @abstractmethod
    def pair_energy(self, distances: Tensor, *parameters: Tensor) -> Tensor:
        """φ(r), (edges,), eV, of the distances (edges,), Å, and the `parameters_of_a_pair`, (edges,) each."""

    def atomic_energies(self, graph: AtomicGraph, edge_vectors: Tensor) -> Tensor:
        """Half of each pair energy to either atom, (atoms,), eV."""
        numbers, table = self._numbers.to(edge_vectors.device), self._table.to(edge_vectors.device)
        senders, receivers = graph.edge_index
        distances = torch.linalg.vector_norm(edge_vectors, dim=1)  # (edges,)
        coincide = torch.nonzero(distances == 0)
        if len(coincide):
            sender, receiver = graph.edge_index[:, coincide[0, 0]].tolist()
            raise ValueError(f"atoms {receiver} and {sender} are at the same point, where the energy has no derivative")
        kinds = torch.searchsorted(numbers, graph.atomic_numbers)  # (atoms,)
        parameters = table[:, kinds[senders], kinds[receivers]]  # (parameters, edges)
        energies = 0.5 * self._switch(distances) * self.pair_energy(distances, *parameters)  # (edges,)
        return energies.new_zeros(len(kinds)).index_add(0, receivers, energies)

    def _switch(self, distances: Tensor) -> Tensor:
        """s(r), (edges,)."""
        x = ((distances - self.onset) / (self.cutoff - self.onset)).clamp(0, 1)
        return 1 - x**3 * (10 - 15 * x + 6 * x**2)


class LennardJones(PairPotential):
    """Lennard-Jones pairs.

        φ(r) = 4 ε [(σ/r)¹² - (σ/r)⁶]        minimum -ε at 2^(1/6) σ

    Each pair has `epsilon` (eV) and `sigma` (Å). Below the onset it is ASE's `lj` without
    the shift by -φ(r_c) that ASE applies by default.

    References:
        J. E. Jones, Proc. R. Soc. Lond. A 106, 463 (1924), doi:10.1098/rspa.1924.0082.
    """

    parameters_of_a_pair = ("epsilon", "sigma")

    def pair_energy(self, distances: Tensor, *parameters: Tensor) -> Tensor:
        """4 ε [(σ/r)¹² - (σ/r)⁶], (edges,), eV."""
        epsilon, sigma = parameters
        power = (sigma / distances) ** 6
        return 4 * epsilon * power * (power - 1)


class Morse(PairPotential):
    """Morse pairs.

        φ(r) = D [e^(-2α(r - r₀)) - 2 e^(-α(r - r₀))]        minimum -D at r₀, φ'' = 2 D α² there

    Each pair has `depth` D (eV), `steepness` α (1/Å) and `distance` r₀ (Å). ASE's `epsilon` is D, its `rho0` is α r₀.

    References:
        P. M. Morse, Phys. Rev. 34, 57 (1929), doi:10.1103/PhysRev.34.57.
    """

    parameters_of_a_pair = ("depth", "steepness", "distance")

    def pair_energy(self, distances: Tensor, *parameters: Tensor) -> Tensor:
        """D [e^(-2α(r - r₀)) - 2 e^(-α(r - r₀))], (edges,), eV."""
        depth, steepness, distance = parameters
        decay = torch.exp(-steepness * (distances - distance))
        return depth * decay * (decay - 2)


def _elements(pair: str) -> tuple[int, int]:
    """Atomic numbers of "Cu-Zr"."""
    symbols = pair.split("-")
    if len(symbols) != 2 or not all(symbol in atomic_numbers and symbol != "X" for symbol in symbols):
        raise ValueError(f"got the pair {pair!r}; expected two chemical symbols, such as 'Cu-Zr'")
    return atomic_numbers[symbols[0]], atomic_numbers[symbols[1]]
