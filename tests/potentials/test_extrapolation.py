"""What a potential was trained on, and simulations that stop where it ends."""

import json
from functools import partial

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from sciml.cli import main
from sciml.cli.train_setup import training_domain
from sciml.datasets import LabelledStructure, labelled_graph
from sciml.potentials import Committee, Morse, PotentialCalculator, load_potential, save_potential
from sciml.potentials.extrapolation import ExtrapolationCheck, Limits
from sciml.potentials.facet import Facet
from sciml.potentials.molecular_dynamics import run_md
from sciml.potentials.restart import DynamicsState
from sciml.potentials.training_domain import KEY, TrainingDomain

PAIR = {"depth": 0.5, "steepness": 1.5, "distance": 1.2}


def morse():
    return Morse({f"{a}-{b}": PAIR for a, b in ("HH", "HO", "OO")}, 4.0)


def labelled(atoms, forces):
    return labelled_graph(LabelledStructure(atoms, 0.0, forces, np.full((3, 3), np.nan), "here"), 2.5)


def domain(shortest=1.0, largest_force=20.0):
    return TrainingDomain({(1, 1): shortest, (1, 8): shortest, (8, 8): shortest}, largest_force)


def dimer(distance=2.2):
    """Two atoms that fall towards each other and meet after some 100 steps of 0.5 fs."""
    atoms = Atoms("OH", positions=[[0, 0, 0], [distance, 0, 0]])
    atoms.calc = PotentialCalculator(morse())
    return atoms


run = partial(run_md, steps=400, timestep=0.5, thermalize=False, log_interval=10, segment_steps=25)


def test_the_domain_is_what_the_structures_have():
    water, close = molecule("H2O"), Atoms("OOCl", positions=[[0, 0, 0], [1.1, 0, 0], [9, 0, 0]])
    forces = np.zeros((3, 3))
    forces[1] = [3, 4, 0]
    seen = TrainingDomain.of([labelled(water, forces), labelled(close, np.full((3, 3), np.nan))])
    assert set(seen.shortest) == {(1, 1), (1, 8), (8, 8)}
    assert seen.shortest[1, 8] == pytest.approx(water.get_distance(0, 1))
    assert seen.shortest[8, 8] == pytest.approx(1.1)
    assert seen.largest_force == 5.0
    assert TrainingDomain.from_json(json.loads(json.dumps(seen.to_json()))) == seen
    joined = seen.joined(TrainingDomain({(8, 8): 1.0, (6, 6): 1.4}, np.nan))
    assert joined.shortest[8, 8] == 1.0
    assert joined.shortest[6, 6] == 1.4
    assert joined.largest_force == 5.0
    assert np.isnan(TrainingDomain.of([labelled(close, np.full((3, 3), np.nan))]).largest_force)


def test_atoms_that_come_too_close_are_named():
    check = ExtrapolationCheck(domain(), cutoff=4.0)
    assert check(dimer(0.91)) is None
    assert check(dimer(0.89)) == (
        "atoms 0 (O) and 1 (H) are 0.890 Å apart, below 0.9 times the shortest H-O in training, 1.000 Å"
    )
    crystal = bulk("O", "sc", a=0.85)  # an atom and its own image
    crystal.calc = EMT()
    assert "atoms 0 (O) and 0 (O) are 0.850 Å apart" in check(crystal)
    unseen = ExtrapolationCheck(TrainingDomain({(1, 1): 1.0}, np.nan), cutoff=2.5)
    assert unseen(dimer(2.6)) is None
    assert unseen(dimer(2.4)).endswith("in training no pair H-O was within the cutoff of 2.5 Å")


def test_forces_that_are_too_large_are_named():
    atoms = dimer(1.0)
    largest = np.linalg.norm(atoms.get_forces(), axis=1).max()
    assert ExtrapolationCheck(domain(0.1, largest / 1.9), cutoff=4.0)(atoms) is None
    reason = ExtrapolationCheck(domain(0.1, largest / 2.1), cutoff=4.0)(atoms)
    assert reason.startswith("the force on atom 0 (O) is")
    assert "above 2 times the largest in training" in reason


def test_a_committee_that_disagrees_is_named():
    members = []
    for seed in range(2):
        torch.manual_seed(seed)
        members.append(Facet(species=[1, 8], cutoff=3.0, channels=4, lmax=1))
        members[-1].layers[0].norm_out.scale.data += 1.0
    atoms = molecule("H2O")
    atoms.calc = PotentialCalculator(Committee(members))
    atoms.get_forces()
    spread = atoms.calc.results["forces_spread"].max()
    assert ExtrapolationCheck(None, cutoff=3.0, committee=True, limits=Limits(spread=1.01 * spread))(atoms) is None
    reason = ExtrapolationCheck(None, cutoff=3.0, committee=True, limits=Limits(spread=0.99 * spread))(atoms)
    assert reason.startswith("the committee's forces on atom")
    with pytest.raises(ValueError, match="no training domain and no committee"):
        ExtrapolationCheck(None, cutoff=3.0)
    with pytest.raises(ValueError, match="limit force=-1"):
        Limits(force=-1)


