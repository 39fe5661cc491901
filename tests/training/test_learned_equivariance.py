import json

import numpy as np
import pytest
import torch
from ase import Atoms
from lightning_fabric import Fabric

from sciml.graphs import collate, graph_from_atoms
from sciml.potentials import EScAIP, Facet, TransIP, load_potential, save_potential
from sciml.potentials.rotation_error import rotation_error
from sciml.rotations import random_rotations, rotated
from sciml.training.batching import GraphBatchSampler
from sciml.training.checkpoints import TRAINING_ONLY
from sciml.training.learned_equivariance import EquivarianceTerm, TurnedByNetwork, turned_as_vectors
from sciml.training.loading import Loader
from sciml.training.loop import fit
from sciml.training.losses import LearnedEquivariance, LossTerm, PotentialObjective
from sciml.training.optimizers import OptimizerSettings
from sciml.training.progress import LoopSettings
from sciml.training.rotation_augmentation import RotationAugmentation

TERMS = {"energy_per_atom": LossTerm(), "forces": LossTerm(weight=1.0, kind="mse")}


def waters(number, *, seed=0):
    """Distorted molecules of water, all in nearly one orientation, with the labels of springs."""
    rng = np.random.default_rng(seed)
    graphs = []
    for _ in range(number):
        positions = np.array([[0, 0, 0], [1.0, 0, 0], [-0.3, 0.95, 0]]) + 0.1 * rng.normal(size=(3, 3))
        graph = graph_from_atoms(Atoms("OH2", positions=positions), 3.0)
        p = graph.positions.clone().requires_grad_()
        lengths = torch.stack([(p[0] - p[1]).norm(), (p[0] - p[2]).norm(), 0.6 * (p[1] - p[2]).norm()])
        energy = 5.0 * (lengths - 0.97).square().sum()
        graph.energy = energy.detach()[None]
        graph.forces = -torch.autograd.grad(energy, p)[0]
        graph.stress = torch.full((1, 3, 3), torch.nan, dtype=torch.float64)
        graphs.append(graph)
    return graphs


def transip(**arguments):
    torch.manual_seed(0)
    return TransIP(species=[1, 8], **{"channels": 24, "num_heads": 2, "num_blocks": 2, **arguments})


def direct():
    torch.manual_seed(0)
    sizes = {"channels": 16, "num_radial": 8, "radial_channels": 8, "species_channels": 4, "bond_order_channels": 4}
    return EScAIP(species=[1, 8], cutoff=3.0, num_blocks=1, forces="direct", **sizes)


def regularised(potential, **term):
    return LearnedEquivariance(PotentialObjective(TERMS), potential, EquivarianceTerm(**{"weight": 1.0, **term}))


def run(folder, potential, objective, *, epochs):
    loaders = []
    for items, shuffle in ((waters(16), True), (waters(4, seed=1), False)):
        sampler = GraphBatchSampler(
            [g.num_nodes for g in items],
            [g.edge_index.shape[1] for g in items],
            batch_size=8,
            shuffle=shuffle,
            seed=0,
            rank=0,
            world_size=1,
        )
        loaders.append(Loader(items, sampler, collate=collate, device=torch.device("cpu")))
    return fit(
        potential,
        objective,
        train=loaders[0],
        valid=loaders[1],
        fabric=Fabric(accelerator="cpu", devices=1),
        folder=folder,
        settings=LoopSettings(
            max_epochs=epochs, optimizer=OptimizerSettings(learning_rate=5e-3, schedule="plateau", warmup=0.0)
        ),
        save=lambda model, to, metadata: save_potential(model, to, metadata=dict(metadata)),
        fingerprint={},
    )


