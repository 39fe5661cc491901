"""Sets of flow fields from a seed, on the processes of a machine, of a Dask cluster, or on a GPU."""

import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
import yaml

import sciml
from sciml.datasets.field_statistics import FieldStatistics
from sciml.datasets.flow_blocks import SPLITS, Block, Generation, make_block
from sciml.datasets.well_writer import FieldSet, require_h5py, write_fields
from sciml.datasets.workers import polling, workers
from sciml.messages import differing_settings
from sciml.potentials.restart import read_json, replace_json, replace_text

__all__ = ["Generation", "generate"]


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
                make_block(block, generation, parts, owner=None)
        else:
            with workers(processes, dask) as parallel:
                owner = None if dask else os.getpid()
                parallel(joblib.delayed(make_block)(block, generation, parts, owner=owner) for block in blocks)
    statistics = _statistics([block.file(parts) for block in blocks if block.split == "train"])
    content = _field_set(generation, statistics)
    for split, target in targets.items():
        files = [block.file(parts) for block in blocks if block.split == split]
        described = _of_split(content, split, generation)
        write_fields(target, described, (_loaded(file)["frames"] for file in files), trajectories=splits[split])
    replace_text(summary, yaml.safe_dump(_well_statistics(content, statistics), sort_keys=True))
    shutil.rmtree(parts, ignore_errors=True)
    return True


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
