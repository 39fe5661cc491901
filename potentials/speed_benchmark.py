"""How long potentials take for energy, forces and stress, and to train: `sciml bench potentials`.

Structures: diamond Si with atoms moved at random by 0.05 Å, and a molecule of acetylacetone. Models that are named by
their architecture have random weights: their speed does not depend on what they have learned.

- model: one evaluation of a graph that is ready, on the device;
- calculator: a call of `PotentialCalculator` after all atoms have moved by about 0.01 Å, with its neighbour list;
- recorded: the same with `compile=True`, where there is a GPU;
- peers are called as ASE calculators on the same structures: compare them with calculators.

Before anything is timed, forces are compared with those of the same model in float64, and recorded ones with both.
"""

import copy
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator

from sciml.benchmark import Result, first_line, time_median
from sciml.graphs import AtomicGraph, collate, graph_from_atoms
from sciml.messages import did_you_mean
from sciml.packed import PackedGraphs
from sciml.potentials.calculator import PotentialCalculator
from sciml.potentials.checkpoint import as_dtype, build_potential, load_potential
from sciml.potentials.interface import Potential
from sciml.potentials.memory import peak_memory
from sciml.potentials.peer_calculators import PEERS, installed_calculators
from sciml.training.ema import MovingAverage
from sciml.training.losses import LossTerm, PotentialObjective
from sciml.training.optimizers import FlatGradients, OptimizerSettings, build_optimizer
from sciml.training.recorded_steps import RecordedTraining

ARCHITECTURES = ("facet", "lens", "tdn", "escaip", "transip")
"""Those that can be timed without a checkpoint."""

CUTOFFS = {"Si": 6.0, "acac": 5.0}
"""Å, of models with random weights."""

LARGEST_ERROR = {torch.float32: 1e-3, torch.float64: 1e-8}
"""Of forces, relative to the largest one: beyond it there is nothing to time."""

_BATCH = 5  # structures of a training step
_WARM_UP = 5
_STEP = 0.01  # Å, that atoms move between calls

# The enol form, relaxed with GFN2-xTB to 3 meV/Å; Å.
_ACAC_SYMBOLS = "CCCOOHHCHHHCHHH"
_ACAC_POSITIONS = (
    (-0.031, 0.322, 0.004), (-1.264, -0.422, 0.004), (1.172, -0.314, -0.001), (-1.292, -1.655, 0.002),
    (1.274, -1.632, -0.006), (-0.075, 1.397, 0.008), (0.343, -2.001, -0.005), (-2.533, 0.390, 0.004),
    (-3.397, -0.269, 0.007), (-2.559, 1.030, 0.883), (-2.561, 1.025, -0.879), (2.480, 0.410, -0.004),
    (2.334, 1.484, 0.017), (3.066, 0.101, 0.860), (3.042, 0.134, -0.895),
)  # fmt: skip


def structure_of(name: str, num_atoms: int, *, seed: int = 0) -> Atoms:
    """A rattled structure, by 0.05 Å: "Si", a cubic supercell of `num_atoms` (8 n³), or "acac", a molecule.

    Raises:
        ValueError: for another number of atoms of Si.
    """
    if name == "acac":
        atoms = Atoms(_ACAC_SYMBOLS, positions=_ACAC_POSITIONS)
    else:
        side = round((num_atoms / 8) ** (1 / 3))
        if side < 1 or 8 * side**3 != num_atoms:
            raise ValueError(f"got {num_atoms} atoms of Si; a cubic supercell has 8, 64, 216, 512, … 4096, … atoms")
        atoms = bulk("Si", "diamond", a=5.43, cubic=True) * (side, side, side)
    atoms.rattle(0.05, seed=seed)
    return atoms


