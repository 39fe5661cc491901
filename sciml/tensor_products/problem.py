"""What a tensor product is asked to compute, apart from how: irreps in, irreps out, and how channels meet."""

from dataclasses import dataclass, field
from typing import NamedTuple

from e3nn.o3 import Irrep, Irreps

MODES = ("uvu", "uvw", "uuu")


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
    """A bilinear equivariant map x ⊗ y → z of O(3), by channels u of x, v of y and w of z.

    Every path p = (l1, l2, l3) is one coupling C^{l1 l2 l3} (e3nn's unit-norm `wigner_3j`):

        "uvu":  z^p_{u k} = α_p Σ_v   w^p_{uv}  Σ_ij C_ijk x_{u i} y_{v j}     keeps the channels of x
        "uuu":  z^p_{u k} = α_p       w^p_u     Σ_ij C_ijk x_{u i} y_{u j}     pairs equal channels
        "uvw":  z_{w k}   = Σ_p α_p Σ_uv w^p_{uvw} Σ_ij C_ijk x_{u i} y_{v j}  all channels meet

    A channel couples all the degrees that have it: where multiplicities differ, the missing ones are zero. The α_p are
    e3nn's "component"/"element" normalisation: z has unit variance if x, y and the weights have.

    Args:
        irreps_in1: irreps of x, such as "32x0e+32x1o".
        irreps_in2: irreps of y, such as "0e+1o+2e".
        irreps_out: irreps of z to keep, whose multiplicities are w in mode "uvw" and ignored elsewhere. None for all
            that the selection rules |l1-l2| ≤ l3 ≤ l1+l2, p3 = p1 p2 allow.
        mode: how channels meet.

    Raises:
        ValueError: for an unknown mode, irreps that cannot be read or are empty, or irreps out that no path leads to.

    >>> problem = TensorProductProblem("32x0e+32x1o", "0e+1o", "0e+1o")
    >>> [(path.block1, path.block2, str(path.irrep_out)) for path in problem.paths]
    [(0, 0, '0e'), (1, 1, '0e'), (0, 1, '1o'), (1, 0, '1o')]
    >>> TensorProductProblem("1o", "1o").irreps_out
    1x0e+1x1e+1x2e
    """

    irreps_in1: Irreps
    irreps_in2: Irreps
    irreps_out: Irreps = None
    mode: str = field(default="uvu", kw_only=True)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"got the mode {self.mode!r}; available: {', '.join(MODES)}")
        for name in ("irreps_in1", "irreps_in2"):
            object.__setattr__(self, name, _read_irreps(name, getattr(self, name)))
        allowed = {ir for _, ir1 in self.irreps_in1 for _, ir2 in self.irreps_in2 for ir in ir1 * ir2}
        if self.irreps_out is None:
            wanted = Irreps([(1, ir) for ir in sorted(allowed)])
        else:
            wanted = _read_irreps("irreps_out", self.irreps_out)
        object.__setattr__(self, "irreps_out", wanted)
        missing = sorted({ir for _, ir in wanted} - allowed)
        if missing:
            raise ValueError(
                f"no path of {self.irreps_in1} ⊗ {self.irreps_in2} leads to {', '.join(map(str, missing))}; "
                f"the selection rules |l1-l2| ≤ l3 ≤ l1+l2, p3 = p1 p2 allow {', '.join(map(str, sorted(allowed)))}"
            )

    @classmethod
    def fully_connected(
        cls, irreps_in1: Irreps | str, irreps_in2: Irreps | str, irreps_out: Irreps | str
    ) -> "TensorProductProblem":
        """Mode "uvw": e3nn's `FullyConnectedTensorProduct`."""
        return cls(irreps_in1, irreps_in2, irreps_out, mode="uvw")

    @classmethod
    def elementwise(
        cls, irreps_in1: Irreps | str, irreps_in2: Irreps | str, irreps_out: Irreps | str | None = None
    ) -> "TensorProductProblem":
        """Mode "uuu": as e3nn's `ElementwiseTensorProduct`, but a channel couples all its degrees, not equal ones."""
        return cls(irreps_in1, irreps_in2, irreps_out, mode="uuu")

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

    def degrees(self, path: Path) -> tuple[int, int, int]:
        """(l1, l2, l3) of a path."""
        return self.irreps_in1[path.block1].ir.l, self.irreps_in2[path.block2].ir.l, path.irrep_out.l

    def channels_out(self, path: Path) -> int:
        """Number of channels that a path leads to."""
        mul1, mul2 = self.irreps_in1[path.block1].mul, self.irreps_in2[path.block2].mul
        if self.mode == "uvw":
            return self.irreps_out.count(path.irrep_out)
        return mul1 if self.mode == "uvu" else min(mul1, mul2)

    def num_elements(self, path: Path) -> int:
        """Number of products that a path adds to one channel of z, as e3nn counts them."""
        mul1, mul2 = self.irreps_in1[path.block1].mul, self.irreps_in2[path.block2].mul
        return {"uvw": mul1 * mul2, "uvu": mul2, "uuu": 1}[self.mode]


def _read_irreps(name: str, given: Irreps | str) -> Irreps:
    try:
        irreps = Irreps(given).remove_zero_multiplicities()
    except (ValueError, TypeError, AssertionError):
        raise ValueError(f"got {name}={given!r}; expected irreps such as '32x0e+32x1o+16x2e'") from None
    if not irreps:
        raise ValueError(f"got {name}={given!r}, which is empty; expected irreps such as '32x0e+32x1o+16x2e'")
    return irreps
