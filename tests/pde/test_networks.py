"""The networks on one interface: numbers of weights, shapes, symmetries that paddings leave, conditioning."""

import copy
import sys

import pytest
import torch

from sciml.pde.checkpoint import build_network
from sciml.pde.conditioning import Conditioned, ParameterEmbedding, sinusoids
from sciml.pde.dilated_resnet import DilatedResNet
from sciml.pde.sinenet import SineNet
from sciml.pde.unet import ModernUNet

SMALL = {
    "sinenet": {"num_waves": 2, "widths": [4, 5, 6, 7, 8]},
    "unet": {"width": 4, "multipliers": [1, 2, 2], "blocks": 1},
    "dilated_resnet": {"width": 6, "blocks": 1},
}
CONDITIONED = ["sinenet", "unet"]


def small(name, **options):
    torch.manual_seed(0)
    return build_network(name, {"channels_in": 6, "channels_out": 3, **SMALL[name], **options}).double()


def weights(net):
    return sum(parameter.numel() for parameter in net.parameters())


def test_numbers_of_weights_are_the_published_ones():
    with torch.device("meta"):
        assert weights(ModernUNet(12, 3)) == 144_263_683  # U-Net-mod-64: 144.3 million
        assert weights(DilatedResNet(12, 3)) == 4_174_595  # 4.17 million
        assert weights(SineNet.from_preset("unet8-deep-ins")) == 28_628_084
        assert weights(SineNet.from_preset("sinenet8-tangled-ins")) == 32_831_403
        aligned = SineNet.from_preset("sinenet8-aligned-ins")
    assert all(width % 8 == 0 for width in aligned.config["widths"])


@pytest.mark.parametrize("padding", ["zeros", "circular", "mirror", ("mirror", "circular")])
@pytest.mark.parametrize("name", SMALL)
def test_every_network_takes_every_padding(name, padding):
    net = small(name, padding=padding, walls=[["even", "odd", "even"], ["even", "even", "odd"]])
    u = torch.randn(2, 6, 32, 48, dtype=torch.float64)
    result = net(u)
    assert result.shape == (2, 3, 32, 48)
    torch.testing.assert_close(torch.cat([net(one[None]) for one in u]), result)
    again = build_network(name, net.config).double()
    again.load_state_dict(net.state_dict())
    torch.testing.assert_close(again(u), result, rtol=0, atol=0)
    result.square().sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize("name", SMALL)
def test_circular_networks_know_no_place(name):
    net = small(name, padding=("circular", "zeros"))
    u = torch.randn(1, 6, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(net(u.roll(16, 2)), net(u).roll(16, 2), rtol=0, atol=1e-11)
    assert (net(u.roll(16, 3)) - net(u).roll(16, 3)).abs().max() > 1e-6


@pytest.mark.parametrize("kind", ["add", "adagn"])
@pytest.mark.parametrize("name", CONDITIONED)
def test_conditioning_starts_from_none_and_is_learned(name, kind):
    net = small(name, num_parameters=2, conditioning=kind)
    u = torch.randn(2, 6, 16, 16, dtype=torch.float64)
    first, second = (torch.full((2, 2), value, dtype=torch.float64) for value in (0.3, 2.0))
    torch.testing.assert_close(net(u, first), net(u, second), rtol=0, atol=0)
    for layer in net.modules():
        if isinstance(layer, Conditioned):
            torch.nn.init.normal_(layer.linear.weight)
    assert (net(u, first) - net(u, second)).abs().max() > 1e-3
    mixed = torch.stack([first[0], second[0]])
    torch.testing.assert_close(net(u, mixed), torch.stack([net(u, first)[0], net(u, second)[1]]))
    with pytest.raises(ValueError, match=r"conditioned on \(batch, 2\)"):
        net(u)
    with pytest.raises(ValueError, match="give both, or neither"):
        small(name, conditioning=kind)


def test_conditioning_scales_and_shifts_channels():
    h, embedding = torch.randn(2, 3, 4, 4), torch.randn(2, 5)
    layer = Conditioned(5, 3, "adagn")
    torch.nn.init.normal_(layer.linear.weight)
    a, b = layer.linear(embedding)[:, :, None, None].split(3, dim=1)
    torch.testing.assert_close(layer(h, embedding), h * (1 + a) + b)
    assert sinusoids(torch.zeros(1)).tolist() == [[1.0] * 32 + [0.0] * 32]
    assert ParameterEmbedding(2, 16)(torch.randn(7, 2)).shape == (7, 16)
    with pytest.raises(ValueError, match="available: add, adagn"):
        Conditioned(5, 3, "film")


@pytest.mark.parametrize("name", SMALL)
def test_the_ends_and_the_sums_stay_in_float32(name):
    net, seen = small(name).float(), {}
    parts = {"lift": net.lift, "project": net.project}
    inside = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    parts["inner"] = inside[len(inside) // 2]
    for part, module in parts.items():
        module.register_forward_hook(lambda _, __, out, part=part: seen.update({part: out.dtype}))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = net(torch.randn(1, 6, 16, 16))
    assert out.dtype == torch.float32
    assert seen == {"lift": torch.float32, "project": torch.float32, "inner": torch.bfloat16}


def test_the_residual_of_waves_can_be_left_out():
    with_it, without = small("sinenet", num_waves=1), small("sinenet", num_waves=1, residual=False)
    without.load_state_dict(with_it.state_dict())
    u = torch.randn(1, 6, 16, 16, dtype=torch.float64)
    x = with_it.lift(u)
    torch.testing.assert_close(with_it(u), with_it.project(x + with_it.waves[0](x)))
    torch.testing.assert_close(without(u), with_it.project(with_it.waves[0](x)))


def test_grids_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="levels of ModernUNet need multiples of 4"):
        small("unet")(torch.zeros(1, 6, 18, 16, dtype=torch.float64))
    with pytest.raises(ValueError, match="a dilation of 8 needs as many"):
        small("dilated_resnet")(torch.zeros(1, 6, 6, 16, dtype=torch.float64))
    with pytest.raises(ValueError, match="is not conditioned on parameters"):
        small("dilated_resnet")(torch.zeros(1, 6, 16, 16, dtype=torch.float64), torch.zeros(1, 1))
    with pytest.raises(ValueError, match="did you mean sinenet"):
        build_network("sinnet", {})


def test_the_fourier_operator_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "neuralop", None)
    with pytest.raises(ValueError, match=r"pip install 'sciml-suite\[fno\]'"):
        build_network("fno", {"channels_in": 6, "channels_out": 3})


def test_the_fourier_operator():
    pytest.importorskip("neuralop")
    net = build_network("fno", {"channels_in": 6, "channels_out": 3, "width": 8, "modes": 8, "padding": "circular"})
    u = torch.randn(2, 6, 16, 24)
    torch.testing.assert_close(net(u.roll(5, 2)), net(u).roll(5, 2), rtol=1e-4, atol=1e-5)
    # Weights of waves are complex, and not to lose their imaginary parts.
    assert all(parameter.is_floating_point() for parameter in net.parameters())
    double = copy.deepcopy(net).double()
    torch.testing.assert_close(double(u.double()).float(), net(u), rtol=1e-4, atol=1e-5)
    again = build_network("fno", net.config)
    again.load_state_dict(net.state_dict())
    torch.testing.assert_close(again(u), net(u), rtol=0, atol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert net(u).dtype == torch.float32
    with pytest.raises(ValueError, match="fewer waves than modes=8"):
        net(u[:, :, :6])
