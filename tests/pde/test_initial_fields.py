import math

import pytest
import torch

from sciml.pde import Grid, ShallowWater
from sciml.pde.initial_fields import random_gas, random_winds

PLANE = Grid.square(48, 1e7)


def test_gas_has_the_priors_of_its_source():
    u = random_gas(Grid.square(16, 1.0), 400, torch.Generator().manual_seed(0))
    density, pressure, v_x, v_y = u.unbind(1)
    assert density.min() > 0
    assert pressure.min() > 0
    assert abs(density.mean() / 5.05 - 1) < 0.06
    assert abs(pressure.mean() / 5.05**2 - 1) < 0.1
    temperature = pressure.mean(dim=(1, 2)) / density.mean(dim=(1, 2))
    speed = (v_x**2 + v_y**2).sqrt().mean(dim=(1, 2)) / (5 / 3 * temperature).sqrt()
    assert speed.max() < 0.11
    everywhere = (v_x.abs() > 1e-6).flatten(1).all(dim=1)
    assert 0.4 < everywhere.double().mean() < 0.6
    torch.testing.assert_close(speed[everywhere], torch.full_like(speed[everywhere], 0.1), rtol=0.05, atol=0)
    size = (density / density.mean(dim=(1, 2), keepdim=True) - 1).abs().mean(dim=(1, 2))[everywhere]
    assert size.min() > 0.009
    assert size.max() < 0.21
    assert size.min() < 0.03
    assert size.max() > 0.17


def test_gas_has_long_waves_only():
    u = random_gas(Grid.square(32, 1.0), 8, torch.Generator().manual_seed(0))
    everywhere = (u[:, 2].abs() > 1e-6).flatten(1).all(dim=1)
    waves = torch.fft.rfft2(u[everywhere, 2]).abs().square()
    assert waves[:, 5:28].sum() + waves[:, :, 5:].sum() < 1e-20 * waves.sum()


def test_balanced_winds_keep_still_compared_to_unbalanced_ones():
    change = {}
    for imbalance in (0.0, 1.0):
        u = random_winds(PLANE, 4, torch.Generator().manual_seed(0), speed=0.001, imbalance=imbalance)
        after = ShallowWater(PLANE, 300.0, gravity=9.81, coriolis=1e-4).run(u, 30, every=30)[:, -1]
        change[imbalance] = ((after - u)[:, 0].norm() / (u[:, 0] - 1000).norm()).item()
    assert change[0.0] < 2e-5  # slow winds in balance are steady
    assert change[1.0] > 0.3


def test_winds_have_their_speed_and_no_divergence():
    u = random_winds(PLANE, 6, torch.Generator().manual_seed(1), speed=15.0)
    torch.testing.assert_close(u[:, 1:].square().sum(dim=1).mean(dim=(1, 2)).sqrt(), torch.full((6,), 15.0).double())
    assert abs(u[:, 0].mean() - 1000) < 1e-9
    k = 2 * math.pi * torch.fft.fftfreq(48, 1 / 48, dtype=torch.float64)
    v = torch.fft.fft2(u[:, 1:])
    assert (k[:, None] * v[:, 0] + k * v[:, 1]).abs().max() < 1e-9 * v.abs().max() * k.max()


def test_bad_input_says_what_to_do():
    with pytest.raises(ValueError, match="slower winds"):
        random_winds(PLANE, 1, torch.Generator().manual_seed(0), speed=400.0)
    with pytest.raises(ValueError, match="need rotation"):
        random_winds(PLANE, 1, torch.Generator().manual_seed(0), coriolis=0.0)
