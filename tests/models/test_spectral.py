"""The real band-limited transform against the textbook complex one."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ptychofno.models import SpectralConv2d, kept_modes


def textbook(x: Tensor, weight: Tensor, R: int, K: int) -> Tensor:
    """rfft2, both corners times a complex weight (K, R, I, O), zeros elsewhere, irfft2."""
    spectrum = torch.fft.rfft2(x)
    out = torch.zeros(len(x), weight.shape[-1], *spectrum.shape[-2:], dtype=spectrum.dtype)
    positive, negative = (R + 1) // 2, R // 2
    out[:, :, :positive, :K] = torch.einsum(
        "birk,krio->bork", spectrum[:, :, :positive, :K], weight[:, :positive]
    )
    if negative:
        out[:, :, -negative:, :K] = torch.einsum(
            "birk,krio->bork", spectrum[:, :, -negative:, :K], weight[:, positive:]
        )
    return torch.fft.irfft2(out, s=x.shape[-2:])


def complex_weight(layer: SpectralConv2d) -> Tensor:
    weight = layer.weight.view(layer.columns, layer.rows, layer.in_channels, 2, layer.out_channels)
    return torch.complex(weight[:, :, :, 0], weight[:, :, :, 1])


@settings(deadline=None, max_examples=60)
@given(H=st.integers(1, 17), W=st.integers(1, 17), modes=st.integers(1, 10), seed=st.integers(0, 99))
def test_values_and_gradients_agree_with_the_textbook(H: int, W: int, modes: int, seed: int) -> None:
    torch.manual_seed(seed)
    R, K = min(2 * modes, H), min(modes, W // 2 + 1)
    layer = SpectralConv2d(3, 2, (R, K)).double()
    x = torch.randn(2, 3, H, W, dtype=torch.float64, requires_grad=True)
    ours, theirs = layer(x), textbook(x, complex_weight(layer), R, K)
    torch.testing.assert_close(ours, theirs)
    seed_gradient = torch.randn_like(ours)
    wanted = (x, layer.weight)
    for mine, other in zip(
        torch.autograd.grad(ours, wanted, seed_gradient),
        torch.autograd.grad(theirs, wanted, seed_gradient),
        strict=True,
    ):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("size", [5, 6, 8])
def test_a_grid_that_holds_fewer_modes_uses_those_it_has(size: int) -> None:
    torch.manual_seed(0)
    layer = SpectralConv2d(2, 2, 6).double()
    R, K = kept_modes(6, size)
    weight = complex_weight(layer)[:K]
    held = torch.cat((weight[:, : (R + 1) // 2], weight[:, layer.rows - R // 2 :]), dim=1)
    x = torch.randn(1, 2, size, size, dtype=torch.float64)
    torch.testing.assert_close(layer(x), textbook(x, held, R, K))


@pytest.mark.parametrize("frequency", [(1, 2), (-1, 2), (-3, 1)])
def test_positive_and_negative_row_frequencies_pass(frequency: tuple[int, int]) -> None:
    """Keeping only the non-negative rows loses half of the band."""
    layer = SpectralConv2d(1, 1, 4)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 0.0]).view(1, 1, 2, 1).expand_as(layer.weight))  # the number 1
    axis = torch.arange(16.0)
    wave = torch.cos(2 * math.pi * (frequency[0] * axis[:, None] + frequency[1] * axis) / 16)[None, None]
    torch.testing.assert_close(layer(wave), wave, atol=1e-5, rtol=0)


def test_frequencies_beyond_the_band_are_removed() -> None:
    layer = SpectralConv2d(1, 1, 3)
    wave = torch.cos(2 * math.pi * 5 * torch.arange(16.0) / 16).expand(1, 1, 16, 16)
    assert layer(wave).abs().max() < 1e-5


def test_every_weight_learns() -> None:
    """A grid smaller than the modes must not leave weights without a gradient."""
    layer = SpectralConv2d(2, 2, kept_modes(12, 8))
    x = torch.randn(4, 2, 8, 8)
    layer(x).square().sum().backward()
    assert layer.weight.grad is not None
    assert (layer.weight.grad.abs().sum(dim=(1, 2, 3)) > 0).all()


def test_a_layer_first_used_in_inference_can_train() -> None:
    layer = SpectralConv2d(1, 1, 3)
    with torch.inference_mode():
        layer(torch.randn(1, 1, 11, 13))
    layer(torch.randn(1, 1, 11, 13, requires_grad=True)).sum().backward()
    assert layer.weight.grad is not None