# --- the term ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("make", [transip, direct])
def test_the_term_is_the_mean_square_of_what_it_says(make, pooled):
    potential = make().double()
    objective = regularised(potential, network="vectors", pooled=pooled)
    assert objective.targets == ("energy_per_atom", "forces", "equivariance")
    assert objective.weights == (1.0, 1.0, 0.0)
    assert objective.training_weights(0.0) == (1.0, 1.0, 1.0)
    batch = collate(waters(3))
    potential.train()
    torch.manual_seed(4)
    sums = objective(potential, batch)
    torch.manual_seed(4)
    rotations = random_rotations(3, like=batch.positions)
    features, turned = potential.embedding(batch), potential.embedding(rotated(batch, rotations))
    num_vectors = max(features.shape[1] // 6, 1)
    squares = []
    for n, matrix in enumerate(rotations):
        blocks = [torch.eye(features.shape[1] - 3 * num_vectors).double(), *[matrix] * num_vectors]
        expected = features[batch.batch == n] @ torch.block_diag(*blocks).T
        difference = expected - turned[batch.batch == n]
        squares.append(difference.mean(dim=0) if pooled else difference)
    square = torch.stack(squares).square()
    torch.testing.assert_close(sums.loss[2], square.sum(), rtol=1e-9, atol=0)
    assert sums.loss_count[2] == square.numel()
    inner = PotentialObjective(TERMS)(potential, batch)
    torch.testing.assert_close(sums.loss[:2], inner.loss)


def test_features_and_forces_come_from_one_pass():
    calls = []
    potential = transip()
    objective = regularised(potential)
    potential.blocks[0].register_forward_hook(lambda *_: calls.append(1))
    objective(potential.train(), collate(waters(2)))
    assert len(calls) == 2


@pytest.mark.parametrize("network", ["learned", "vectors"])
@pytest.mark.parametrize("make", [transip, direct])
def test_the_term_reaches_every_weight_of_the_features_and_of_the_network(make, network):
    potential = make().train()
    objective = regularised(potential, network=network)
    if network == "learned":
        torch.nn.init.normal_(potential.training_only.outer.weight)
    objective(potential, collate(waters(3))).loss[2].backward()
    without = {name.split(".")[0] for name, p in potential.named_parameters() if not p.grad.any()}
    assert without == {"energy_head", "shifts"}


def test_validation_has_the_same_rotations_every_time_and_training_others():
    potential = transip()
    objective = regularised(potential)
    batch = collate(waters(3))
    values = [
        [float(objective(potential.train(mode), batch).loss[2].detach()) for _ in range(2)] for mode in (False, True)
    ]
    assert values[0][0] == values[0][1]
    assert values[1][0] != values[1][1]


def test_vectors_turn_and_invariants_stay():
    features = torch.randn(4, 14, dtype=torch.float64)
    rotations = random_rotations(4, like=features)
    turned = turned_as_vectors(features, rotations)
    assert torch.equal(turned[:, :8], features[:, :8])
    for start in (8, 11):
        for row in range(4):
            torch.testing.assert_close(
                turned[row, start : start + 3], rotations[row] @ features[row, start : start + 3]
            )
    back = turned_as_vectors(turned, rotations.transpose(1, 2))
    torch.testing.assert_close(back, features)


def test_the_network_is_the_identity_at_the_start():
    network = TurnedByNetwork(6, 8)
    features = torch.randn(3, 6)
    assert torch.equal(network(features, random_rotations(3, like=features)), features)


@pytest.mark.parametrize(
    ("potential", "message"),
    [
        (lambda: Facet(species=[1, 8], channels=4, num_layers=1, lmax=1), r"Facet is invariant under O\(3\)"),
        (lambda: EScAIP(species=[1, 8], channels=16), r"EScAIP is invariant under O\(3\) by construction"),
        (lambda: torch.nn.Linear(1, 1), "Linear offers no features .* no embedding and no embedding_channels"),
    ],
)
def test_potentials_with_nothing_to_learn_are_refused(potential, message):
    with pytest.raises(ValueError, match=message):
        regularised(potential())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight": -1.0}, "equivariance weight -1.0"),
        ({"network": "cnn"}, "got network='cnn' .*; available: learned, vectors"),
        ({"hidden": 0}, "got hidden=0"),
    ],
)
def test_nonsense_terms_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        EquivarianceTerm(**arguments)


# --- in the loop ------------------------------------------------------------------------------------------------------


def test_checkpoints_drop_the_network_and_the_training_state_keeps_it(tmp_path):
    potential = transip()
    run(tmp_path, potential, regularised(potential, hidden=8), epochs=1)
    loaded = load_potential(tmp_path / "last")
    assert not hasattr(loaded, TRAINING_ONLY)
    state = torch.load(tmp_path / "last" / "training_state.pt", weights_only=True)
    trained = state["model"][f"{TRAINING_ONLY}.outer.weight"]
    assert trained.abs().max() > 0
    assert state["average"][f"{TRAINING_ONLY}.outer.weight"].abs().max() > 0
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train_equivariance", "valid_equivariance_mae", "valid_equivariance_rmse"} <= set(header)
    graph = waters(1)[0]
    averaged = transip()
    averaged.load_state_dict({k: v for k, v in state["average"].items() if not k.startswith(TRAINING_ONLY)})
    assert torch.equal(averaged.eval()(graph).forces, loaded(graph).forces)
    assert json.loads((tmp_path / "last" / "config.json").read_text())["metadata"]["valid_equivariance_rmse"] > 0


