"""Blocks of trajectories: which there are in a set of flow fields, and how one is computed, by whatever process."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from sciml.datasets.field_statistics import trajectory_moments
from sciml.datasets.flows import Flow, flow_of
from sciml.files import atomic_write
from sciml.pde.stepper import Stepper, UnstableError

SPLITS = ("train", "valid", "test")
LOCK_SECONDS = 60


@dataclass(frozen=True)
class Generation:
    """Which fields to generate; the data follow from these settings.

    Attributes:
        flow: a key of `sciml.datasets.flows.FLOWS`.
        resolution: number of cells along each axis.
        trajectories: of the training split; None: as many as the published set has.
        valid: trajectories of the validation split; None: a quarter of those of the training split.
        test: of the test split, likewise.
        seed: trajectory k of the split s draws from a generator seeded with (seed, s, k), whatever else is computed.
        parameters: of the flow, that are not to be its own.
        device: "cpu" or "cuda"; their results differ by rounding.
    """

    flow: str
    resolution: int = 64
    trajectories: int | None = None
    valid: int | None = None
    test: int | None = None
    seed: int = 0
    parameters: Mapping[str, float] = field(default_factory=dict)
    device: str = "cpu"

    def __post_init__(self) -> None:
        self.made_flow().solver(self.resolution)  # complains about what does not fit
        if self.splits()["train"] < 1 or min(self.splits().values()) < 0:
            raise ValueError(f"got {self.splits()} trajectories; at least one to train on, and no negative number")
        if self.seed < 0:
            raise ValueError(f"got seed={self.seed}; it must not be negative")
        if self.device not in ("cpu", "cuda"):
            raise ValueError(f"got device={self.device!r}; expected cpu or cuda")

    def made_flow(self) -> Flow:
        """The flow with its parameters."""
        return flow_of(self.flow, self.parameters)

    def splits(self) -> dict[str, int]:
        """Trajectories of each split."""
        train = self.made_flow().trajectories if self.trajectories is None else self.trajectories
        quarter = -(-train // 4)
        return {
            "train": train,
            "valid": quarter if self.valid is None else self.valid,
            "test": quarter if self.test is None else self.test,
        }

    def blocks(self) -> list["Block"]:
        """What is computed at a time, in the order of splits and trajectories."""
        flow = self.made_flow()
        size = flow.block if self.device == "cpu" else flow.cuda_block
        return [
            Block(split, first, min(first + size, count))
            for split, count in self.splits().items()
            for first in range(0, count, size)
        ]


@dataclass(frozen=True)
class Block:
    """Trajectories first, ..., stop − 1 of a split."""

    split: str
    first: int
    stop: int

    def file(self, folder: Path) -> Path:
        """Where its frames are kept until all are there."""
        return folder / f"{self.split}-{self.first:06d}-{self.stop:06d}.npz"


def trajectories(flow: Flow, resolution: int, seeds: Sequence[tuple[int, ...]], *, device: str = "cpu") -> Tensor:
    """Frames of one trajectory for each seed, (seeds, frames, channels, num_x, num_y) in float32.

    They are not checked: a trajectory that went wrong holds NaN. On CUDA nothing waits for the device but a solver
    that chooses its own time steps.

    Raises:
        UnstableError: if the solver finds one of them unstable.
    """
    solver = flow.solver(resolution)
    starts = [flow.start(solver.grid, _generator(seed)) for seed in seeds]
    u = torch.cat(starts)  # (seeds, channels, num_x, num_y)
    limit = solver.largest_step(u)
    if solver.dt > limit:
        raise UnstableError(f"steps of {solver.dt:.3g} are too long for these fields; at most {limit:.3g} is stable")
    return _frames(solver, u.to(device), flow.frames, *flow.steps(resolution))


def _frames(solver: Stepper, u: Tensor, count: int, first: int, every: int) -> Tensor:
    state, kept = solver.encode(u), [u] if first == 0 else []
    step = 0
    while len(kept) < count:
        state, step = solver.advance(state), step + 1
        if step >= first and (step - first) % every == 0:
            kept.append(solver.decode(state))
    return torch.stack(kept, dim=1)


def _generator(seed: tuple[int, ...]) -> torch.Generator:
    """A generator whose numbers for different tuples have nothing to do with each other."""
    state = np.random.SeedSequence(seed).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)


def make_block(block: Block, generation: Generation, folder: Path, *, owner: int | None) -> None:
    """Compute a block once; its file appears whole or not at all.

    `owner` is the process that started this one; when it is gone nothing more is computed, because the command may have
    been started again.
    """
    path = block.file(folder)
    if path.exists():
        return
    if owner is not None and owner not in (os.getpid(), os.getppid()):
        raise ValueError(f"{block.split}, trajectory {block.first}: the process that started this worker is gone")
    try:
        with FileLock(path.with_suffix(".lock"), timeout=LOCK_SECONDS), one_thread():
            if not path.exists():
                frames = _computed(block, generation)
                moments = trajectory_moments(frames, history=generation.made_flow().history)
                array = frames.cpu().numpy()
                atomic_write(path, lambda temporary: np.savez(temporary, frames=array, moments=moments))
    except Timeout:
        raise ValueError(f"{path.name} is being made by another process; wait for it or end it") from None


def _computed(block: Block, generation: Generation) -> Tensor:
    """Checked frames of a block, or an error that names the trajectory that has none."""
    flow, split = generation.made_flow(), SPLITS.index(block.split)
    seeds = [(generation.seed, split, number) for number in range(block.first, block.stop)]
    try:
        frames = trajectories(flow, generation.resolution, seeds, device=generation.device)
        good = torch.isfinite(frames).flatten(1).all(dim=1).tolist()
        if all(good):
            return frames
    except ValueError:  # of a solver, or of initial fields that cannot be
        good = [False] * len(seeds)
    for number in (number for number, fine in enumerate(good) if not fine):
        reason = "its fields are no numbers"
        try:
            alone = trajectories(flow, generation.resolution, [seeds[number]], device=generation.device)
            if bool(torch.isfinite(alone).all()):
                continue
        except ValueError as error:
            reason = str(error)
        raise UnstableError(
            f"trajectory {block.first + number} of {block.split} (seed {generation.seed}) cannot be computed: {reason}"
            "; change the parameters or the resolution (with which all is generated anew)"
        )
    raise UnstableError(
        f"trajectories {block.first} to {block.stop - 1} of {block.split} cannot be computed together, but each alone; "
        "this is a defect, please report it"
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: the processes share out the cores, and sums do not depend on them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
