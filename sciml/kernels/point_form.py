"""What kernels of bilinear products are made from: signals, the points where they are multiplied, and what is asked."""

import hashlib
from typing import NamedTuple

import numpy as np

from sciml.kernels.orbits import Matrix, OrbitFactor

Blocks = tuple[tuple[int, int], ...]
MOST_LINES = 8000  # of a kernel: compilers take half a minute here, and more than in proportion
_STRAIGHT_LINES = 1300  # beyond, a kernel loops over planes if there are any
_THREADS = 128


class Side(NamedTuple):
    """What lies where: x, y or z.

    Attributes:
        sizes: (mul, 2l+1) of each block.
        shared: one channel serves all those of the others.
        factor: to or from the points.
    """

    sizes: Blocks
    shared: bool
    factor: OrbitFactor


class Form(NamedTuple):
    """The form F.

    Attributes:
        sides: x, y, z; or x and z.
        orbit_size: points of an orbit.
        layout: "mul_ir" or "ir_mul".
        num_channels: channels that take part.
        weight_muls: weights of each block of x, or one number for weights that all blocks share.
    """

    sides: tuple[Side, ...]
    orbit_size: int
    layout: str
    num_channels: int
    weight_muls: tuple[int, ...]

    @property
    def num_terms(self) -> int:
        """Products added at each point."""
        return self.sides[0].factor.values.shape[0]

    @property
    def num_orbits(self) -> int:
        """Orbits of points."""
        return self.sides[0].factor.values.shape[2]

    @property
    def tile(self) -> tuple[int, int]:
        """Samples and channels of a program."""
        channels = min(1 << (self.num_channels - 1).bit_length(), _THREADS)
        return _THREADS // channels, channels

    @property
    def num_planes(self) -> int:
        """Planes of orbits."""
        return self.num_orbits // self.sides[0].factor.planes[0].places.shape[1]

    @property
    def by_planes(self) -> bool:
        """Whether the kernel loops over planes, or is straight."""
        return self.num_planes > 1 and self._num_operations[0] > _STRAIGHT_LINES

    @property
    def num_operations(self) -> int:
        """About how many instructions a sample and channel takes."""
        return self._num_operations[self.by_planes]

    @property
    def num_lines(self) -> int:
        """About how many lines the kernel has."""
        return self.num_operations // (self.num_planes if self.by_planes else 1)

    @property
    def _num_operations(self) -> tuple[int, int]:
        points = self.num_orbits * self.num_terms * self.orbit_size
        transforms = len(self.sides) * points * (self.orbit_size.bit_length() - 1)
        straight, by_planes = (
            sum(multiplications) + transforms + points
            for multiplications in zip(*(side.factor.num_multiplications for side in self.sides), strict=True)
        )
        return straight, by_planes

    def heights(self) -> Matrix:
        """(planes, sides · terms · components), the factors P of `PlaneFactor`; of no columns for straight kernels."""
        if not self.by_planes:
            return np.zeros((1, 0))
        columns = [plane.heights for side in self.sides for plane in side.factor.planes]
        return np.ascontiguousarray(np.concatenate(columns).T)


FORMS: dict[str, Form] = {}  # by name


def register_form(form: Form) -> str:
    """Name a form by its content, so that operators, which take no objects, find it in `FORMS`."""
    digest = hashlib.sha256(repr((form.orbit_size, form.layout, form.num_channels, form.weight_muls)).encode())
    for side in form.sides:
        digest.update(repr((side.sizes, side.shared)).encode())
        digest.update(side.factor.values.tobytes())
        digest.update(side.factor.characters.tobytes())
    name = digest.hexdigest()[:16]
    FORMS[name] = form
    return name


class Operand(NamedTuple):
    """A signal at the points, to some power."""

    name: str
    side: int
    exponent: int = 1


class Result(NamedTuple):
    """Something to compute: the product of operands, brought back to a side; or, for "weights", its product with x."""

    name: str
    side: int
    operands: tuple[Operand, ...]
    scale: int = 1


class Pass(NamedTuple):
    """What a kernel computes.

    Attributes:
        results: all that it writes.
        weighted: whether x has weights.
        rows: "samples"; "edges" for derivatives of a convolution that are numbers of an edge; "receivers" or "senders"
            for sums over the edges of a node.
    """

    results: tuple[Result, ...]
    weighted: bool = False
    rows: str = "samples"
