import math

import pytest
import torch

from sciml.pde import BuoyantSmoke, CompressibleNavierStokes, Grid, IncompressibleNavierStokes, ShallowWater
from sciml.pde.augmentation import Augmentation, Motion, after, motions, moved
from sciml.pde.smoke import smoke_at_rest
from sciml.pde.stepper import Field

FIELDS = [Field("height", "L"), Field("velocity_x", "L/T", 0), Field("velocity_y", "L/T", 1)]


def noise(solver):
    """Smooth fields that differ everywhere, around one."""
    grid = solver.grid
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(2, len(solver.fields), *grid.shape, generator=generator, dtype=torch.float64)
    scale = torch.tensor([0.05 if field.component is None else 0.1 for field in solver.fields])[:, None, None]
    base = torch.tensor([1.0 if field.component is None else 0.0 for field in solver.fields])[:, None, None]
    return base + scale * u


def solvers():
    periodic, box = Grid.square(16, 2 * math.pi), Grid.square(16, 1.0, "wall")
    yield ShallowWater(periodic, 0.01, viscosity=0.05)
    yield ShallowWater(periodic, 0.01, viscosity=0.05, coriolis=1.0)
    yield ShallowWater(Grid((16, 12), (2 * math.pi, 3.0)), 0.01, viscosity=0.05)
    yield IncompressibleNavierStokes(periodic, 0.01, viscosity=0.05)
    yield CompressibleNavierStokes(box, 0.02)


@pytest.mark.parametrize("solver", solvers(), ids=lambda solver: type(solver).__name__)
def test_a_solver_commutes_with_the_motions_of_its_symmetries(solver):
    """step(g u) = g step(u): augmented data are data of the same equation."""
    u = noise(solver)
    u = solver(u)  # of spectral solvers without waves that would alias
    step = solver(u)
    group = motions(solver.symmetries, solver.grid)
    assert len(group) > 1
    for motion in group:
        error = solver(moved(u, motion, solver.fields, solver.at)) - moved(step, motion, solver.fields, solver.at)
        assert error.abs().max() < 1e-11, motion


def test_smoke_that_rises_is_mirrored_along_x_only():
    solver = BuoyantSmoke(Grid.square(16, 8.0, "wall"))
    u = solver.run(smoke_at_rest(solver.grid, 2, torch.Generator().manual_seed(0)), 4)[:, -1]
    assert motions(solver.symmetries, solver.grid) == [Motion(), Motion(mirror_x=True)]
    for motion, holds in ((Motion(mirror_x=True), True), (Motion(mirror_y=True), False)):
        error = solver(moved(u, motion, solver.fields, solver.at)) - moved(solver(u), motion, solver.fields, solver.at)
        assert (error.abs().max() < 1e-12) == holds


def test_motions_are_a_group():
    grid = Grid.square(8, 1.0)
    sizes = {("rotation",): 4, ("reflection",): 4, ("reflection_x",): 2, ("rotation", "reflection_x"): 8, (): 1}
    u = torch.randn(3, 8, 8)
    for names, size in sizes.items():
        group = motions(names, grid)
        assert len(group) == len(set(group)) == size
        for first in group:
            for second in group:
                assert after(second, first) in group
                for at in ("centers", "nodes", "faces"):
                    torch.testing.assert_close(
                        moved(moved(u, first, FIELDS, at), second, FIELDS, at),
                        moved(u, after(second, first), FIELDS, at),
                    )


def test_samples_are_moved_one_by_one_and_their_frames_alike():
    frames = torch.randn(1, 1, 3, 8, 8).expand(64, 2, -1, -1, -1)
    augmentation = Augmentation(["rotation", "reflection"], fields=FIELDS, grid=Grid.square(8, 1.0), at="centers")
    result = augmentation(frames)
    torch.testing.assert_close(result[:, 0], result[:, 1])
    assert len({one.numpy().tobytes() for one in result}) == 8
    shifted = Augmentation(
        ["translation"], fields=FIELDS, grid=Grid((8, 8), (1.0, 1.0), ("periodic", "wall")), at="centers"
    )(frames)
    torch.testing.assert_close(shifted.sum(dim=-2), frames.sum(dim=-2), rtol=1e-5, atol=1e-5)
    assert len({one.numpy().tobytes() for one in shifted}) > 4


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="did you mean rotation"):
        motions(["rotations"], Grid.square(8, 1.0))
    with pytest.raises(ValueError, match="does not leave a grid"):
        motions(["rotation"], Grid((8, 16), (1.0, 2.0)))
    with pytest.raises(ValueError, match="motions need one vector"):
        Augmentation(["reflection"], fields=FIELDS[:2], grid=Grid.square(8, 1.0), at="centers")