@pytest.mark.parametrize("augmented", [False, True])
def test_a_continued_run_is_bitwise_the_uninterrupted_one(tmp_path, augmented):
    def model():
        potential = transip()
        objective = regularised(potential, hidden=8)
        return potential, RotationAugmentation(objective) if augmented else objective

    run(tmp_path / "whole", *model(), epochs=4)
    run(tmp_path / "parts", *model(), epochs=2)
    state = torch.load(tmp_path / "parts" / "last" / "training_state.pt", weights_only=True)
    state["progress"]["stopped"] = ""  # as a run that was killed after its second epoch
    torch.save(state, tmp_path / "parts" / "last" / "training_state.pt")
    run(tmp_path / "parts", *model(), epochs=4)
    whole, parts = (
        torch.load(tmp_path / name / "last" / "training_state.pt", weights_only=True) for name in ("whole", "parts")
    )
    for key in ("model", "average"):
        assert all(torch.equal(whole[key][name], parts[key][name]) for name in whole[key])
    assert (tmp_path / "whole" / "metrics.csv").read_text() == (tmp_path / "parts" / "metrics.csv").read_text()


def quickly_trained(potential, objective, *, steps):
    """Some steps of a bare loop on structures of one orientation; the rotation error on others."""
    items = waters(16)
    weights = torch.tensor(objective.training_weights(0.0), dtype=torch.float64)
    optimizer = torch.optim.AdamW(potential.parameters(), 5e-3)
    potential.train()
    torch.manual_seed(0)
    for _ in range(steps):
        sums = objective(potential, collate([items[n] for n in torch.randperm(len(items))[:8]]))
        optimizer.zero_grad()
        (weights * sums.loss / sums.loss_count).sum().backward()
        torch.nn.utils.clip_grad_norm_(potential.parameters(), 10.0)
        optimizer.step()
    return rotation_error(potential, waters(8, seed=2), num_rotations=8)


def test_the_term_and_augmentation_lower_the_rotation_error():
    """Nothing else tells of other orientations: all training structures lie in one."""
    errors = {}
    for term, augmented in ((0.0, False), (10.0, False), (0.0, True)):
        potential = transip()
        objective = regularised(potential, weight=term, hidden=32) if term else PotentialObjective(TERMS)
        if augmented:
            objective = RotationAugmentation(objective)
        errors[term, augmented] = quickly_trained(potential, objective, steps=150)
    off = errors[0.0, False]
    # Of the seeds 0 to 3, the worst ratios are 0.87 and 0.99 for the term, 0.40 for augmentation.
    assert errors[10.0, False].energy_per_atom < 0.9 * off.energy_per_atom
    assert errors[10.0, False].forces < off.forces
    assert errors[0.0, True].energy_per_atom < 0.5 * off.energy_per_atom


def test_direct_forces_of_escaip_learn_to_turn_as_vectors():
    errors = []
    for term in (0.0, 1.0):
        potential = direct()
        objective = regularised(potential, weight=term, network="vectors") if term else PotentialObjective(TERMS)
        errors.append(quickly_trained(potential, objective, steps=60).forces)
    assert errors[0] > 0.2
    assert errors[1] < 0.1


# --- augmentation -----------------------------------------------------------------------------------------------------


def test_augmentation_changes_no_error_of_an_equivariant_model_and_those_of_others():
    batch = collate(waters(3))
    facet = Facet(species=[1, 8], channels=4, num_layers=1, lmax=1, cutoff=3.0).double().train()
    terms = {"energy_per_atom": LossTerm(), "forces": LossTerm(kind="norm")}
    plain, turned = PotentialObjective(terms), RotationAugmentation(PotentialObjective(terms))
    torch.testing.assert_close(plain(facet, batch).loss, turned(facet, batch).loss, rtol=1e-9, atol=0)
    potential = transip().double().train()
    torch.manual_seed(1)
    losses = [turned(potential, batch).loss for _ in range(2)]
    assert not torch.isclose(losses[0], losses[1]).all()
    torch.manual_seed(1)
    assert torch.equal(turned(potential, batch).loss, losses[0])
    potential.eval()
    assert torch.equal(turned(potential, batch).loss, plain(potential, batch).loss)
    assert turned.training_weights(0.0) == plain.training_weights(0.0)
