"""The truncated real Fourier transform of a grid and its adjoint.

Shapes: B batch, C channels, H rows, W columns, R row frequencies, K column frequencies.

Sizes alone decide how a transform is taken (measured in experiments/bench):

- small grids: one matrix product over the whole grid;
- few modes: a matrix product per axis. Each moves the axis that it transforms to the front, so
  that both read their input where it lies and the last one leaves the modes first, as the
  mixing of channels wants them;
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

# Where the measured times cross: experiments/bench, section "crossover".
WHOLE_GRID_UP_TO_PIXELS = 100
FFT_ABOVE_PIXELS = 64 * 64
FFT_ABOVE_PRODUCTS_PER_PIXEL = 50


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
        """How it is taken, from its sizes alone, so that a run repeats on any machine."""
        pixels = self.H * self.W
        if pixels <= WHOLE_GRID_UP_TO_PIXELS:
            return "whole"
        if pixels > FFT_ABOVE_PIXELS and self.products_per_pixel > FFT_ABOVE_PRODUCTS_PER_PIXEL:
            return "fft"
        return "axes"


def row_frequencies(R: int) -> list[int]:
    """Signed frequencies in the order of ``fftfreq``: 0 … , then the negative ones."""
    return [*range((R + 1) // 2), *range(-(R // 2), 0)]


@torch.compiler.assume_constant_result
def transforms(
    H: int, W: int, R: int, K: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """``matrices_of`` a spectrum, shared by all who ask for the same."""
    return _shared(Spectrum(H, W, R, K), dtype, device)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # a matrix first needed in evaluation must serve training, too
def _shared(spectrum: Spectrum, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    first, second = matrices_of(spectrum)
    return first.to(device, dtype), second.to(device, dtype)


def matrices_of(spectrum: Spectrum) -> tuple[Tensor, Tensor]:
    """The real float64 matrices of an orthonormal analysis.

    Returns:
        whole: a matrix (2 K R, H W), and an empty one, as torch.compile wants a fixed number;
        axes: across (2 K, W), columns, all real parts before all imaginary ones, and down (2, 2 R, H),
        rows, from a real and from an imaginary input to (real, imaginary);
        fft: the factors (K, 1, 1, 1, 1) of the column frequencies, and an empty one.
    """
    H, W, R, K = spectrum
    factors = _multiplicity(W, K).sqrt()
    nothing = torch.empty(0, dtype=torch.float64, device="cpu")
    if spectrum.method == "fft":
        return factors.view(K, 1, 1, 1, 1), nothing
    phase = _phases(range(K), W)
    across = torch.cat((phase.cos(), -phase.sin())) * factors.repeat(2, 1) / math.sqrt(W)
    phase = _phases(row_frequencies(R), H)
    cos, sin = phase.cos() / math.sqrt(H), phase.sin() / math.sqrt(H)
    # (a + ib)(cos - i sin): a gives (cos, -sin), b gives (sin, cos).
    down = torch.stack((torch.stack((cos, -sin), dim=1), torch.stack((sin, cos), dim=1)))
    if spectrum.method == "whole":
        whole = torch.einsum("pkw,prch->krchw", across.view(2, K, W), down)
        return whole.reshape(2 * K * R, H * W), nothing
    return across, down.reshape(2, 2 * R, H)


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


def analyse(x: Tensor, spectrum: Spectrum, first: Tensor, second: Tensor) -> Tensor:
    """Real (B, C, H, W) to its lowest modes (K, R, 2, B, C); the matrices are from ``transforms``."""
    return _Analysis.apply(x, spectrum, first, second)


def synthesise(modes: Tensor, spectrum: Spectrum, first: Tensor, second: Tensor) -> Tensor:
    """Modes (K, R, 2, B, C) to the real (B, C, H, W) that they make up; the adjoint of ``analyse``."""
    return _Synthesis.apply(modes, spectrum, first, second)


class _Analysis(torch.autograd.Function):
    """Autograd's own backward of these products would transpose copies of whole activations."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, spectrum: Spectrum, first: Tensor, second: Tensor) -> Tensor:
        (B, C), (H, W, R, K) = x.shape[:2], spectrum
        if spectrum.method == "fft":
            return _fft(x, spectrum, first)
        if spectrum.method == "whole":
            return (first.to(x.dtype) @ x.reshape(B * C, H * W).T).view(K, R, 2, B, C)
        across, down = first.to(x.dtype), second.to(x.dtype)
        lines = (across @ x.reshape(B * C * H, W).T).view(2, K, B * C, H).transpose(2, 3)
        modes = torch.bmm(down[0].expand(K, 2 * R, H), lines[0])
        modes = torch.baddbmm(modes, down[1].expand(K, 2 * R, H), lines[1])
        return modes.view(K, R, 2, B, C)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.spectrum = inputs[1]
        ctx.save_for_backward(*inputs[2:])

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor | None, ...]:
        return synthesise(gradient[0], ctx.spectrum, *ctx.saved_tensors), None, None, None


class _Synthesis(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(modes: Tensor, spectrum: Spectrum, first: Tensor, second: Tensor) -> Tensor:
        (B, C), (H, W, R, K) = modes.shape[3:], spectrum
        if spectrum.method == "fft":
            return _inverse_fft(modes, spectrum, first)
        if spectrum.method == "whole":
            return (modes.reshape(K * R * 2, B * C).T @ first.to(modes.dtype)).view(B, C, H, W)
        across, down = first.to(modes.dtype), second.to(modes.dtype)
        modes = modes.reshape(K, 2 * R, B * C).transpose(1, 2)
        lines = modes.new_empty(2, K, B * C, H)
        for part, matrix in zip(lines, down, strict=True):
            part.baddbmm_(modes, matrix.expand(K, 2 * R, H), beta=0)
        return (lines.view(2 * K, B * C * H).T @ across).view(B, C, H, W)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.spectrum = inputs[1]
        ctx.save_for_backward(*inputs[2:])

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor | None, ...]:
        return analyse(gradient[0], ctx.spectrum, *ctx.saved_tensors), None, None, None


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
