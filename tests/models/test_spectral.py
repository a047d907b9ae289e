"""The real band-limited transform against the textbook complex one."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ptychofno.models import Band, SpectralConv2d, kept_modes, pack, unpack
from ptychofno.models.layout import to_channels_last
from ptychofno.models.spectral import shared_matrices


def textbook(x: Tensor, weight: Tensor) -> Tensor:
    """rfft2, both corners times a complex weight (K, R, I, O), zeros elsewhere, irfft2."""
    K, R = weight.shape[:2]
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


def complex_of(planes: Tensor, band: Band) -> Tensor:
    return torch.complex(*unpack(planes, band).unbind(2))


def planes_of(weight: Tensor, band: Band) -> Tensor:
    return pack(torch.view_as_real(weight).movedim(-1, 2), band)


grids = st.integers(1, 17)
bands = st.builds(lambda H, W, R, K: Band(R, K).on((H, W)), grids, grids, grids, grids)


LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def laid(x: Tensor, layout: str) -> Tensor:
    """A leaf with the values of ``x`` in a layout."""
    return (to_channels_last(x) if layout == "channels_last" else x).detach().requires_grad_()


def assert_textbook(layer: SpectralConv2d, grid: tuple[int, int], layout: str) -> None:
    """Values, and gradients in input and weights, are those of the textbook layer, in the input's layout."""
    x = laid(torch.randn(2, layer.in_channels, *grid, dtype=torch.float64), layout)
    ours, theirs = layer(x), textbook(x, complex_of(layer.weight, layer.band))
    torch.testing.assert_close(ours, theirs)
    seed_gradient = torch.randn_like(ours)
    wanted = (x, layer.weight)
    mine = torch.autograd.grad(ours, wanted, seed_gradient)
    for one, other in zip(mine, torch.autograd.grad(theirs, wanted, seed_gradient), strict=True):
        torch.testing.assert_close(one, other)
    assert ours.is_contiguous(memory_format=LAYOUTS[layout])


@settings(max_examples=80)
@given(
    band=bands,
    known=st.booleans(),
    layout=st.sampled_from(sorted(LAYOUTS)),
    seed=st.integers(0, 99),
)
def test_values_and_gradients_agree_with_the_textbook(
    band: Band, known: bool, layout: str, seed: int
) -> None:
    """On any grid, odd or even, with any band up to all that the grid holds, however it lies in memory."""
    torch.manual_seed(seed)
    layer = SpectralConv2d(3, 2, band if known else (band.rows, band.columns)).double()
    assert band.grid is not None
    assert_textbook(layer, band.grid, layout)


@settings(max_examples=30)
@given(band=bands, seed=st.integers(0, 99))
def test_weights_convert_both_ways(band: Band, seed: int) -> None:
    """Planes to complex and back is exact; complex to planes keeps every weight of the textbook layer."""
    torch.manual_seed(seed)
    weight = torch.randn(band.columns, band.rows, 2, 3, dtype=torch.complex128)
    planes = planes_of(weight, band)
    torch.testing.assert_close(planes_of(complex_of(planes, band), band), planes, rtol=0, atol=0)
    assert band.grid is not None
    x = torch.randn(1, 2, *band.grid, dtype=torch.float64)
    torch.testing.assert_close(textbook(x, complex_of(planes, band)), textbook(x, weight))


@settings(max_examples=30)
@given(band=bands, seed=st.integers(0, 99))
def test_no_weight_is_without_effect_and_none_is_missing(band: Band, seed: int) -> None:
    """The stored parts are exactly those in which the textbook layer has a gradient."""
    torch.manual_seed(seed)
    weight = torch.randn(band.columns, band.rows, 1, 1, dtype=torch.complex128, requires_grad=True)
    assert band.grid is not None
    x = torch.randn(4, 1, *band.grid, dtype=torch.float64)
    out = textbook(x, weight)
    (gradient,) = torch.autograd.grad(out, weight, torch.randn_like(out))
    alive = torch.view_as_real(gradient).abs() > 1e-10 * gradient.abs().max()
    stored = torch.view_as_real(complex_of(torch.ones_like(planes_of(weight, band)), band)) != 0
    assert torch.equal(alive, stored)
    layer = SpectralConv2d(1, 1, band).double()
    out = layer(x)
    (gradient,) = torch.autograd.grad(out, layer.weight, torch.randn_like(out))
    assert (gradient.abs() > 1e-10 * gradient.abs().max()).all()


