"""A compiled step against the plain one: for models that are differentiated twice, and with random numbers."""

import pytest
import torch

from sciml.packed import PackedGraphs
from sciml.potentials import build_potential
from sciml.training.compiled_steps import CompiledGradient
from sciml.training.losses import LossTerm, PotentialObjective
from sciml.training.rotation_augmentation import RotationAugmentation
from tests.training.tiny_run import clusters

DEVICES = [
    ("cpu", "aot_eager"),  # Inductor's C++ takes minutes
    pytest.param(
        "cuda",
        "inductor",
        marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")],
    ),
]


@pytest.mark.parametrize(("name", "augment"), [("facet", False), ("facet", True), ("lens", False)])
@pytest.mark.parametrize(("device", "backend"), DEVICES)
def test_a_compiled_gradient_is_that_of_the_step(name, augment, device, backend):
    torch.manual_seed(0)
    graphs = clusters(6, seed=1)
    species = sorted({int(number) for graph in graphs for number in graph.atomic_numbers})
    options = {"species": species, "channels": 32, "lmax": 1, "num_layers": 1, "cutoff": 3.0}
    model = build_potential(name, options).to(device, torch.float64).train()
    objective = PotentialObjective({"energy_per_atom": LossTerm(kind="mse"), "forces": LossTerm(kind="norm")})
    if augment:
        objective = RotationAugmentation(objective)
    packed = PackedGraphs(graphs, torch.device(device))
    batches = [[0, 1, 2], [3, 4], [5]]
    plan = packed.plan(batches, packed.capacity(batches))
    weights = torch.tensor([2.0, 3.0], dtype=torch.float64, device=device)
    gradient = CompiledGradient(model, objective, packed, backend=backend)
    parameters = [p for p in model.parameters() if p.requires_grad]
    for number in range(len(batches)):
        row = plan.row(torch.tensor([number], device=device))
        for p in parameters:
            p.grad = torch.zeros_like(p)
        torch.manual_seed(7)
        if number == 0:  # the compilation draws its own, for nothing
            gradient(row, weights)
            for p in parameters:
                p.grad.zero_()
            torch.manual_seed(7)
        sums = gradient(row, weights)
        torch.manual_seed(7)
        wanted = objective(model, packed.batch(row))
        loss = (weights * wanted.loss / wanted.loss_count.clamp(min=1)).sum()
        expected = torch.autograd.grad(loss, parameters, materialize_grads=True, allow_unused=True)
        for got, other in zip(sums, wanted, strict=True):
            torch.testing.assert_close(got, other.detach(), rtol=1e-10, atol=1e-12)
        for p, other in zip(parameters, expected, strict=True):
            torch.testing.assert_close(p.grad, other, rtol=1e-8, atol=1e-10)
        with torch.no_grad():  # weights change in place, as an optimizer changes them
            for p in parameters:
                p.mul_(1.1)
