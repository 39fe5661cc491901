"""`sciml train`: from labelled structures to a trained potential in a run folder.

With a network of `sciml.pde.checkpoint.NETWORKS` as its model, `sciml.cli.train_fields` does the job instead.
"""

import dataclasses
import functools
import inspect
import logging
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from ase.data import chemical_symbols
from lightning_fabric import Fabric
from rich.console import Console

from sciml.cli import evaluate
from sciml.cli.arguments import parse_config
from sciml.cli.launch import flatten, launch, plain
from sciml.cli.train_display import Logs, ProgressBar, summary
from sciml.cli.train_setup import (
    describe_potential,
    describe_rotation_error,
    digest,
    equivariance_error,
    loss_terms,
    measured_rotation_error,
    prepare,
    report_equivariance,
    training_domain,
)
from sciml.cli.train_shifts import refit_checkpoint
from sciml.datasets import Checks, LabelKeys, LabelledStructure, labelled_graph, read_structures, split_structures
from sciml.datasets.checks import located, warn_about_shared_frames
from sciml.files import atomic_write
from sciml.graphs import AtomicGraph, check_species, collate
from sciml.potentials.checkpoint import model_class, read_config, save_potential
from sciml.potentials.interface import Potential, check_boundaries
from sciml.potentials.rotation_error import RotationError
from sciml.potentials.training_domain import KEY, TrainingDomain
from sciml.training.batching import GraphBatchSampler
from sciml.training.learned_equivariance import EquivarianceTerm, LearnedEquivariance
from sciml.training.loading import Loader
from sciml.training.loop import fit
from sciml.training.losses import LossTerm, Objective, PotentialObjective
from sciml.training.optimizers import OptimizerSettings
from sciml.training.processes import leaving_together
from sciml.training.progress import LoopSettings
from sciml.training.rotation_augmentation import RotationAugmentation

logger = logging.getLogger("sciml.train")

OTHER_JOB = ("model.name", "sciml.cli.train_fields")  # see `sciml.cli.other_job`

# Settings that do not change what a run computes (up to rounding), and may thus differ when it is continued.
FREE_SETTINGS = (
    *("train", "valid", "test", "index", "checks", "refit_shifts"),
    *("output", "max_time", "device", "threads", "recorded", "compiled", "gradient_checkpointing"),
)


@dataclass(frozen=True)
class Loss:
    """Terms of the loss; a term whose label the training data do not have is left out.

    Attributes:
        energy: of the energy per atom, eV/atom.
        forces: of the forces, eV/Å.
        stress: of the stress, eV/Å³.
        second_stage: share of the training after which terms have their `second_weight`, if they have one.
        equivariance: how strongly a model without symmetry is asked to turn its features with the structure; no part
            of the validation loss.
    """

    energy: LossTerm = field(default_factory=lambda: LossTerm(weight=1.0, kind="mae"))
    forces: LossTerm = field(default_factory=lambda: LossTerm(weight=10.0, kind="norm"))
    stress: LossTerm = field(default_factory=lambda: LossTerm(weight=100.0, kind="mae"))
    second_stage: float = 0.75
    equivariance: EquivarianceTerm = field(default_factory=EquivarianceTerm)


