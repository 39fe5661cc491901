"""What the generated sets of flow fields are: solver, initial fields, frames, and the constants published for them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from sciml.datasets.field_statistics import FieldStatistics
from sciml.messages import did_you_mean
from sciml.pde.compressible import CompressibleNavierStokes
from sciml.pde.grid import Grid
from sciml.pde.initial_fields import random_gas, random_winds
from sciml.pde.shallow_water import ShallowWater
from sciml.pde.smoke import BuoyantSmoke, smoke_at_rest
from sciml.pde.stepper import Stepper


@dataclass(frozen=True)
class Published:
    """Statistics of a set of the same kind.

    Attributes:
        statistics: name of a field of `FieldStatistics`, or "mean_persistence", to its value by channel (None: not
            compared, such as a mean that is zero).
        trajectories: as many are needed at least for a comparison within 3 %.
        source: where they are from.
    """

    statistics: Mapping[str, Sequence[float | None]]
    trajectories: int
    source: str


class Flow(ABC):
    """A kind of data. Subclasses are frozen dataclasses, whose attributes are the parameters of the equation.

    Attributes:
        title: one line.
        frames: frames of a trajectory.
        history: frames that surrogates are given, for the error of persistence.
        trajectories: of the training split, if nobody says otherwise.
        block: trajectories that a process of the CPU computes at a time; on CUDA it is `cuda_block`.
        units: what L, M and T stand for in the units of the solver's fields; nothing if they are pure numbers.
        published: by resolution.
    """

    title: ClassVar[str]
    frames: ClassVar[int]
    history: ClassVar[int]
    trajectories: ClassVar[int]
    block: ClassVar[int]
    cuda_block: ClassVar[int] = 64
    units: ClassVar[Mapping[str, str]] = {}
    published: ClassVar[Mapping[int, Published]] = {}

    @abstractmethod
    def solver(self, resolution: int) -> Stepper:
        """On a square of resolution² cells."""

    @abstractmethod
    def steps(self, resolution: int) -> tuple[int, int]:
        """Steps of the solver before the first frame, and from one frame to the next."""

    @abstractmethod
    def start(self, grid: Grid, generator: torch.Generator) -> Tensor:
        """Random fields of one trajectory in float32, (1, channels, num_x, num_y)."""

    def parameters(self) -> dict[str, float]:
        """Constants of the equation and of the initial fields, by name."""
        return asdict(self)  # type: ignore[call-overload]


@dataclass(frozen=True)
class SmokeFlow(Flow):
    """Buoyant smoke in a closed box, PDEArena's Navier-Stokes data.

    The solver's steps take 1.5 of the unit of time. Every fourth of the steps 9 to 61 is a frame.

    Source: arXiv:2209.15616, app. B.1; the constants are those in the code of arXiv:2403.19507.
    """

    title: ClassVar[str] = "incompressible Navier-Stokes: buoyant smoke in a closed box (PDEArena's)"
    frames: ClassVar[int] = 14
    history: ClassVar[int] = 4
    trajectories: ClassVar[int] = 5200
    block: ClassVar[int] = 16
    published: ClassVar[Mapping[int, Published]] = {
        128: Published(
            {"mean": (0.717, None, None), "std": (0.443, 0.439, 0.509), "mean_persistence": (0.594,)},
            300,
            "PDEArena, arXiv:2403.19507",
        ),
        64: Published(  # of 3,200 trajectories, by this package
            {"mean": (0.717, None, None), "std": (0.425, 0.422, 0.483), "mean_persistence": (0.543,)},
            300,
            "sciml 0.1.0, 3,200 trajectories",
        ),
    }

    viscosity: float = 0.01
    buoyancy: float = 0.5
    length: float = 32.0
    time_step: float = 1.5

    def solver(self, resolution: int) -> Stepper:
        """See `Flow.solver`."""
        grid = Grid.square(resolution, self.length, "wall")
        return BuoyantSmoke(grid, self.time_step, viscosity=self.viscosity, buoyancy=self.buoyancy)

    def steps(self, resolution: int) -> tuple[int, int]:  # noqa: ARG002 - the same for all
        """See `Flow.steps`."""
        return 9, 4

    def start(self, grid: Grid, generator: torch.Generator) -> Tensor:
        """See `Flow.start`."""
        return smoke_at_rest(grid, 1, generator, dtype=torch.float32)


@dataclass(frozen=True)
class GasFlow(Flow):
    """Compressible flow in a periodic square, started as PDEBench's; 21 frames.

    PDEBench solves on 512² cells and keeps every fourth; here the cells of the data are those of the solver, which
    keeps their sums. Its viscosities of 1e-8 are less than rounding in float32, and zero here.

    Source: arXiv:2210.07182, app. D.5; frames and Mach number as in arXiv:2403.19507.
    """

    title: ClassVar[str] = "compressible Navier-Stokes in a periodic square, Mach 0.1 (started as PDEBench's)"
    frames: ClassVar[int] = 21
    history: ClassVar[int] = 10
    trajectories: ClassVar[int] = 5400
    block: ClassVar[int] = 8

    mach: float = 0.1
    gamma: float = 5 / 3
    shear_viscosity: float = 0.0
    bulk_viscosity: float = 0.0
    length: float = 1.0
    frame_time: float = 0.05

    def solver(self, resolution: int) -> Stepper:
        """See `Flow.solver`."""
        return CompressibleNavierStokes(
            Grid.square(resolution, self.length),
            self.frame_time,
            gamma=self.gamma,
            shear_viscosity=self.shear_viscosity,
            bulk_viscosity=self.bulk_viscosity,
        )

    def steps(self, resolution: int) -> tuple[int, int]:  # noqa: ARG002 - the solver divides frames itself
        """See `Flow.steps`."""
        return 0, 1

    def start(self, grid: Grid, generator: torch.Generator) -> Tensor:
        """See `Flow.start`."""
        return random_gas(grid, 1, generator, gamma=self.gamma, mach=self.mach, dtype=torch.float32)


@dataclass(frozen=True)
class WindFlow(Flow):
    """Rotating shallow water in a periodic plane as large as an ocean; 11 frames, 6 hours apart.

    PDEArena's shallow water is on the sphere, with frames of 2 days; this one is not a reproduction of it.
    """

    title: ClassVar[str] = "rotating shallow water in a periodic plane: winds near balance, 6 hours a frame"
    frames: ClassVar[int] = 11
    history: ClassVar[int] = 2
    trajectories: ClassVar[int] = 5600
    block: ClassVar[int] = 8
    units: ClassVar[Mapping[str, str]] = {"L": "m", "T": "s"}

    gravity: float = 9.81
    coriolis: float = 1e-4
    hyperviscosity: float = 1e15
    depth: float = 1000.0
    speed: float = 20.0
    imbalance: float = 0.2
    length: float = 1e7
    frame_time: float = 21600.0

    def solver(self, resolution: int) -> Stepper:
        """See `Flow.solver`."""
        return ShallowWater(
            Grid.square(resolution, self.length),
            self.frame_time / self.steps(resolution)[1],
            gravity=self.gravity,
            coriolis=self.coriolis,
            hyperviscosity=self.hyperviscosity,
        )

    def steps(self, resolution: int) -> tuple[int, int]:
        """See `Flow.steps`: 450 s each on 64² points, for gravity waves."""
        return 0, -(-3 * resolution // 4)

    def start(self, grid: Grid, generator: torch.Generator) -> Tensor:
        """See `Flow.start`."""
        return random_winds(
            grid,
            1,
            generator,
            gravity=self.gravity,
            coriolis=self.coriolis,
            depth=self.depth,
            speed=self.speed,
            imbalance=self.imbalance,
            dtype=torch.float32,
        )


FLOWS: dict[str, type[Flow]] = {"ins": SmokeFlow, "cns": GasFlow, "swe": WindFlow}


def flow_of(name: str, parameters: Mapping[str, Any] | None = None) -> Flow:
    """A flow by its name, with some of its parameters changed.

    Raises:
        ValueError: if there is no such flow or parameter, or the value is no number.
    """
    if name not in FLOWS:
        hint = did_you_mean(name, FLOWS) or ";"
        raise ValueError(f"got the flow {name!r}{hint} available: {', '.join(FLOWS)}")
    known = [field.name for field in fields(FLOWS[name])]  # type: ignore[arg-type]
    for key, value in (parameters or {}).items():
        if key not in known:
            hint = did_you_mean(key, known) or ";"
            raise ValueError(f"got the parameter {key!r}{hint} {name} has {', '.join(known)}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"got {key}={value!r}; expected a number")
    return replace(FLOWS[name](), **{key: float(value) for key, value in (parameters or {}).items()})  # type: ignore[type-var]


def differences_from_published(
    flow: Flow, resolution: int, statistics: FieldStatistics, trajectories: int, *, tolerance: float = 0.03
) -> list[str]:
    """One line for each statistic that is further from the published one than `tolerance`, relatively.

    There are none where the parameters are not those of the published set, too few trajectories, or nothing published.
    """
    published = flow.published.get(resolution)
    if published is None or trajectories < published.trajectories or flow != type(flow)():
        return []
    names = [field.name for field in flow.solver(resolution).fields]
    lines = []
    for statistic, values in published.statistics.items():
        measured = getattr(statistics, statistic)
        measured = measured if isinstance(measured, tuple) else (measured,)
        for number, (value, expected) in enumerate(zip(measured, values, strict=True)):
            if expected is not None and not abs(value / expected - 1) <= tolerance:
                of = f" of {names[number]}" if len(values) > 1 else ""
                lines.append(f"{statistic}{of} is {value:.3f}, published {expected:.3f} ({published.source})")
    return lines
