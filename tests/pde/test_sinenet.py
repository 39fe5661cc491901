import pytest
import torch
from torch.nn.functional import interpolate

from sciml.pde.padding import PaddedConv, upsampled
from sciml.pde.sinenet import MULTIPLIERS, SineNet

SMALL = [8, 10, 12, 14, 16]


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("sinenet1-ins", 33_788_099),
        ("sinenet2-ins", 35_499_989),
        ("sinenet4-ins", 35_493_699),
        ("sinenet6-ins", 35_475_499),
        ("sinenet8-ins", 35_490_219),  # as in the published code
        ("sinenet8-cns", 35_506_924),
        ("sinenet8-swe", 35_486_763),
        ("sinenet12-ins", 35_470_303),
        ("sinenet16-ins", 35_453_027),
        ("sinenet8-aligned-ins", 35_102_403),
    ],
)
def test_numbers_of_weights_are_exact(name, weights):
    with torch.device("meta"):
        net = SineNet.from_preset(name)
    assert sum(parameter.numel() for parameter in net.parameters()) == weights


def test_the_tangled_ablation_has_fewer_weights():
    with torch.device("meta"):
        net = SineNet.from_preset("sinenet8-ins", parallel=False)
    assert sum(parameter.numel() for parameter in net.parameters()) == 32_831_403


def test_upsampling_is_bicubic_interpolation():
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    expected = interpolate(x, scale_factor=2, mode="bicubic", align_corners=False)
    torch.testing.assert_close(upsampled(x, ("zeros", "zeros")), expected, rtol=0, atol=1e-14)
    around = upsampled(x, ("circular", "circular"))
    torch.testing.assert_close(upsampled(x.roll(1, 2), ("circular", "circular")), around.roll(2, 2), rtol=0, atol=1e-14)
    mixed = upsampled(x, ("zeros", "circular"))
    torch.testing.assert_close(mixed[:, :, 4:-4], around[:, :, 4:-4], rtol=0, atol=1e-14)
    assert (mixed - around)[:, :, 0].abs().max() > 1e-3


def test_each_axis_has_its_padding():
    torch.manual_seed(0)
    x = torch.randn(1, 2, 6, 6)
    layers = {padding: PaddedConv(2, 2, padding) for padding in (("zeros", "zeros"), ("circular", "zeros"))}
    layers["circular", "zeros"].load_state_dict(layers["zeros", "zeros"].state_dict())
    plain, mixed = (layer(x) for layer in layers.values())
    torch.testing.assert_close(plain[:, :, 1:-1], mixed[:, :, 1:-1])
    assert (plain - mixed)[:, :, 0].abs().max() > 1e-3
    shifted = layers["circular", "zeros"](x.roll(2, 2))
    torch.testing.assert_close(shifted, mixed.roll(2, 2))


def test_circular_networks_know_no_place():
    """Shifts by the coarsest cell, 16 points, pass through."""
    torch.manual_seed(0)
    net = SineNet(3, 2, num_waves=2, widths=SMALL, padding="circular").double()
    u = torch.randn(1, 3, 32, 48, dtype=torch.float64)
    torch.testing.assert_close(net(u.roll((16, 32), (2, 3))), net(u).roll((16, 32), (2, 3)), rtol=0, atol=1e-11)
    walls = SineNet(3, 2, num_waves=2, widths=SMALL, padding=("circular", "zeros")).double()
    torch.testing.assert_close(walls(u.roll(16, 2)), walls(u).roll(16, 2), rtol=0, atol=1e-11)
    assert (walls(u.roll(16, 3)) - walls(u).roll(16, 3)).abs().max() > 1e-4


def test_every_weight_is_used():
    net = SineNet(3, 2, num_waves=2, widths=SMALL)
    net(torch.randn(2, 3, 16, 16)).square().sum().backward()
    # At a single point per channel the norm leaves nothing of the bottom's mean but still a gradient.
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_bad_input_says_what_to_do():
    net = SineNet(3, 2, num_waves=1, widths=SMALL)
    with pytest.raises(ValueError, match="need multiples of 16"):
        net(torch.zeros(1, 3, 24, 32))
    with pytest.raises(ValueError, match=r"expected \(batch, 3, num_x, num_y\)"):
        net(torch.zeros(1, 4, 32, 32))
    with pytest.raises(ValueError, match="give widths for another number"):
        SineNet(3, 2, num_waves=3)
    with pytest.raises(ValueError, match="expected 5 positive numbers"):
        SineNet(3, 2, widths=[8, 8])
    with pytest.raises(ValueError, match="expected one of zeros, circular"):
        SineNet(3, 2, padding="reflect")
    with pytest.raises(ValueError, match="did you mean sinenet8-ins"):
        SineNet.from_preset("sinenet-ins")
    assert 8 in MULTIPLIERS
