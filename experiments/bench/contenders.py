"""The same layer again: ours, the same on FFTs, the textbook rfft2 layer, neuraloperator's SpectralConv.

And a network without any, whose time no network with Fourier layers can be below.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ptychofno.models import Band, HybridUNOGenerator, PtychoBlock, SpectralConv2d, unpack
from ptychofno.models.inputs import AmplitudeInput
from ptychofno.models.layout import is_channels_last, to_channels_last
from ptychofno.models.spectral import mix

Layer = Callable[[int, Band], nn.Module]
CONTIGUOUS, CHANNELS_LAST = "contiguous", "channels_last"


class Rfft2Conv(nn.Module):
    """Li et al. 2021 as usually written: full rfft2, two corners by complex einsum, zeros, irfft2."""

    def __init__(self, channels: int, band: Band) -> None:
        super().__init__()
        self.positive, self.negative, self.columns = (band.rows + 1) // 2, band.rows // 2, band.columns
        scale = 1 / math.sqrt(2 * channels)
        self.above, self.below = (
            nn.Parameter(scale * torch.randn(channels, channels, rows, band.columns, dtype=torch.cfloat))
            for rows in (self.positive, self.negative)
        )

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(x)
        out = torch.zeros(
            len(x), self.above.shape[1], *spectrum.shape[-2:], dtype=spectrum.dtype, device=x.device
        )
        for rows, weight in (
            (slice(None, self.positive), self.above),
            (slice(-self.negative, None), self.below),
        ):
            part = spectrum[:, :, rows, : self.columns]
            out[:, :, rows, : self.columns] = torch.einsum("bixy,ioxy->boxy", part, weight)
        return torch.fft.irfft2(out, s=x.shape[-2:])


class FFTConv(SpectralConv2d):
    """Ours, but for the transforms: FFTs along one axis after the other, which pass on the band only."""

    def _convolve(self, x: Tensor) -> Tensor:
        B, H, W, _ = x.shape
        band = self.band.on((H, W))
        positive, negative = (band.rows + 1) // 2, band.rows // 2
        wide = x.float()  # FFTs have no half precision on a CPU
        lines = torch.fft.rfft(wide, dim=2)[:, :, : band.columns]
        modes = torch.view_as_real(torch.fft.fft(lines, dim=1))
        modes = torch.cat((modes[:, :positive], modes[:, H - negative :]), dim=1)
        mixed = mix(modes.permute(2, 1, 4, 0, 3), self._weight_on(band).to(wide.dtype)).permute(3, 1, 0, 4, 2)
        gap = mixed.new_zeros(B, H - band.rows, *mixed.shape[2:])
        filled = torch.cat((mixed[:, :positive], gap, mixed[:, positive:]), dim=1)
        lines = torch.fft.ifft(torch.view_as_complex(filled.contiguous()), dim=1)
        return torch.fft.irfft(lines, n=W, dim=2).to(x.dtype).contiguous()


def ours(channels: int, band: Band) -> nn.Module:
    return SpectralConv2d(channels, channels, band)


def neuraloperator(channels: int, band: Band) -> nn.Module:
    from neuralop.layers.spectral_convolution import SpectralConv

    # It keeps n // 2 + 1 columns of the n asked for.
    return SpectralConv(channels, channels, (band.rows, 2 * (band.columns - 1)), bias=False)


class Nothing(nn.Module):
    """Takes no time: what is left of a training step is what all contenders share."""

    def forward(self, x: Tensor) -> float:
        return 0.0


CONTENDERS: dict[str, Layer] = {"ours": ours, "rfft2": Rfft2Conv, "neuraloperator": neuraloperator}
NOTHING = "no layer"


def give_the_same_weights(layers: dict[str, nn.Module], band: Band) -> None:
    """Let every contender compute the function of ours."""
    mine = layers["ours"]
    assert isinstance(mine, SpectralConv2d)
    with torch.no_grad():
        weight = torch.complex(*unpack(mine.weight, band).unbind(2)).permute(2, 3, 1, 0)  # (I, O, R, K)
        textbook = layers.get("rfft2")
        if isinstance(textbook, Rfft2Conv):
            textbook.above.copy_(weight[:, :, : textbook.positive])
            textbook.below.copy_(weight[:, :, textbook.positive :])
        if "neuraloperator" in layers:
            (parameter,) = layers["neuraloperator"].parameters()
            parameter.copy_(torch.fft.fftshift(weight, dim=2))


def layouts(name: str, device: str) -> tuple[str, ...]:
    """In which layouts of memory a contender's network may run on a device; the fastest is taken.

    On a CPU a network of ours runs in channels_last, and so does one without Fourier layers; for a network of
    other layers it depends.
    """
    if device != "cpu":
        return (CONTIGUOUS,)
    return (CHANNELS_LAST,) if name in ("ours", NOTHING) else (CONTIGUOUS, CHANNELS_LAST)


def laid_out(x: Tensor, layout: str) -> Tensor:
    return to_channels_last(x) if layout == CHANNELS_LAST else x.contiguous()


class Foreign(nn.Module):
    """A layer of float32 and contiguous activations, in a network whose may be others.

    FFTs have no bfloat16 on a CPU.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            out = self.layer(x.float().contiguous()).to(x.dtype)
        return to_channels_last(out) if is_channels_last(x) else out


def hybrid(name: str, size: int, layout: str) -> nn.Module:
    """The published network at width 32, its Fourier layers replaced, its activations in a layout."""

    class Block(PtychoBlock):
        def __init__(self, channels: int, modes: Band) -> None:
            super().__init__(channels, modes)
            if name == NOTHING:
                self.spectral = Nothing()  # type: ignore[assignment]
            elif name != "ours":
                self.spectral = Foreign(CONTENDERS[name](channels, modes))  # type: ignore[assignment]

    class Network(HybridUNOGenerator):
        def arrange(self, x: Tensor) -> Tensor:
            return laid_out(x, layout)

    inputs = AmplitudeInput(1.0)
    return Network(inputs, 1, size, block=Block)
