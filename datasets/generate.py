"""Sets of flow fields from a seed, on the processes of a machine, of a Dask cluster, or on a GPU."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
import yaml
from filelock import FileLock, Timeout
from torch import Tensor

import sciml
from sciml.datasets.field_statistics import FieldStatistics, trajectory_moments
from sciml.datasets.flows import Flow, flow_of
from sciml.datasets.well_writer import FieldSet, require_h5py, write_fields
from sciml.datasets.workers import polling, workers
from sciml.files import atomic_write
from sciml.messages import differing_settings
from sciml.pde.stepper import Stepper, UnstableError
from sciml.potentials.restart import read_json, replace_json, replace_text

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


def generate(
    generation: Generation,
    output: str | Path,
    *,
    processes: int = 1,
    dask: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> bool:
    """Generate `output`/data/train, valid and test with an HDF5 file each, which `open_fields` reads.

    The layout is that of the Well, with the statistics of the training split in `output`/stats.yaml and in each file.
    Until all is there, `output`/parts/ has a file per block of trajectories, which takes the space a second time.
    The same call continues what a killed one left; neither that nor the number of processes changes a bit.

    Args:
        generation: what to generate.
        output: a folder.
        processes: blocks at a time on this machine; on CUDA there is one.
        dask: address of a Dask scheduler, or "local" for one started here with `processes` workers. Its workers must
            see the folder `output`.
        on_progress: called every 0.2 s with the trajectories done and to do.

    Returns:
        False if `output` was complete already, and nothing was done.

    Raises:
        UnstableError: if a trajectory cannot be computed; the message has its split and number.
        ValueError: if `output` was made with other settings, or not by this function, or there is no such device.
    """
    output = Path(output)
    require_h5py()
    if generation.device == "cuda" and (processes > 1 or dask):
        raise ValueError("one process computes on CUDA, in large batches; leave out the workers and dask")
    if generation.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("got device=cuda, but torch finds no GPU here; use cpu")
    settings_path, parts = output / "generation.json", output / "parts"
    _begin(settings_path, {**asdict(generation), "parameters": dict(generation.parameters)})
    splits = {split: count for split, count in generation.splits().items() if count}
    targets = {split: output / "data" / split / f"{generation.flow}.hdf5" for split in splits}
    summary = output / "stats.yaml"
    if summary.exists() and all(target.exists() for target in targets.values()):
        shutil.rmtree(parts, ignore_errors=True)
        return False
    parts.mkdir(parents=True, exist_ok=True)
    parts = parts.resolve()  # workers of a cluster may have another working directory

    blocks = generation.blocks()
    total = sum(splits.values())
    progress = (lambda: on_progress(_done(blocks, parts), total)) if on_progress else None
    with polling(progress):
        if generation.device == "cuda":
            for block in blocks:
                _make(block, generation, parts, owner=None)
        else:
            with workers(processes, dask) as parallel:
                owner = None if dask else os.getpid()
                parallel(joblib.delayed(_make)(block, generation, parts, owner=owner) for block in blocks)
    statistics = _statistics([block.file(parts) for block in blocks if block.split == "train"])
    content = _field_set(generation, statistics)
    for split, target in targets.items():
        files = [block.file(parts) for block in blocks if block.split == split]
        described = _of_split(content, split, generation)
        write_fields(target, described, (_loaded(file)["frames"] for file in files), trajectories=splits[split])
    replace_text(summary, yaml.safe_dump(_well_statistics(content, statistics), sort_keys=True))
    shutil.rmtree(parts, ignore_errors=True)
    return True


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


def _make(block: Block, generation: Generation, folder: Path, *, owner: int | None) -> None:
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
                atomic_write(path, lambda temporary: np.savez(temporary, frames=frames, moments=moments))
    except Timeout:
        raise ValueError(f"{path.name} is being made by another process; wait for it or end it") from None


def _computed(block: Block, generation: Generation) -> np.ndarray:
    """Frames of a block, or an error that names the trajectory that has none."""
    flow, split = generation.made_flow(), SPLITS.index(block.split)
    seeds = [(generation.seed, split, number) for number in range(block.first, block.stop)]
    try:
        frames = trajectories(flow, generation.resolution, seeds, device=generation.device).cpu().numpy()
    except (UnstableError, ValueError):
        frames = None
    good = np.zeros(len(seeds), dtype=bool) if frames is None else np.isfinite(frames).all(axis=(1, 2, 3, 4))
    if frames is not None and good.all():
        return frames
    for number in np.flatnonzero(~good):
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


def _begin(settings_path: Path, settings: dict[str, Any]) -> None:
    """Write the settings, or compare them with those that are there."""
    output, saved = settings_path.parent, read_json(settings_path)
    if saved is not None and (differing := differing_settings(saved, settings)):
        raise ValueError(
            f"{output} was begun with other settings:\n  " + "\n  ".join(differing) + "\n"
            "give the same settings to continue, choose another output, or delete it"
        )
    if saved is None and output.exists() and any(output.iterdir()):
        raise ValueError(f"{output} holds other files; choose another output")
    if saved is None:
        replace_json(settings_path, settings)


def _done(blocks: list[Block], parts: Path) -> int:
    return sum(block.stop - block.first for block in blocks if block.file(parts).exists())


def _loaded(path: Path) -> Any:
    return np.load(path, allow_pickle=False)


def _statistics(files: list[Path]) -> FieldStatistics:
    return FieldStatistics.from_moments(np.concatenate([_loaded(file)["moments"] for file in files]))


def _field_set(generation: Generation, statistics: FieldStatistics) -> FieldSet:
    flow = generation.made_flow()
    solver = flow.solver(generation.resolution)
    first, every = flow.steps(generation.resolution)
    return FieldSet(
        name=generation.flow,
        grid=solver.grid,
        fields=solver.fields,
        times=[(first + every * frame) * solver.dt for frame in range(flow.frames)],
        at=solver.at,
        parameters=flow.parameters(),
        units=flow.units,
        attributes={"description": flow.title, "history": flow.history},
        statistics=statistics,
    )


def _of_split(content: FieldSet, split: str, generation: Generation) -> FieldSet:
    origin = {
        "split": split,
        "seed": generation.seed,
        "seeds_of_trajectories": f"({generation.seed}, {SPLITS.index(split)}, number of the trajectory)",
        "device": generation.device,
        "software": f"sciml {sciml.__version__}, torch {torch.__version__}",
    }
    return FieldSet(**{**vars(content), "attributes": {**content.attributes, **origin}})


def _well_statistics(content: FieldSet, statistics: FieldStatistics) -> dict[str, dict[str, float | list[float]]]:
    """What the Well's own reader takes its normalisation from: numbers of scalars, lists of vectors."""
    tables: dict[str, Any] = {name: getattr(statistics, name) for name in ("mean", "std", "mean_delta", "std_delta")}
    tables["rms"] = np.hypot(statistics.mean, statistics.std)
    tables["rms_delta"] = np.hypot(statistics.mean_delta, statistics.std_delta)
    return {
        name: {
            stored: float(values[channels[0]]) if len(channels) == 1 else [float(values[c]) for c in channels]
            for stored, channels in content.groups().items()
        }
        for name, values in tables.items()
    }