def test_a_seed_draws_what_it_drew_for_a_complex_weight() -> None:
    """Leaving out what has no effect must not change the other weights, nor those of the next layer."""
    draws = []
    for spec in (kept_modes(3, 4), (4, 3)):
        torch.manual_seed(0)
        layer = SpectralConv2d(2, 2, spec)
        draws.append((unpack(layer.weight, layer.band), torch.rand(1)))
    (known, after), (unknown, after_too) = draws
    assert torch.equal(after, after_too)
    assert torch.equal(known[known != 0], unknown[known != 0])
    assert int((known == 0).sum()) == 4 * 4  # zero and Nyquist of both axes, 2 × 2 channels


# With as many positive as negative rows: a row without its conjugate passes by half in column 0.
symmetric = bands.filter(lambda band: band.rows % 2 == 1 or band.rows == (band.grid or (0, 0))[0])


@settings(max_examples=20)
@given(band=symmetric, seed=st.integers(0, 99))
def test_weights_of_one_project_onto_the_band(band: Band, seed: int) -> None:
    """Parseval: what is left has its power as its overlap with the input, and passes unchanged."""
    torch.manual_seed(seed)
    assert band.grid is not None
    layer = SpectralConv2d(1, 1, band).double()
    ones = torch.ones(band.columns, band.rows, 1, 1, dtype=torch.complex128)
    x = torch.randn(1, 1, *band.grid, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(planes_of(ones, band))
        once = layer(x)
        torch.testing.assert_close((once * x).sum(), once.square().sum())
        torch.testing.assert_close(layer(once), once)


@pytest.mark.parametrize("size", [8, 12, 15, 32])
def test_a_finer_grid_gives_the_same_function(size: int) -> None:
    """Resolution invariance: a band-limited function and what the layer makes of it, sampled anew."""

    def sampled(size: int) -> Tensor:
        axis = 2 * math.pi * torch.arange(size, dtype=torch.float64) / size
        return (torch.cos(2 * axis[:, None] - axis) + torch.sin(axis[:, None] + 2 * axis))[None, None]

    torch.manual_seed(0)
    layer = SpectralConv2d(1, 1, 3).double()
    fine = layer(sampled(3 * size))
    torch.testing.assert_close(fine[..., ::3, ::3], layer(sampled(size)))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize(
    ("spec", "grid", "layout"),
    [
        (kept_modes(3, 4), (4, 4), "contiguous"),
        (2, (5, 4), "channels_last"),
        ((5, 2), (5, 4), "contiguous"),
    ],
)
def test_second_derivatives_and_gradients_per_sample(
    spec: Band | int | tuple[int, int],
    grid: tuple[int, int],
    layout: str,
) -> None:
    layer = SpectralConv2d(2, 1, spec).double()
    x = laid(torch.randn(2, 2, *grid, dtype=torch.float64), layout)
    weight = layer.weight.detach().clone().requires_grad_()

    def call(x: Tensor, weight: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight}, (x,))

    def loss(weight: Tensor, sample: Tensor) -> Tensor:
        return call(sample[None], weight).square().sum()

    torch.autograd.gradgradcheck(call, (x, weight))
    together = torch.func.vmap(torch.func.grad(loss), (None, 0))(weight, x.detach())
    alone = [torch.autograd.grad(loss(weight, sample), weight)[0] for sample in x.detach()]
    torch.testing.assert_close(together, torch.stack(alone))