def test_a_run_stops_keeps_its_trajectory_and_is_complete(tmp_path):
    free = run(dimer())
    check = ExtrapolationCheck(domain(), cutoff=4.0)
    result = run(dimer(), folder=tmp_path, stop_when=check)
    assert 10 < result.steps < 400
    assert result.stopped.startswith(f"step {result.steps} ({result.steps * 0.5:g} fs): atoms 0 (O) and 1 (H) are 0.")
    assert result.atoms.get_distance(0, 1) < 0.9
    assert result.time[-1] == result.steps * 0.5
    frames = ase.io.read(tmp_path / "trajectory.xyz", index=":")
    assert len(frames) == len(result.time) == result.steps // 10 + 1 + (result.steps % 10 > 0)
    assert frames[-1].get_distance(0, 1) == pytest.approx(result.atoms.get_distance(0, 1), abs=1e-6)
    assert all(frame.get_distance(0, 1) > 0.9 for frame in frames[:-1])
    np.testing.assert_array_equal(result.total[:-1], free.total[: len(result.total) - 1])  # until then the same run

    def forbidden(_done, _total):
        raise AssertionError("a run that stopped went on")

    for steps in (400, 1000):
        again = run_md(
            dimer(), steps=steps, timestep=0.5, thermalize=False, log_interval=10, segment_steps=25, folder=tmp_path,
            stop_when=check, on_progress=forbidden,
        )  # fmt: skip
        assert again.stopped == result.stopped
        assert again.steps == result.steps
    in_memory = run(dimer(), stop_when=check)
    np.testing.assert_array_equal(in_memory.total, result.total)


@pytest.mark.parametrize(("steps", "equilibration", "time"), [(0, 0, 0.0), (30, 0, 0.0), (30, 20, -10.0), (0, 7, -3.5)])
def test_a_structure_that_is_outside_at_the_start_stops_at_once(tmp_path, steps, equilibration, time):
    result = run_md(
        dimer(0.7), steps=steps, equilibration_steps=equilibration, timestep=0.5, folder=tmp_path,
        stop_when=ExtrapolationCheck(domain(), cutoff=4.0),
    )  # fmt: skip
    assert result.steps == 0
    assert result.time.tolist() == [time]
    assert result.stopped.startswith(f"step {-equilibration} ")
    assert np.isnan(result.summary()["ms_per_step"])


def test_states_of_older_runs_are_read(tmp_path):
    atoms = dimer()
    state = vars(DynamicsState.capture(atoms, np.random.default_rng(0), step=3))
    del state["stopped"]
    (tmp_path / "restart.json").write_text(json.dumps(state))
    assert DynamicsState.load(tmp_path / "restart.json").stopped is None


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sciml(command):
    return main(command.split())


def test_the_command_line_stops(folder, capsys):
    save_potential(morse(), folder / "best", metadata={KEY: domain().to_json()})
    further = training_domain([labelled(Atoms("OO", positions=[[0, 0, 0], [0.8, 0, 0]]), np.zeros((2, 3)))], "best")
    assert further.shortest == {(1, 1): 1.0, (1, 8): 1.0, (8, 8): 0.8}  # fine-tuned: both trainings count

    md = "md --structure H2O --checkpoint best --output md --steps 20 --equilibration_steps 0 --temperature 50"
    capsys.readouterr()
    strict = f"{md} --stop_when_extrapolating true --min_distance_ratio 1.1"
    assert sciml(strict) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "stopped because the potential extrapolates at step 0 (0 fs): atoms " in out
    result = json.loads((folder / "md" / "result.json").read_text())
    assert result["steps"] == 0
    assert result["stopped"].startswith("step 0 (0 fs): atoms ")
    assert sciml(strict) == 0
    assert "complete with 0 steps" in capsys.readouterr().out
    assert sciml(f"{md} --stop_when_extrapolating") == 2
    assert "min_distance_ratio: 1.1 then, 0.9 now" in capsys.readouterr().err
    assert sciml(f"{md.replace('--output md', '--output free')} --max_memory 1GB") == 0
    assert json.loads((folder / "free" / "result.json").read_text())["stopped"] is None


def test_a_checkpoint_that_does_not_say_what_it_has_seen_is_refused(folder, capsys):
    save_potential(morse(), folder / "old")
    md = "md --structure H2O --output md --steps 1 --equilibration_steps 0 --stop_when_extrapolating"
    assert sciml(f"{md} --checkpoint old") == 2
    assert "does not say what it was trained on" in capsys.readouterr().err
    assert sciml(f"{md} --calculator emt") == 2
    assert "has not learned anything" in capsys.readouterr().err
    save_potential(morse(), folder / "broken", metadata={KEY: {"shortest_distances": {"H-Xx": 1}}})
    assert sciml(f"{md} --checkpoint broken") == 2
    assert "is damaged" in capsys.readouterr().err
    save_potential(Committee([morse(), morse()]), folder / "both")
    assert load_potential("both").species == (1, 8)
    assert sciml(f"{md} --checkpoint both --temperature 10") == 0