def run_speed_benchmark(
    models: Sequence[str],
    *,
    sizes: Sequence[int],
    device: str,
    dtype: str,
    budget: float,
    arguments: Mapping[str, Any] | None = None,
    compile: bool = False,
    on_result: Callable[[Result], None] = lambda _: None,
) -> list[Result]:
    """Measure all models on Si of all sizes and on acetylacetone; and peers that are installed.

    Args:
        models: architectures, checkpoint folders, names of shipped weights, or peers.
        sizes: numbers of atoms of Si.
        device: such as cpu or cuda.
        dtype: float32 or float64.
        budget: seconds to spend on each time.
        arguments: of models with random weights, beside cutoff and species.
        compile: also time compiled training steps, on a GPU.
        on_result: is told each result.

    Raises:
        ValueError: for unknown models or sizes, or if the forces of a model of this package are wrong.
    """
    cases = [("Si", size) for size in sizes] + [("acac", 15)]
    structures = {case: structure_of(*case) for case in cases}
    for name in models:
        if name not in PEERS and name not in ARCHITECTURES:
            _load(name)  # which knows what to say of a name that does not exist
    results = []
    for case, atoms in structures.items():
        for name in models:
            result = Result(name, {"structure": case[0], "atoms": len(atoms), "device": device, "dtype": dtype})
            try:
                if name in PEERS:
                    _measure_peer(result, name, atoms, device, budget)
                else:
                    potential = _potential(name, case[0], atoms, arguments or {})
                    _measure(result, potential, atoms, device, dtype, budget, compile=compile)
            except torch.OutOfMemoryError as error:
                result.failure = first_line(error)
                torch.cuda.empty_cache()
            results.append(result)
            on_result(result)
    return results


def default_models() -> list[str]:
    """All architectures, and the peers that are installed."""
    return [*ARCHITECTURES, *installed_calculators()]


def _load(name: str) -> Potential:
    try:
        return load_potential(name)
    except ValueError as error:
        known = [*ARCHITECTURES, *PEERS]
        raise ValueError(
            f"{name!r} is no architecture, no peer and no checkpoint{did_you_mean(name, known) or ';'} "
            f"there are {', '.join(known)}; {error}"
        ) from error


def _potential(name: str, structure: str, atoms: Atoms, arguments: Mapping[str, Any]) -> Potential | str:
    """A potential, or why it cannot be evaluated on this structure."""
    if name not in ARCHITECTURES:
        potential = _load(name)
        missing = sorted(set(atoms.symbols) - set(Atoms(potential.species).symbols))
        if missing:
            return f"it does not know {', '.join(missing)}"
    else:
        torch.manual_seed(0)
        species = sorted(set(atoms.numbers.tolist()))
        potential = build_potential(name, {"species": species, "cutoff": CUTOFFS[structure], **arguments})
        with torch.no_grad():  # layers that are the identity at the start would hide what they do
            for parameter in potential.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.02)
    return "it takes no periodic structures" if atoms.pbc.any() and not potential.periodic else potential


def _measure(
    result: Result,
    potential: Potential | str,
    atoms: Atoms,
    device: str,
    dtype: str,
    budget: float,
    *,
    compile: bool,
) -> None:
    if isinstance(potential, str):
        result.failure = potential
        return
    potential = potential.eval().requires_grad_(False)
    graph = graph_from_atoms(atoms, potential.cutoff).to(device)
    exact = copy.deepcopy(potential).double().to(device)(graph).forces
    frozen = copy.deepcopy(potential).to(device=device, dtype=as_dtype(dtype))
    error = float((frozen(graph).forces - exact).abs().max() / exact.abs().max())
    if not error < LARGEST_ERROR[as_dtype(dtype)]:
        raise ValueError(f"{result.contender}: forces in {dtype} differ by {error:.1e} from those in float64")
    result.figures |= {
        "weights": float(sum(parameter.numel() for parameter in potential.parameters())),
        "edges": float(graph.num_edges),
        "force_error": error,
    }
    result.seconds["model"] = time_median(lambda: frozen(graph), device=device, budget=budget)
    result.peak_bytes["model"] = peak_memory(lambda: frozen(graph), torch.device(device))
    calculators = {"calculator": False} | ({"recorded": True} if torch.device(device).type == "cuda" else {})
    for kind, compiled in calculators.items():
        calculator = PotentialCalculator(potential, device=device, dtype=dtype, compile=compiled)
        result.seconds[kind] = time_calls(calculator, atoms, device, budget)
        moved = atoms.copy()
        moved.calc = calculator
        found = torch.from_numpy(moved.get_forces()).to(exact)
        if not float((found - exact).abs().max() / exact.abs().max()) < LARGEST_ERROR[as_dtype(dtype)]:
            raise ValueError(f"{result.contender}: the forces of the {kind} are not those of the model")
        if compiled:
            result.peak_bytes[kind] = peak_memory(partial(_move_and_call, moved), torch.device(device))
    if result.case["structure"] == "acac":
        result.figures["training_steps_per_second"] = 1 / time_training(potential, atoms, device, dtype, budget)
        if compile and torch.device(device).type == "cuda":
            seconds = time_training(potential, atoms, device, dtype, budget, compiled=True)
            result.figures["compiled_steps_per_second"] = 1 / seconds