@pytest.mark.parametrize(
    ("spec", "size", "layout"),
    [(kept_modes(12, 8), 8, "contiguous"), (kept_modes(2, 16), 16, "channels_last"), (3, 16, "contiguous")],
)
@pytest.mark.slow
def test_the_layer_is_one_graph(spec: Band | int, size: int, layout: str) -> None:
    """fullgraph: nothing that breaks the graph, forward or backward."""
    torch.compiler.reset()  # the case before is not recompiled for
    torch.compiler.assume_constant_result(shared_matrices)
    layer, x = SpectralConv2d(16, 3, spec), laid(torch.randn(2, 16, size, size), layout)
    compiled = torch.compile(layer, fullgraph=True, dynamic=False, backend="aot_eager")
    wanted = (x, layer.weight)
    for one, other in zip(
        torch.autograd.grad(compiled(x).square().sum(), wanted),
        torch.autograd.grad(layer(x).square().sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_a_converted_layer_is_as_exact_as_one_made_so() -> None:
    layer = SpectralConv2d(2, 2, kept_modes(3, 8))
    assert list(layer.state_dict()) == ["weight"]
    again = copy.deepcopy(layer.double())
    x = torch.randn(1, 2, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(again(x), textbook(x, complex_of(layer.weight, layer.band)))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("modes", "size"), [(3, 8), (3, 16)])
def test_half_precision_and_autocast(modes: int, size: int, layout: str) -> None:
    torch.manual_seed(0)
    layer, x = SpectralConv2d(16, 4, kept_modes(modes, size)), laid(torch.randn(2, 16, size, size), layout)
    exact = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        automatic = layer(x)
    automatic.float().square().sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.dtype == torch.float32
    half = layer.to(torch.bfloat16)(x.bfloat16())
    for rounded in (automatic, half):
        assert rounded.dtype == torch.bfloat16
        assert rounded.is_contiguous(memory_format=LAYOUTS[layout])
        torch.testing.assert_close(rounded.float(), exact, atol=0.1, rtol=0.05)


def test_a_layer_refuses_the_grid_of_another() -> None:
    with pytest.raises(ValueError, match="16 × 16 pixels"):
        SpectralConv2d(1, 1, kept_modes(3, 8))(torch.randn(1, 1, 16, 16))


@pytest.mark.parametrize("size", [5, 6, 8])
def test_a_grid_that_holds_fewer_modes_uses_those_it_has(size: int) -> None:
    torch.manual_seed(0)
    layer = SpectralConv2d(2, 2, 6).double()
    band = kept_modes(6, size)
    weight = complex_of(layer.weight, layer.band)[: band.columns]
    R = band.rows
    held = torch.cat((weight[:, : (R + 1) // 2], weight[:, layer.band.rows - R // 2 :]), dim=1)
    x = torch.randn(1, 2, size, size, dtype=torch.float64)
    torch.testing.assert_close(layer(x), textbook(x, held))


@pytest.mark.parametrize("frequency", [(1, 2), (-1, 2), (-3, 1)])
def test_positive_and_negative_row_frequencies_pass(frequency: tuple[int, int]) -> None:
    """Keeping only the non-negative rows loses half of the band."""
    layer = SpectralConv2d(1, 1, 4)
    with torch.no_grad():
        layer.weight.copy_(planes_of(torch.ones(4, 8, 1, 1, dtype=torch.complex64), layer.band))
    axis = torch.arange(16.0)
    wave = torch.cos(2 * math.pi * (frequency[0] * axis[:, None] + frequency[1] * axis) / 16)[None, None]
    torch.testing.assert_close(layer(wave), wave, atol=1e-5, rtol=0)


def test_frequencies_beyond_the_band_are_removed() -> None:
    layer = SpectralConv2d(1, 1, 3)
    wave = torch.cos(2 * math.pi * 5 * torch.arange(16.0) / 16).expand(1, 1, 16, 16)
    assert layer(wave).abs().max() < 1e-5


def test_a_layer_first_used_in_inference_can_train() -> None:
    layer = SpectralConv2d(1, 1, 3)
    with torch.inference_mode():
        layer(torch.randn(1, 1, 11, 13))
    layer(torch.randn(1, 1, 11, 13, requires_grad=True)).sum().backward()
    assert layer.weight.grad is not None