@dataclass
class Config:
    """Train a potential on labelled structures; the same command continues a run that was killed.

    Attributes:
        train: files of labelled structures, anything that ase.io reads; patterns such as "data/*.xyz" too.
        output: run folder: config.yaml, metrics.csv, learning_curve.png, train.log, best/, last/; test/ with `test`.
        valid: files of validation structures; without them a part of `train` is held out.
        test: files of structures on which the best checkpoint is evaluated at the end, as by `sciml evaluate`.
        valid_fraction: share of `train` that is held out if there is no `valid`.
        index: frames to read of each file, in Python's slice notation.
        keys: names of the labels in the files.
        checks: which mistakes in the files are errors.
        reference_energies: energy of each element that is subtracted: isolated (from isolated atoms among the
            structures), fit (least squares), auto (isolated if there are all, else fit; with `init_from`, those of the
            checkpoint), or a mapping such as {H: -13.6, O: -432.1} in eV.
        model: name and arguments of the model. Species, reference energies, shifts, the average number of neighbours
            and the energy scale come from the training data unless they are given.
        init_from: checkpoint folder whose weights are the starting point (fine-tuning).
        pretrain: settings of a training before this one, where they differ from it; it runs first, in the folder
            pretrained/ of `output`, and its best weights are the starting point. With {model: {forces: direct}},
            EScAIP learns direct forces, which are cheaper, before those of the gradient.
        loss: weight and kind of each term of the loss.
        refit_shifts: whether the energies of the elements are fitted anew, by least squares, when the training is over;
            see `sciml.cli.train_shifts`.
        augment_rotations: whether each structure is turned at random, with its labels, whenever it is trained on.
        optimizer: learning rate, its schedule, weight decay, clipping and weight averaging.
        batch_size: structures per batch, over all processes.
        max_atoms: fewer structures per batch if they would have more atoms than this.
        max_edges: fewer structures per batch if they would have more edges (pairs within the cutoff) than this.
        max_epochs: passes over the training data; the learning rate falls over this length.
        max_steps: stop after this many updates, and let the learning rate fall over them if that is sooner.
        max_time: stop before the epoch that would exceed this many seconds of training in all.
        time_budget: let the learning rate fall over this many seconds of training, and stop then. Set max_epochs to
            more than fit; no two such runs are alike.
        patience: stop after this many epochs without a better validation loss.
        valid_interval: epochs between validations; each gives a row of metrics.csv and writes the checkpoints.
        recorded: whether a GPU repeats the steps by itself, from a CUDA graph; null for wherever it can be.
        compiled: whether steps that a GPU repeats by itself are compiled as well, which takes minutes at the start.
        tf32: whether matrix products of training steps may round float32 to TF32 on a GPU; validation never does.
        gradient_checkpointing: whether to evaluate the layers anew in the backward pass, for less memory and more time;
            the result is the same. See `sciml.potentials.Potential`.
        dtype: of the weights; energies are summed in float64 in any case.
        device: auto (a GPU if there is one), cpu, cuda or cuda:1.
        seed: of initial weights, split and order of the batches.
        threads: of torch on the CPU; results are bitwise reproducible for a given number.
    """

    train: list[str]
    output: str
    valid: list[str] | None = None
    test: list[str] | None = None
    valid_fraction: float = 0.1
    index: str = ":"
    keys: LabelKeys = field(default_factory=LabelKeys)
    checks: Checks = field(default_factory=Checks)
    reference_energies: str | dict[str, float] = "auto"
    model: dict[str, Any] = field(default_factory=lambda: {"name": "facet"})
    init_from: str | None = None
    pretrain: dict[str, Any] | None = None
    loss: Loss = field(default_factory=Loss)
    refit_shifts: bool = True
    augment_rotations: bool = False
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    batch_size: int = 8
    max_atoms: int | None = None
    max_edges: int | None = None
    max_epochs: int = 100
    max_steps: int | None = None
    max_time: float | None = None
    time_budget: float | None = None
    patience: int | None = None
    valid_interval: int = 1
    recorded: bool | None = None
    compiled: bool = False
    tf32: bool = False
    gradient_checkpointing: bool = False
    dtype: Literal["float32", "float64"] = "float32"
    device: str = "auto"
    seed: int = 0
    threads: int | None = None


def run(config: Config) -> None:
    """Train, or continue, the run that `config` describes.

    Raises:
        ValueError: if the configuration, the data or the run folder do not fit together, or the training diverges.
    """
    if config.pretrain is not None:
        first = pretraining(config)
        run(first)
        # What only the first training says of the model has its default in this one.
        defaults = inspect.signature(model_class(first.model["name"])).parameters
        model = {name: defaults[name].default for name in first.model if name in defaults} | config.model
        config = dataclasses.replace(config, model=model, init_from=f"{first.output}/best", pretrain=None)
    settings = LoopSettings(
        max_epochs=config.max_epochs,
        max_steps=config.max_steps,
        max_time=config.max_time,
        time_budget=config.time_budget,
        patience=config.patience,
        valid_interval=config.valid_interval,
        recorded=config.recorded,
        compiled=config.compiled,
        tf32=config.tf32,
        seed=config.seed,
        optimizer=config.optimizer,
    )
    if config.threads is not None:
        if config.threads < 1:
            raise ValueError(f"got threads={config.threads}; it must be at least 1")
        torch.set_num_threads(config.threads)
    fabric = launch(config.device)
    folder = Path(config.output)
    console = Console(quiet=not fabric.is_global_zero)
    with leaving_together(fabric), Logs(folder, console, to_file=fabric.is_global_zero):
        train(config, settings, fabric, folder, console)


