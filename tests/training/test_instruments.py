"""Instruments against closed forms."""

import math

import pytest
import torch
from torch import nn

from ptychofno.models import SpectralConv2d, StablePtychoBlock
from ptychofno.training.instruments import SPIKE_WINDOW, Spread, UpdateRatios, kinds_of, spikes


def test_spread_is_the_standard_deviation_over_patterns() -> None:
    amplitude = torch.rand(12, 2, 8, 8, generator=torch.Generator().manual_seed(1)) + 1e3
    spread = Spread()
    for batch in amplitude.split((5, 4, 3)):
        spread.add(batch)
    pixels = amplitude.double().flatten(0, 1)
    assert spread.root_sum_square() == pytest.approx(
        float(pixels.var(0, correction=0).sum().sqrt()), rel=1e-9
    )
    same = Spread()
    same.add(amplitude[:1, :1].expand(7, 1, 8, 8))
    assert same.root_sum_square() < 1e-3
    assert Spread().root_sum_square() == 0


def test_ratios_are_of_the_step_between() -> None:
    layer = nn.Sequential(nn.Conv2d(2, 3, 3), SpectralConv2d(3, 3, 2))
    ratios = UpdateRatios(layer)
    ratios.before()
    with torch.no_grad():
        layer[0].weight *= 1.01
        layer[0].bias += 2 * layer[0].bias
    found = ratios.after()
    assert found == pytest.approx({"spectral": 0.0, "local": 0.01, "bias": 2.0}, rel=1e-4)


def test_a_parameter_that_is_all_zero_has_no_ratio() -> None:
    layer = nn.Conv2d(1, 1, 1)
    nn.init.zeros_(layer.bias)
    ratios = UpdateRatios(layer)
    ratios.before()
    assert math.isnan(ratios.after()["bias"])


def test_every_parameter_has_one_kind() -> None:
    network = nn.ModuleList(
        [StablePtychoBlock(3, 2), nn.ConvTranspose2d(3, 2, 2), nn.Linear(2, 2), nn.Conv2d(2, 2, 1)]
    )
    kinds = kinds_of(network)
    assert sorted(map(id, network.parameters())) == sorted(id(p) for of in kinds.values() for p in of)
    block = network[0]
    assert kinds["spectral"] == [block.spectral.weight]
    assert {id(p) for p in kinds["gain"]} == {id(block.norm.weight), id(block.layerscale)}


def test_spikes_stand_out_of_what_came_before() -> None:
    quiet = [1.0 + 0.1 * (step % 3) for step in range(SPIKE_WINDOW)]
    assert spikes(quiet, 0) == 0
    assert spikes([*quiet, 30.0, 1.0, 40.0], SPIKE_WINDOW) == 2
    assert spikes([*quiet, 30.0, 1.0, 40.0], SPIKE_WINDOW + 1) == 1, "counted from the first asked for"
    assert spikes([1.0, 1.0, 1.0, 1e6], 0) == 0, "too few to know what is usual"
