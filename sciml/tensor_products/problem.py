"""What a tensor product is asked to compute, apart from how: irreps in, irreps out, mode and normalisation."""

from dataclasses import dataclass, field
from typing import NamedTuple

from e3nn.o3 import Irrep, Irreps

MODES = ("uvu",)


class Path(NamedTuple):
    """One coupling l1 ⊗ l2 → l3 of a block of the first input with a block of the second.

    Attributes:
        block1: position of the block in `irreps_in1`.
        block2: position of the block in `irreps_in2`.
        irrep_out: the irrep coupled to.
    """

    block1: int
    block2: int
    irrep_out: Irrep


@dataclass(frozen=True)
class TensorProductProblem:
    """A bilinear equivariant map x ⊗ y → z.

    In mode "uvu" every path p = (l1, l2, l3) keeps the channels u of x and sums over the channels v of y:

        z^p_{u k} = sqrt((2 l3 + 1) / V) Σ_v w^p_{uv} Σ_ij C^{l1 l2 l3}_{ijk} x_{u i} y_{v j}

    with e3nn's unit-norm `wigner_3j` C and its "component"/"element" normalisation.

    Args:
        irreps_in1: irreps of x, such as "32x0e+32x1o".
        irreps_in2: irreps of y, such as "0e+1o+2e".
        irreps_out: irreps of z to keep; multiplicities are ignored in mode "uvu".
        mode: how channels meet.

    Raises:
        ValueError: for an unknown mode, or if no path leads to one of `irreps_out`.

    >>> problem = TensorProductProblem("32x0e+32x1o", "0e+1o", "0e+1o")
    >>> [(path.block1, path.block2, str(path.irrep_out)) for path in problem.paths]
    [(0, 0, '0e'), (1, 1, '0e'), (0, 1, '1o'), (1, 0, '1o')]
    """

    irreps_in1: Irreps
    irreps_in2: Irreps
    irreps_out: Irreps
    mode: str = field(default="uvu", kw_only=True)

    def __post_init__(self) -> None:
        for name in ("irreps_in1", "irreps_in2", "irreps_out"):
            object.__setattr__(self, name, Irreps(getattr(self, name)))
        if self.mode not in MODES:
            raise ValueError(f"got the mode {self.mode!r}; available: {', '.join(MODES)}")
        reached = {path.irrep_out for path in self.paths}
        missing = [str(ir) for _, ir in self.irreps_out if ir not in reached]
        if missing:
            raise ValueError(
                f"no path of {self.irreps_in1} ⊗ {self.irreps_in2} leads to {', '.join(missing)}; "
                f"ask only for irreps among those that the selection rules |l1-l2| ≤ l3 ≤ l1+l2, p3 = p1 p2 allow"
            )

    @property
    def paths(self) -> tuple[Path, ...]:
        """All paths into `irreps_out`, sorted by (output irrep, block of x, block of y)."""
        wanted = {ir for _, ir in self.irreps_out}
        found = [
            Path(block1, block2, ir)
            for block1, (_, ir1) in enumerate(self.irreps_in1)
            for block2, (_, ir2) in enumerate(self.irreps_in2)
            for ir in ir1 * ir2
            if ir in wanted
        ]
        return tuple(sorted(found, key=lambda path: (path.irrep_out, path.block1, path.block2)))
