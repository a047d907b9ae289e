"""The truncated real Fourier transform of a grid and its adjoint.

Shapes: B batch, C channels, H rows, W columns, R row frequencies, K column frequencies.

Sizes alone decide how a transform is taken (measured in experiments/bench):

- small grids: one matrix product over the whole grid, where activations are contiguous;
- few modes: a matrix product per axis, in the order that suits the layout of memory;
- many modes of a large grid: FFTs per axis that pass on only the kept frequencies.

The column frequencies that stand for their conjugates too carry the factor sqrt(2): that makes the
synthesis (``irfft2``) the adjoint of the analysis (``rfft2``), and each the gradient of the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ptychofno.models.layout import is_channels_last, to_channels_last
from ptychofno.models.products import PRODUCTS

# Where the measured times cross: experiments/bench, section "crossover".
WHOLE_GRID_UP_TO_PIXELS = 100
FFT_ABOVE_PIXELS = 64 * 64
FFT_ABOVE_PRODUCTS_PER_PIXEL = 150
FOLDED_ROWS_UP_TO = 0.75
LINES_UP_TO_PIXELS_PER_CHANNEL = 4

Matrices = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class Spectrum(NamedTuple):
    """R × K frequencies of an H × W grid."""

    H: int
    W: int
    R: int
    K: int

    @property
    def products_per_pixel(self) -> float:
        """Real multiplications of the product per axis: 2 K for the columns, 4 R K / W for the rows."""
        return 2 * self.K + 4 * self.R * self.K / self.W

    @property
    def method(self) -> Literal["whole", "axes", "fft"]:
        """How it is taken of contiguous activations, from its sizes alone, so that a run repeats anywhere."""
        pixels = self.H * self.W
        if pixels <= WHOLE_GRID_UP_TO_PIXELS:
            return "whole"
        if pixels > FFT_ABOVE_PIXELS and self.products_per_pixel > FFT_ABOVE_PRODUCTS_PER_PIXEL:
            return "fft"
        return "axes"

    @property
    def folds_rows(self) -> bool:
        """Whether real rows, without the signs of frequencies, are enough fewer than H to be taken first."""
        return self.R + 1 <= FOLDED_ROWS_UP_TO * self.H

    def way(self, channels: int, channels_last: bool) -> Literal["whole", "axes", "fft", "lines", "planes"]:
        """How it is taken of activations in their layout, in channels_last from their number, too."""
        if self.method == "fft" or not channels_last:
            return self.method
        return "planes" if LINES_UP_TO_PIXELS_PER_CHANNEL * channels < self.W else "lines"


def row_frequencies(R: int) -> list[int]:
    """Signed frequencies in the order of ``fftfreq``: 0 … , then the negative ones."""
    return [*range((R + 1) // 2), *range(-(R // 2), 0)]


@torch.compiler.assume_constant_result
def transforms(H: int, W: int, R: int, K: int, dtype: torch.dtype, device: torch.device) -> Matrices:
    """``matrices_of`` a spectrum, shared by all who ask for the same."""
    return _shared(Spectrum(H, W, R, K), dtype, device)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # a matrix first needed in evaluation must serve training, too
def _shared(spectrum: Spectrum, dtype: torch.dtype, device: torch.device) -> Matrices:
    first, second, third, fourth, fifth = (matrix.to(device, dtype) for matrix in matrices_of(spectrum))
    return first, second, third, fourth, fifth


def matrices_of(spectrum: Spectrum) -> Matrices:
    """The real float64 matrices of an orthonormal analysis.

    Returns:
        across (2 K, W), columns, all real parts before all imaginary ones;
        for contiguous activations, down (2, 2 R, H), rows, from a real and from an imaginary input to
        (real, imaginary), or, for the whole grid at once, (2 K R, H W);
        for channels_last line by line, rows (2 R, 2 H) of complex numbers, real part by imaginary part;
        plane by plane, folded (M, H), rows of a real input where that leaves fewer of them, else empty (then
        M = H), and signs (2 R, 2 M), from M complex numbers to R.
        For FFTs: the factors (K, 1, 1, 1, 1) of the column frequencies, and four empty ones, as
        torch.compile wants a fixed number.
    """
    H, W, R, K = spectrum
    factors = _multiplicity(W, K).sqrt()
    nothing = torch.empty(0, dtype=torch.float64, device="cpu")
    if spectrum.method == "fft":
        return factors.view(K, 1, 1, 1, 1), nothing, nothing, nothing, nothing
    phase = _phases(range(K), W)
    across = torch.cat((phase.cos(), -phase.sin())) * factors.repeat(2, 1) / math.sqrt(W)
    phase = _phases(row_frequencies(R), H)
    cos, sin = phase.cos() / math.sqrt(H), phase.sin() / math.sqrt(H)
    down = _on_complex(cos, sin)
    if spectrum.method == "whole":
        second = torch.einsum("pkw,prch->krchw", across.view(2, K, W), down).reshape(2 * K * R, H * W)
    else:
        second = down.reshape(2, 2 * R, H)
    rows = down.permute(1, 2, 3, 0).reshape(2 * R, 2 * H)
    folded = nothing
    if spectrum.folds_rows:
        folded, cos, sin = _fold(H, R)
    return across, second, rows, folded, _on_complex(cos, sin).permute(1, 2, 0, 3).reshape(2 * R, -1)


def _on_complex(cos: Tensor, sin: Tensor) -> Tensor:
    """cos - i sin, (R, M), acting on a + ib: (2, R, 2, M), from (a, b) in front to (real, imaginary)."""
    return torch.stack((torch.stack((cos, -sin), dim=1), torch.stack((sin, cos), dim=1)))


def _fold(H: int, R: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cosines and sines of the row frequencies without their signs, (M, H), M = R or R + 1.

    Then which of them is the cosine and, with its sign, the sine of each of the R, (R, M) both. R is
    below H, so that only zero has no sine.
    """
    frequencies = torch.tensor(row_frequencies(R), device="cpu")
    cosines = frequencies.abs().unique()
    sines = cosines[1:]
    waves = _phases(cosines.tolist(), H).cos(), _phases(sines.tolist(), H).sin()
    cos, sin = ((frequencies.abs()[:, None] == one).double() for one in (cosines, sines))
    cos = torch.cat((cos, torch.zeros_like(sin)), dim=1)
    nothing = torch.zeros(R, len(cosines), dtype=torch.float64, device="cpu")
    sin = torch.cat((nothing, sin * frequencies.sign()[:, None]), dim=1)
    return torch.cat(waves) / math.sqrt(H), cos, sin