def _measure_peer(result: Result, name: str, atoms: Atoms, device: str, budget: float) -> None:
    calculator = PEERS[name](device)
    moved = atoms.copy()
    moved.calc = calculator
    result.seconds["calculator"] = time_calls(calculator, atoms, device, budget)
    if torch.device(device).type == "cuda":  # on a CPU their own neighbour lists, in C, would not be counted
        result.peak_bytes["calculator"] = peak_memory(partial(_move_and_call, moved), torch.device(device))


def _move_and_call(atoms: Atoms, generator: np.random.Generator | None = None) -> None:
    generator = np.random.default_rng(0) if generator is None else generator
    atoms.positions += _STEP * generator.normal(size=atoms.positions.shape) / 3**0.5
    atoms.get_forces()
    if atoms.pbc.all():
        atoms.get_stress()


def time_calls(calculator: Calculator, atoms: Atoms, device: str, budget: float) -> float:
    """Median seconds of a call for energy, forces and, in a crystal, stress, after the atoms have moved."""
    atoms = atoms.copy()
    start = atoms.positions.copy()
    atoms.calc = calculator
    generator, spent = np.random.default_rng(0), 0.0
    times: list[float] = []
    while len(times) < _WARM_UP + 5 or (spent < budget and len(times) < 1000):
        if len(times) % 20 == 0:  # they wander, but not away
            atoms.positions = start
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize(device)
        begin = time.perf_counter()
        _move_and_call(atoms, generator)
        times.append(time.perf_counter() - begin)
        spent += times[-1] if len(times) > _WARM_UP else 0.0
    return statistics.median(times[_WARM_UP:])


def time_training(
    potential: Potential, atoms: Atoms, device: str, dtype: str, budget: float, *, compiled: bool = False
) -> float:
    """Median seconds of an update by AdamW from the forces of five molecules; recorded on a GPU, and there compiled."""
    generator = torch.Generator().manual_seed(0)
    model = copy.deepcopy(potential).requires_grad_().to(device=device, dtype=as_dtype(dtype)).train()
    graphs = [labelled_at_random(atoms, potential.cutoff, seed, generator) for seed in range(_BATCH)]
    objective = PotentialObjective({"energy_per_atom": LossTerm(kind="mse"), "forces": LossTerm(kind="mse")})
    settings = OptimizerSettings(learning_rate=1e-6)
    on_gpu = torch.device(device).type == "cuda"
    optimizer = build_optimizer(model, settings, device=torch.device(device) if on_gpu else None)
    gradients, average = FlatGradients(model), MovingAverage(model, 0.99)
    if on_gpu:
        training = RecordedTraining(
            model,
            objective,
            PackedGraphs(graphs, torch.device(device)),
            optimizer,
            gradients,
            average,
            10.0,
            compiled=compiled,
        )
        number = 20
        weights = torch.ones(2, dtype=torch.float64, device=device)
        options: dict[str, Any] = {"rates": [1e-6] * number, "decays": [0.99] * number, "weights": weights}
        training.epoch([list(range(_BATCH))] * number, **options)
        return time_median(lambda: training.epoch([list(range(_BATCH))] * number, **options), budget=budget) / number

    batch = collate(graphs).to(device)

    def step() -> None:
        gradients.zero()
        sums = objective(model, batch)
        (sums.loss / sums.loss_count).sum().backward()
        gradients.clip(float(gradients.norm()), 10.0)
        optimizer.step()
        average.update(0.01)

    return time_median(step, device=device, budget=budget)


def labelled_at_random(atoms: Atoms, cutoff: float, seed: int, generator: torch.Generator) -> AtomicGraph:
    """The graph of a rattled copy, with random labels."""
    moved = atoms.copy()
    moved.rattle(0.05, seed=seed)
    graph = graph_from_atoms(moved, cutoff)
    graph.energy = torch.randn(1, dtype=torch.float64, generator=generator)
    graph.forces = torch.randn(len(atoms), 3, dtype=torch.float64, generator=generator)
    graph.stress = torch.full((1, 3, 3), torch.nan, dtype=torch.float64)
    return graph
