import pytest
import torch

from sciml.graphs import collate
from sciml.training.losses import LossTerm, PotentialObjective, Sums, term_sums


@pytest.fixture
def table():
    generator = torch.Generator().manual_seed(0)
    prediction = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    label = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    label[1] = torch.nan
    label[4, 2] = torch.nan
    return prediction, label


SHAPES = {
    "mae": lambda e, _: abs(e),
    "mse": lambda e, _: e * e,
    "huber": lambda e, delta: 0.5 * e * e if abs(e) <= delta else delta * (abs(e) - 0.5 * delta),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_sums_equal_a_loop_over_known_components(table, kind):
    prediction, label = table
    sums = term_sums(prediction, label, LossTerm(kind=kind, delta=0.7))
    errors = [(p - t).item() for p, t in zip(prediction.flatten(), label.flatten(), strict=True) if not t.isnan()]
    assert sums.loss_count == sums.components == len(errors) == 14
    assert sums.loss.item() == pytest.approx(sum(SHAPES[kind](e, 0.7) for e in errors), rel=1e-14)
    assert sums.absolute.item() == pytest.approx(sum(abs(e) for e in errors), rel=1e-14)
    assert sums.square.item() == pytest.approx(sum(e * e for e in errors), rel=1e-14)


def test_norm_counts_complete_rows_only(table):
    prediction, label = table
    sums = term_sums(prediction, label, LossTerm(kind="norm"))
    norms = [(p - t).norm().item() for p, t in zip(prediction, label, strict=True) if not t.isnan().any()]
    assert (sums.loss_count, sums.components) == (4, 14)
    assert sums.loss.item() == pytest.approx(sum(norms), rel=1e-14)


@pytest.mark.parametrize("kind", ["mae", "mse", "huber", "norm"])
def test_gradient_is_finite_at_missing_labels_and_at_zero_error(kind):
    prediction = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    label = torch.zeros(3, 3, dtype=torch.float64)
    label[0] = torch.nan
    label[1] = 2.0
    term_sums(prediction, label, LossTerm(kind=kind)).loss.backward()
    assert prediction.grad.isfinite().all()
    assert (prediction.grad[[0, 2]] == 0).all()
    assert (prediction.grad[1] < 0).all()


def test_infinite_labels_are_not_missing():
    sums = term_sums(torch.zeros(1, 1), torch.full((1, 1), torch.inf), LossTerm())
    assert sums.loss.isinf()


def test_batch_sums_are_the_sum_over_structures(tiny):
    model = tiny.PairPotential().train()
    objective = PotentialObjective(tiny.TERMS)
    graphs = tiny.clusters(11, seed=3)
    whole = objective(model, collate(graphs))
    single = [objective(model, graph) for graph in graphs]
    for name, values in zip(Sums._fields, zip(*single, strict=True), strict=True):
        torch.testing.assert_close(getattr(whole, name), sum(values), rtol=1e-12, atol=1e-12)


def test_open_systems_neither_count_in_the_stress_nor_spoil_its_gradient(tiny):
    model = tiny.PairPotential().train()
    graphs = tiny.clusters(6, seed=3)
    for graph in graphs:
        graph.stress = torch.ones(1, 3, 3, dtype=torch.float64)
    sums = PotentialObjective(tiny.TERMS)(model, collate(graphs))
    assert sums.components[2] == 9 * sum(bool(graph.pbc.all()) for graph in graphs) == 18
    sums.loss.sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_energy_error_is_per_atom(tiny):
    model = tiny.PairPotential().eval()
    graph = tiny.clusters(5, seed=0, missing=False)[4]
    sums = PotentialObjective({"energy_per_atom": LossTerm()})(model, graph)
    expected = (model(graph).energy - graph.energy).abs() / 5
    assert sums.loss.item() == pytest.approx(expected.item(), rel=1e-14)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"kind": "l1"}, "mae, mse, huber, norm"), ({"weight": -1.0}, "not negative"), ({"delta": 0.0}, "positive")],
)
def test_nonsense_terms_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LossTerm(**arguments)


def test_nonsense_objectives_are_refused():
    with pytest.raises(ValueError, match="energy_per_atom"):
        PotentialObjective({"energy": LossTerm()})
    with pytest.raises(ValueError, match="every loss weight is zero"):
        PotentialObjective({"forces": LossTerm(weight=0.0)})


def test_stages_of_the_training_have_weights_of_their_own():
    terms = {"energy_per_atom": LossTerm(weight=1.0, second_weight=100.0), "forces": LossTerm(weight=10.0)}
    objective = PotentialObjective(terms, second_stage=0.5)
    assert objective.training_weights(0.0) == objective.training_weights(0.499) == (1.0, 10.0)
    assert objective.training_weights(0.5) == objective.weights == (100.0, 10.0)
    with pytest.raises(ValueError, match="got the loss weight -1"):
        LossTerm(second_weight=-1.0)
    with pytest.raises(ValueError, match="second_stage=2; it is a share"):
        PotentialObjective(terms, second_stage=2)
    with pytest.raises(ValueError, match="nothing to train on"):
        PotentialObjective({"forces": LossTerm(second_weight=0.0)})
