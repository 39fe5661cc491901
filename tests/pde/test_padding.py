import pytest
import torch
from torch.nn.functional import conv2d, conv_transpose2d

from sciml.pde.compressible import CompressibleNavierStokes
from sciml.pde.grid import Grid
from sciml.pde.padding import (
    PaddedConv,
    PaddedTransposed,
    padded,
    read_padding,
    read_walls,
    signs_of,
    upsampled,
    wall_rules,
)
from sciml.pde.shallow_water_volumes import ShallowWaterVolumes
from sciml.pde.smoke import BuoyantSmoke


def doubled(u, fields, axes):
    """Fields with their mirror images appended beyond the upper walls of some axes, as the rules have it."""
    signs = signs_of(wall_rules(fields)).to(u)
    for axis in axes:
        kinds = ["mirror" if other == axis else "zeros" for other in (0, 1)]
        size = u.shape[2 + axis]
        wide = padded(u, size, kinds, signs=signs)
        other = 3 - axis
        wide = wide.narrow(other, size, u.shape[other]) if wide.shape[other] != u.shape[other] else wide
        u = wide.narrow(2 + axis, size, 2 * size)
    return u


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("solver_class", [CompressibleNavierStokes, ShallowWaterVolumes])
def test_a_wall_is_a_mirror_with_the_parity_of_the_rules(solver_class, axis):
    """A closed box and its mirror image are a periodic box of twice the size, for the solvers."""
    boundaries = ["periodic", "periodic"]
    boundaries[axis] = "wall"
    closed = solver_class(Grid((12, 12), (1.0, 1.0), tuple(boundaries)), 0.02)
    shape, lengths = [12, 12], [1.0, 1.0]
    shape[axis], lengths[axis] = 24, 2.0
    around = solver_class(Grid(tuple(shape), tuple(lengths)), 0.02)
    u = 0.1 * torch.randn(1, len(closed.fields), 12, 12, dtype=torch.float64)
    u = u + torch.tensor([1.0 if field.component is None else 0.0 for field in closed.fields])[:, None, None]
    after = closed(u)
    assert (after - u).abs().max() > 1e-3
    torch.testing.assert_close(
        around(doubled(u, closed.fields, [axis])), doubled(after, closed.fields, [axis]), rtol=0, atol=1e-12
    )


def test_rules_of_slipping_and_sticking_walls():
    fields = BuoyantSmoke(Grid.square(8, 1.0, "wall"), 1e-3).fields
    assert wall_rules(fields) == [["even", "odd", "even"], ["even", "even", "odd"]]
    assert wall_rules(fields, slip=False) == [["even", "zero", "zero"]] * 2


def test_padding_has_a_kind_for_each_axis_and_a_sign_for_each_field():
    u = torch.randn(1, 2, 4, 5)
    signs = torch.tensor([[1.0, -1.0], [0.0, 1.0]])
    wide = padded(u, 1, ("mirror", "mirror"), signs=signs)
    assert wide.shape == (1, 2, 6, 7)
    torch.testing.assert_close(wide[:, :, 1:-1, 1:-1], u)
    torch.testing.assert_close(wide[:, 0, 0, 1:-1], u[:, 0, 0])
    torch.testing.assert_close(wide[:, 1, -1, 1:-1], -u[:, 1, -1])
    assert wide[:, 0, :, 0].abs().max() == 0
    mixed = padded(u, 1, ("circular", "mirror"))
    torch.testing.assert_close(mixed[:, :, 0, 1:-1], u[:, :, -1])
    torch.testing.assert_close(mixed[:, :, 1:-1, -1], u[:, :, :, -1])


def test_walls_repeat_frame_by_frame():
    layer = PaddedConv(4, 3, ("mirror", "mirror"), walls=[["even", "odd"], ["zero", "even"]])
    assert layer.signs.tolist() == [[1, -1, 1, -1], [0, 1, 0, 1]]
    assert "signs" not in layer.state_dict()


@pytest.mark.parametrize("kinds", [("zeros", "zeros"), ("circular", "zeros")])
def test_strided_dilated_and_transposed_convolutions(kinds):
    x = torch.randn(1, 2, 8, 12, dtype=torch.float64)
    for options in ({"stride": 2}, {"dilation": 3}):
        layer = PaddedConv(2, 3, kinds, **options).double()
        width = options.get("dilation", 1)
        wide = padded(x, width, kinds)
        expected = conv2d(wide, layer.weight, layer.bias, layer.stride, 0, layer.dilation)
        torch.testing.assert_close(layer(x), expected)
    layer = PaddedTransposed(2, 3, kinds).double()
    assert layer(x).shape == (1, 3, 16, 24)
    if kinds == ("zeros", "zeros"):
        wide = padded(x, 1, kinds)
        torch.testing.assert_close(layer(x), conv_transpose2d(wide, layer.weight, layer.bias, stride=2, padding=3))
    else:
        torch.testing.assert_close(layer(x.roll(1, 2)), layer(x).roll(2, 2))


def test_upsampling_at_a_mirror_keeps_what_is_even():
    x = torch.randn(1, 1, 6, 6, dtype=torch.float64)
    both = torch.cat([x, x.flip(2)], dim=2)
    expected = upsampled(both, ("circular", "zeros"))[:, :, :12]
    torch.testing.assert_close(upsampled(x, ("mirror", "zeros")), expected)
    assert upsampled(x[:, :, :1], ("mirror", "mirror")).shape == (1, 1, 2, 12)


def test_bad_input_says_what_is_expected():
    with pytest.raises(ValueError, match="one of zeros, circular, mirror"):
        read_padding("reflect")
    with pytest.raises(ValueError, match="one of even, odd, zero for each field"):
        read_walls([["even"], ["slip"]], 2)
    with pytest.raises(ValueError, match="divides the 4 channels"):
        read_walls([["even"] * 3, ["odd"] * 3], 4)