def train(config: Config, settings: LoopSettings, fabric: Fabric, folder: Path, console: Console) -> None:
    """Prepare data and model, fit, and say what came out."""
    with console.status("reading structures"):
        isolated, train_set, valid_set = read_data(config)
    torch.manual_seed(config.seed)
    potential, graphs = prepare(
        isolated,
        train_set,
        model=config.model,
        energies=config.reference_energies,
        init_from=config.init_from,
        seed=config.seed,
    )
    for structure in (*train_set, *valid_set):
        with located(structure.origin):
            check_species(structure.atoms.numbers, potential.species)
            check_boundaries(potential, structure.atoms.pbc)
    valid_graphs = [labelled_graph(structure, potential.cutoff) for structure in valid_set]
    potential.to(device=fabric.device, dtype=getattr(torch, config.dtype))
    if config.gradient_checkpointing:
        if not potential.local or len(potential.stages()) == 1:
            raise ValueError(
                f"{type(potential).__name__} has no layers to evaluate anew; leave gradient_checkpointing out"
            )
        potential.gradient_checkpointing = True
    terms = {"energy_per_atom": config.loss.energy, "forces": config.loss.forces, "stress": config.loss.stress}
    objective: Objective = PotentialObjective(
        loss_terms(terms, graphs, valid_graphs), second_stage=config.loss.second_stage
    )
    loaders = [
        make_loader(config, *part, fabric=fabric, shuffle=shuffle)
        for part, shuffle in (((graphs, train_set), True), ((valid_graphs, valid_set), False))
    ]
    name = config.model.get("name", "facet") if config.init_from is None else read_config(config.init_from)["model"]
    num_weights = sum(parameter.numel() for parameter in potential.parameters())
    symbols = " ".join(chemical_symbols[number] for number in potential.species)
    about = f"{name} ({num_weights} weights, {symbols}) on {len(graphs)} structures, {len(valid_graphs)} for validation"
    logger.info("%s; %s, %d process(es), torch %s", about, fabric.device, fabric.world_size, torch.__version__)
    console.print(f"[bold]{about}[/bold]")
    report_equivariance(potential)
    before = measured_rotation_error(potential, valid_graphs)
    if before is not None:
        logger.info("%s, before training", describe_rotation_error(before))
    of_potential = objective
    if config.loss.equivariance.weight > 0:
        objective = LearnedEquivariance(objective, potential, config.loss.equivariance)
    if config.augment_rotations:
        objective = RotationAugmentation(objective)

    if fabric.is_global_zero and not (folder / "last" / "training_state.pt").exists():
        text = yaml.safe_dump(plain(dataclasses.asdict(config)), sort_keys=False, allow_unicode=True)
        atomic_write(folder / "config.yaml", lambda path: path.write_text(text, encoding="utf-8"))
    fingerprint = {
        **{name: value for name, value in flatten(plain(dataclasses.asdict(config))).items() if is_binding(name)},
        "potential": describe_potential(potential),
        "training data": digest(graphs),
        "validation data": digest(valid_graphs),
    }
    with ProgressBar(console) as reporter:
        progress = fit(
            potential,
            objective,
            train=loaders[0],
            valid=loaders[1],
            fabric=fabric,
            folder=folder,
            settings=settings,
            save=functools.partial(
                save, domain=training_domain(graphs, config.init_from), rotated_structures=valid_graphs
            ),
            fingerprint=fingerprint,
            reporter=reporter if fabric.is_global_zero else None,
        )
    console.print(summary(progress, objective, folder))
    if config.refit_shifts and fabric.is_global_zero and terms["energy_per_atom"].last_weight > 0:
        batches = [
            [
                collate(list(part[k : k + config.batch_size])).to(fabric.device)
                for k in range(0, len(part), config.batch_size)
            ]
            for part in (graphs, valid_graphs)
        ]
        said = refit_checkpoint(folder / "best", of_potential, train=batches[0], valid=batches[1])
        if said:
            logger.info(said)
            console.print(said, highlight=False)
    after = read_config(folder / "best")["metadata"].get("rotation_error") if fabric.is_global_zero else None
    if after is not None:
        text = describe_rotation_error(RotationError(**after))
        logger.info("%s, of %s", text, folder / "best")
        console.print(text, highlight=False)
    if config.test is not None and fabric.is_global_zero:
        evaluate.run(
            evaluate.Config(
                checkpoint=str(folder / "best"),
                data=config.test,
                output=str(folder / "test"),
                keys=config.keys,
                checks=config.checks,
                device=str(fabric.device),
            )
        )


