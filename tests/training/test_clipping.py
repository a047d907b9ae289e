"""Clipping against the definitions of its papers."""

import pytest
import torch
from torch import nn

from ptychofno.models import SpectralConv2d
from ptychofno.training.clipping import (
    AdaptiveClip,
    NoClip,
    NormClip,
    ValueClip,
    adaptive_gradient_clip_,
    output_axes_of,
    total_gradient_norm,
)

LAYERS: dict[str, tuple[nn.Module, int]] = {
    "convolution": (nn.Conv2d(3, 5, 3), 0),
    "transposed convolution": (nn.ConvTranspose2d(3, 5, 2), 1),
    "linear": (nn.Linear(3, 5), 0),
    "spectral": (SpectralConv2d(3, 5, 2), 2),
}


def with_gradient(parameter: nn.Parameter, scale: float) -> torch.Tensor:
    torch.manual_seed(0)
    parameter.grad = scale * torch.randn_like(parameter)
    return parameter.grad.clone()


@pytest.mark.parametrize("layer", LAYERS)
def test_agc_limits_each_output_channel(layer: str) -> None:
    module, axis = LAYERS[layer]
    weight = module.weight
    before = with_gradient(weight, 1.0)
    with torch.no_grad():
        before.select(axis, 1).mul_(1e-9)  # one channel has nothing to clip
        weight.grad.copy_(before)
    adaptive_gradient_clip_([weight], 0.01, 1e-3, output_axes_of(module))
    for channel in range(5):
        w, g, old = (t.detach().select(axis, channel) for t in (weight, weight.grad, before))
        limit = 0.01 * max(float(w.norm()), 1e-3)
        if channel == 1:
            assert torch.equal(g, old)
        else:
            assert float(g.norm()) == pytest.approx(limit, rel=1e-4)
            torch.testing.assert_close(g / g.norm(), old / old.norm())  # the direction stays


def test_agc_takes_biases_and_gains_whole_and_lets_zeros_move() -> None:
    bias, gain = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.full((4, 1, 1), 1e-3))
    for parameter in (bias, gain):
        old = with_gradient(parameter, 10.0)
        adaptive_gradient_clip_([parameter], 0.01, 1e-3, output_axes={})
        limit = 0.01 * max(float(parameter.detach().norm()), 1e-3)
        assert float(parameter.grad.norm()) == pytest.approx(limit, rel=1e-4)
        torch.testing.assert_close(parameter.grad / parameter.grad.norm(), old / old.norm())


@pytest.mark.parametrize("scale", [1e18, 1e25, 1e37])
def test_agc_limits_a_gradient_whose_square_overflows(scale: float) -> None:
    bias, weight = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.ones(5, 3))
    for parameter in (bias, weight):
        parameter.grad = torch.full_like(parameter, scale)
    weight.grad[1] = 1e-6
    adaptive_gradient_clip_([bias, weight], 0.01, 1e-3)
    assert float(bias.grad.norm()) == pytest.approx(1e-5, rel=1e-3)
    assert float(weight.grad[0].norm()) == pytest.approx(0.01 * 3**0.5, rel=1e-5)
    assert torch.equal(weight.grad[1], torch.full((3,), 1e-6)), "a channel with nothing to clip stays"


def test_agc_skips_what_has_no_gradient() -> None:
    adaptive_gradient_clip_([nn.Parameter(torch.ones(3))])


def test_every_weight_of_a_network_has_an_output_axis() -> None:
    network = nn.Sequential(*(module for module, _ in LAYERS.values()))
    listed = output_axes_of(network)
    for name, parameter in network.named_parameters():
        assert (parameter in listed) == name.endswith("weight"), name


def test_norm_value_and_none() -> None:
    parameters = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2, 2))]
    olds = [with_gradient(p, 5.0) for p in parameters]
    norm = total_gradient_norm(parameters)
    assert NoClip()(parameters, {}, norm) == norm
    assert all(torch.equal(p.grad, old) for p, old in zip(parameters, olds, strict=True))
    torch.testing.assert_close(norm, torch.cat([old.flatten() for old in olds]).norm())
    assert float(NormClip(0.5)(parameters, {}, norm)) == pytest.approx(0.5, rel=1e-4)
    assert float(total_gradient_norm(parameters)) == pytest.approx(0.5, rel=1e-4)
    after = ValueClip(0.1)(parameters, {}, norm)
    torch.testing.assert_close(after, torch.cat([p.grad.flatten() for p in parameters]).norm())
    for parameter, old in zip(parameters, olds, strict=True):
        torch.testing.assert_close(parameter.grad, (old * 0.5 / norm).clamp(-0.1, 0.1), rtol=1e-4, atol=1e-7)


def test_a_small_gradient_is_left_alone_by_all() -> None:
    parameter = nn.Parameter(torch.ones(4, 4))
    for clip in (NormClip(1.0), ValueClip(1.0), AdaptiveClip(0.01, 1e-3)):
        old = with_gradient(parameter, 1e-6)
        norm = total_gradient_norm([parameter])
        torch.testing.assert_close(clip([parameter], {}, norm), norm, rtol=1e-6, atol=0)
        torch.testing.assert_close(parameter.grad, old, rtol=1e-6, atol=0)