def _phases(frequencies: Iterable[int], length: int) -> Tensor:
    """2 pi f n / length, float64 (frequencies, length), reduced to one turn while still integers."""
    f = torch.tensor(list(frequencies), dtype=torch.int64, device="cpu")
    turns = torch.outer(f, torch.arange(length, device="cpu")) % length
    return (2 * math.pi / length) * turns.double()


def _multiplicity(W: int, K: int) -> Tensor:
    """How many of the W column frequencies each of the K stands for, float64 (K, 1)."""
    twice = torch.full((K, 1), 2.0, dtype=torch.float64, device="cpu")
    twice[0] = 1.0
    if W % 2 == 0 and K == W // 2 + 1:
        twice[-1] = 1.0
    return twice


def analyse(x: Tensor, spectrum: Spectrum, *matrices: Tensor) -> Tensor:
    """Real (B, C, H, W) to its lowest modes (K, R, 2, B, C); the matrices are from ``transforms``."""
    return _Analysis.apply(x, spectrum, is_channels_last(x), *matrices)


def synthesise(modes: Tensor, spectrum: Spectrum, *matrices: Tensor, channels_last: bool = False) -> Tensor:
    """Modes (K, R, 2, B, C) to the real (B, C, H, W) that they make up; the adjoint of ``analyse``."""
    return _Synthesis.apply(modes, spectrum, channels_last, *matrices)