def pretraining(config: Config) -> Config:
    """The training before the one that `config` describes.

    Raises:
        ValueError: if its settings do not fit.
    """
    if config.init_from is not None:
        raise ValueError("got init_from and pretrain; give init_from inside pretrain, or leave one of them out")
    folder = Path(config.output) / "pretrained"
    given = plain(dataclasses.asdict(dataclasses.replace(config, pretrain=None, output=str(folder), test=None)))
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        yaml.safe_dump(merged(given, config.pretrain or {}), file, allow_unicode=True)
        file.flush()
        return parse_config(Config, ["--config", file.name], program="sciml train", description="pretrain")


def merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with the changes, level by level.

    >>> merged({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 4}})
    {'a': {'b': 4, 'c': 2}, 'd': 3}
    """
    result = dict(settings)
    for name, value in changes.items():
        before = result.get(name)
        result[name] = merged(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return result


def read_data(config: Config) -> tuple[list[LabelledStructure], list[LabelledStructure], list[LabelledStructure]]:
    """Isolated atoms (they give reference energies only), structures to train on, and structures to validate with."""
    structures = read_structures(config.train, keys=config.keys, index=config.index, checks=config.checks)
    isolated = [structure for structure in structures if structure.is_isolated_atom]
    if config.valid is None:
        split = split_structures(structures, validation_fraction=config.valid_fraction, seed=config.seed)
        return isolated, *split
    valid = read_structures(config.valid, keys=config.keys, index=config.index, checks=config.checks)
    parts = [[structure for structure in part if not structure.is_isolated_atom] for part in (structures, valid)]
    for part, files in zip(parts, (config.train, config.valid), strict=True):
        if not part:
            raise ValueError(f"{', '.join(files)} holds no structure but isolated atoms; there is nothing to learn")
    warn_about_shared_frames(*parts)
    return isolated, parts[0], parts[1]


def make_loader(
    config: Config,
    graphs: Sequence[AtomicGraph],
    structures: Sequence[LabelledStructure],
    *,
    fabric: Fabric,
    shuffle: bool,
) -> Loader:
    """Batches of this process."""
    sampler = GraphBatchSampler(
        [graph.num_nodes for graph in graphs],
        [graph.edge_index.shape[1] for graph in graphs],
        batch_size=config.batch_size,
        max_atoms=config.max_atoms,
        max_edges=config.max_edges,
        shuffle=shuffle,
        seed=config.seed,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )

    def describe(index: int) -> str:
        s = structures[index]
        force = np.nanmax(np.abs(s.forces), initial=0.0)
        size = f"{len(s.atoms)} atoms {s.atoms.get_chemical_formula()}"
        return (
            f"{s.origin} ({s.config_type}, {size}, energy {s.energy:.6g} eV, largest force component {force:.4g} eV/Å)"
        )

    return Loader(graphs, sampler, collate=collate, device=fabric.device, describe=describe)


def save(
    model: torch.nn.Module,
    folder: Path,
    metadata: Mapping[str, Any],
    *,
    domain: TrainingDomain,
    rotated_structures: Sequence[AtomicGraph],
) -> None:
    """Write a checkpoint folder; metrics without a value (no labels) are left out.

    The rotation error of a model without symmetry is measured on the first of `rotated_structures`.
    """
    assert isinstance(model, Potential)
    described: dict[str, Any] = {key: value for key, value in metadata.items() if math.isfinite(value)}
    error = equivariance_error(model)  # of these weights: only an exact mixer has the same at every epoch
    if error is not None:
        described["equivariance_error"] = error
    described[KEY] = domain.to_json()
    measured = measured_rotation_error(model, rotated_structures)
    if measured is not None and all(map(math.isfinite, measured)):
        described["rotation_error"] = measured._asdict()
    save_potential(model, folder, metadata=described)


def is_binding(name: str) -> bool:
    """Whether a setting changes what a run computes."""
    return name.split(".")[0] not in FREE_SETTINGS
