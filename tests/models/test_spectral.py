"""The real band-limited transform against the textbook complex one."""

import copy
import math
from contextlib import AbstractContextManager
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ptychofno.models import Band, SpectralConv2d, kept_modes, pack, unpack
from ptychofno.models import transforms as transforms_module
from ptychofno.models.layout import to_channels_last
from ptychofno.models.transforms import analyse, synthesise, transforms


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


def lines_up_to(pixels_per_channel: int) -> AbstractContextManager[object]:
    """Let no grid (0), or any, be taken line by line."""
    return mock.patch.object(transforms_module, "LINES_UP_TO_PIXELS_PER_CHANNEL", pixels_per_channel)


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
    for values in (ours, mine[0]):
        assert values.is_contiguous(memory_format=LAYOUTS[layout])


@settings(max_examples=80)
@given(
    band=bands,
    known=st.booleans(),
    layout=st.sampled_from(sorted(LAYOUTS)),
    lines=st.sampled_from([0, 4, 99]),
    seed=st.integers(0, 99),
)
def test_values_and_gradients_agree_with_the_textbook(
    band: Band, known: bool, layout: str, lines: int, seed: int
) -> None:
    """On any grid, odd or even, with any band up to all that the grid holds, however it lies in memory."""
    torch.manual_seed(seed)
    layer = SpectralConv2d(3, 2, band if known else (band.rows, band.columns)).double()
    assert band.grid is not None
    with lines_up_to(lines):
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


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("band", "channels", "method", "way", "folds_rows"),
    [
        (kept_modes(12, 10), 2, "whole", "planes", False),
        (kept_modes(12, 8), 2, "whole", "lines", False),
        (Band(3, 2).on((5, 9)), 2, "whole", "planes", False),
        (Band(3, 2).on((7, 9)), 2, "whole", "planes", True),
        (Band(3, 2).on((7, 9)), 3, "whole", "lines", True),
        (kept_modes(12, 16), 2, "axes", "planes", False),
        (kept_modes(12, 16), 4, "axes", "lines", False),
        (Band(15, 2).on((17, 11)), 2, "axes", "planes", False),
        (Band(5, 2).on((17, 11)), 2, "axes", "planes", True),
        (Band(5, 2).on((17, 11)), 3, "axes", "lines", True),
        (Band(6, 4).on((20, 7)), 2, "axes", "lines", True),
        (Band(6, 4).on((20, 9)), 2, "axes", "planes", True),
        (Band(1, 1).on((11, 11)), 2, "axes", "planes", True),
        (Band(1, 1).on((11, 11)), 3, "axes", "lines", True),
        (Band(64, 3).on((66, 65)), 16, "axes", "planes", False),
        (Band(64, 3).on((66, 65)), 17, "axes", "lines", False),
        (Band(5, 2).on((66, 65)), 16, "axes", "planes", True),
        (Band(81, 55).on((110, 110)), 2, "fft", "fft", True),
        (Band(89, 46).on((89, 90)), 2, "fft", "fft", False),
        (Band(85, 57).on((115, 113)), 16, "fft", "fft", True),
    ],
)
def test_each_way_of_taking_the_transform_is_the_textbook_layer(
    band: Band, channels: int, method: str, way: str, folds_rows: bool, layout: str
) -> None:
    torch.manual_seed(0)
    spectrum = band.spectrum()
    chosen = (spectrum.method, spectrum.way(channels, True), spectrum.folds_rows)
    assert band.grid is not None and chosen == (method, way, folds_rows)
    assert spectrum.way(channels, False) == method
    layer = SpectralConv2d(channels, 3, band).double()
    assert_textbook(layer, band.grid, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_channel_keeps_its_layout(layout: str) -> None:
    """With one channel the two layouts differ by strides alone, by which a convolution chooses its own."""
    x = laid(torch.randn(2, 1, 16, 16), layout)
    assert SpectralConv2d(1, 1, 3)(x).stride() == x.stride()


@settings(max_examples=20)
@given(
    band=bands,
    layout=st.sampled_from(sorted(LAYOUTS)),
    lines=st.sampled_from([0, 99]),
    seed=st.integers(0, 99),
)
def test_synthesis_is_the_adjoint_of_analysis(band: Band, layout: str, lines: int, seed: int) -> None:
    torch.manual_seed(seed)
    assert band.grid is not None
    matrices = transforms(*band.spectrum(), torch.float64, torch.device("cpu"))
    x = laid(torch.randn(2, 3, *band.grid, dtype=torch.float64), layout)
    modes = torch.randn(band.columns, band.rows, 2, 2, 3, dtype=torch.float64)
    last = layout == "channels_last"
    with lines_up_to(lines):
        torch.testing.assert_close(
            (analyse(x, band.spectrum(), *matrices) * modes).sum(),
            (x * synthesise(modes, band.spectrum(), *matrices, channels_last=last)).sum(),
        )


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize(
    ("layout", "lines"), [("contiguous", 4), ("channels_last", 0), ("channels_last", 99)]
)
@pytest.mark.parametrize(
    ("spec", "grid"), [(kept_modes(3, 6), (6, 6)), (2, (6, 6)), ((3, 2), (13, 8)), ((13, 2), (13, 8))]
)
def test_second_derivatives_and_gradients_per_sample(
    spec: Band | int | tuple[int, int],
    grid: tuple[int, int],
    layout: str,
    lines: int,
) -> None:
    layer = SpectralConv2d(2, 3, spec).double()
    x = laid(torch.randn(2, 2, *grid, dtype=torch.float64), layout)
    weight = layer.weight.detach().clone().requires_grad_()

    def call(x: Tensor, weight: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight}, (x,))

    def loss(weight: Tensor, sample: Tensor) -> Tensor:
        return call(sample[None], weight).square().sum()

    with lines_up_to(lines):
        torch.autograd.gradgradcheck(call, (x, weight))
        together = torch.func.vmap(torch.func.grad(loss), (None, 0))(weight, x.detach())
        alone = [torch.autograd.grad(loss(weight, sample), weight)[0] for sample in x.detach()]
    torch.testing.assert_close(together, torch.stack(alone))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("spec", "size"),
    [*((kept_modes(modes, size), size) for modes, size in ((12, 8), (2, 16), (2, 68), (42, 84))), (3, 16)],
)
def test_the_layer_is_one_graph(spec: Band | int, size: int, layout: str) -> None:
    """fullgraph: nothing that breaks the graph, forward or backward."""
    torch.compiler.reset()  # the case before is not recompiled for
    layer, x = SpectralConv2d(16, 3, spec), laid(torch.randn(2, 16, size, size), layout)
    compiled = torch.compile(layer, fullgraph=True, dynamic=False, backend="aot_eager")
    wanted = (x, layer.weight)
    for one, other in zip(
        torch.autograd.grad(compiled(x).square().sum(), wanted),
        torch.autograd.grad(layer(x).square().sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def matrices_in(layer: SpectralConv2d) -> list[Tensor]:
    return [buffer for _, buffer in layer.named_buffers(remove_duplicate=False)]


def test_transforms_are_shared_stay_exact_and_out_of_checkpoints() -> None:
    one, other = (SpectralConv2d(channels, channels, kept_modes(3, 8)) for channels in (2, 4))
    for mine, theirs in zip(matrices_in(one), matrices_in(other), strict=True):
        assert mine is theirs
    assert list(one.state_dict()) == ["weight"]
    exact = transforms(*kept_modes(3, 8).spectrum(), torch.float64, torch.device("cpu"))
    assert all(torch.equal(*pair) for pair in zip(matrices_in(one.double()), exact, strict=True))
    assert all(buffer.dtype == torch.float32 for buffer in other.buffers())
    again = copy.deepcopy(one)
    x = torch.randn(1, 2, 8, 8, dtype=torch.float64)
    assert torch.equal(again(x), one(x))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("modes", "size"), [(3, 8), (3, 16), (3, 68), (42, 84)])
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