class _Analysis(torch.autograd.Function):
    """Autograd's own backward of these products would transpose copies of whole activations."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor,
        spectrum: Spectrum,
        channels_last: bool,
        first: Tensor,
        second: Tensor,
        third: Tensor,
        fourth: Tensor,
        fifth: Tensor,
    ) -> Tensor:
        if spectrum.method == "fft":
            return _fft(x, spectrum, first)
        matrices = [matrix.to(x.dtype) for matrix in (first, second, third, fourth, fifth)]
        analysis, _ = PRODUCTS[spectrum.way(x.shape[1], channels_last)]
        return analysis(x, spectrum, matrices)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.spectrum = inputs[1]
        ctx.channels_last = inputs[2]
        ctx.save_for_backward(*inputs[3:])

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor | None, ...]:
        x = _Synthesis.apply(gradient[0], ctx.spectrum, ctx.channels_last, *ctx.saved_tensors)
        return x, *[None] * 7


class _Synthesis(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        modes: Tensor,
        spectrum: Spectrum,
        channels_last: bool,
        first: Tensor,
        second: Tensor,
        third: Tensor,
        fourth: Tensor,
        fifth: Tensor,
    ) -> Tensor:
        if spectrum.method == "fft":
            x = _inverse_fft(modes, spectrum, first)
            return to_channels_last(x) if channels_last else x
        matrices = [matrix.to(modes.dtype) for matrix in (first, second, third, fourth, fifth)]
        _, synthesis = PRODUCTS[spectrum.way(modes.shape[4], channels_last)]
        return synthesis(modes, spectrum, matrices)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.spectrum = inputs[1]
        ctx.channels_last = inputs[2]
        ctx.save_for_backward(*inputs[3:])

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor | None, ...]:
        modes = _Analysis.apply(gradient[0], ctx.spectrum, ctx.channels_last, *ctx.saved_tensors)
        return modes, *[None] * 7


def _fft(x: Tensor, spectrum: Spectrum, factors: Tensor) -> Tensor:
    """Columns, keep K, rows, keep R. Half precision is transformed in single: CPUs have no other FFT."""
    H, _, R, K = spectrum
    wide = x if x.dtype == torch.float64 else x.float()
    lines = torch.fft.rfft(wide, norm="ortho")[..., :K]
    modes = torch.view_as_real(_cut(torch.fft.fft(lines, dim=-2, norm="ortho"), H, R))
    return (modes.permute(3, 2, 4, 0, 1) * factors).to(x.dtype).contiguous()


def _inverse_fft(modes: Tensor, spectrum: Spectrum, factors: Tensor) -> Tensor:
    H, W, R, _ = spectrum
    wide = modes if modes.dtype == torch.float64 else modes.float()
    # irfft counts conjugates itself: of the factor 2, one square root is too many.
    wide = (wide / factors).permute(3, 4, 1, 0, 2).contiguous()
    lines = _fill(torch.view_as_complex(wide), H, R)
    lines = torch.fft.ifft(lines, dim=-2, norm="ortho")
    return torch.fft.irfft(lines, n=W, norm="ortho").to(modes.dtype)


def _cut(lines: Tensor, H: int, R: int) -> Tensor:
    """The R lowest of H frequencies along the last axis but one."""
    if R == H:
        return lines
    return torch.cat((lines[..., : (R + 1) // 2, :], lines[..., H - R // 2 :, :]), dim=-2)


def _fill(modes: Tensor, H: int, R: int) -> Tensor:
    """Zeros for the other H - R frequencies."""
    positive = (R + 1) // 2
    gap = modes.new_zeros(*modes.shape[:-2], H - R, modes.shape[-1])
    return torch.cat((modes[..., :positive, :], gap, modes[..., positive:, :]), dim=-2)
