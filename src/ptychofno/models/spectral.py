"""Band-limited spectral convolution in real arithmetic.

Shapes: B batch, I input channels, O output channels, H rows, W columns, R row frequencies and
K column frequencies kept. An axis of 2 is (real, imaginary).

Only a band of the spectrum is used, so the truncated transform is taken as one product along each axis, and
the channels are mixed mode by mode in one batched product. Weights and transforms are real tensors:
optimizers, clipping, half precision and compilers treat them as any other. experiments/bench compares
it with FFTs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from ptychofno.models.layout import is_channels_last


@dataclass(frozen=True)
class Band:
    """The R × K lowest frequencies, where known of an (H, W) ``grid``.

    Rows carry both signs, in the order of ``fftfreq``; columns are the half spectrum 0 … K - 1. A spectrum
    of the band has the axes (K, R, 2, …).
    """

    rows: int
    columns: int
    grid: tuple[int, int] | None = None

    def on(self, grid: tuple[int, int]) -> Band:
        """What an (H, W) grid holds of this band."""
        return Band(min(self.rows, grid[0]), min(self.columns, grid[1] // 2 + 1), grid)

    def stored(self) -> Tensor:
        """Which of the 2 K R parts of a mode's weights have an effect: their indices.

        A real grid has a real coefficient where a frequency is its own negative, zero and Nyquist: ``irfft2``
        ignores what the imaginary part of its weight would do.
        """
        H, W = self.grid or (0, 0)
        rows = [0, H // 2] if self.rows == H and H % 2 == 0 else [0]
        columns = [0, W // 2] if 2 * self.columns - 2 == W and W > 0 else [0]
        parts = torch.ones(self.columns, self.rows, 2, dtype=torch.bool)
        for column in columns:
            parts[column, rows, 1] = False
        return parts.flatten().nonzero().flatten()


def kept_modes(modes: int, size: int) -> Band:
    """The frequencies that a grid of ``size`` × ``size`` holds of ``modes`` per axis."""
    return Band(2 * modes, modes).on((size, size))


def pack(spectrum: Tensor, band: Band) -> Tensor:
    """Weights (K, R, 2, I, O) to the real planes (P, I, O) that a layer stores, mode by mode.

    A plane is the real or the imaginary part of one mode's weights, where that has an effect. The two signs
    of a row in column 0 act on the same pair of conjugate coefficients, yet each has an effect: the textbook
    layer learns both, and so does this one.
    """
    return spectrum.flatten(0, 2)[band.stored().to(spectrum.device)]


def unpack(planes: Tensor, band: Band) -> Tensor:
    """The inverse of ``pack``: (K, R, 2, I, O), zero where a part has no effect."""
    return _unpack(planes, band.stored().to(planes.device), band)


def _unpack(planes: Tensor, stored: Tensor, band: Band) -> Tensor:
    parts = planes.new_zeros(2 * band.columns * band.rows, *planes.shape[1:])
    return parts.index_copy(0, stored, planes).view(band.columns, band.rows, 2, *planes.shape[1:])


class SpectralConv2d(nn.Module):
    """Multiply the lowest Fourier modes by a complex matrix over channels (Li et al. 2021, eq. 5).

    Equal to rfft2, a product with the weights on both corners of positive and negative row
    frequencies, zeros elsewhere, and irfft2.

    Args:
        in_channels, out_channels: I and O.
        modes: modes per axis (then R = 2 modes, K = modes), or (R, K), for any grid; or the ``Band``
            of a given grid, which then holds no weight without effect and serves that grid only.
            More modes see finer structure and cost weights in proportion to R K. A grid that holds
            fewer uses those it has.

    ``weight`` is real (planes, I, O), see ``pack``. Its output channel is the last axis, as
    ``output_axes`` says for unit-wise gradient clipping.
    """

    output_axes = {"weight": 2}
    stored: Tensor

    def __init__(self, in_channels: int, out_channels: int, modes: int | tuple[int, int] | Band) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        if isinstance(modes, int):
            modes = (2 * modes, modes)
        self.band = modes if isinstance(modes, Band) else Band(*modes)
        # E|w|^2 = 1 / I keeps the power of each mode.
        scale = 1.0 / math.sqrt(2 * in_channels)
        drawn = scale * torch.randn(self.band.columns, self.band.rows, in_channels, 2, out_channels)
        self.weight = nn.Parameter(pack(drawn.transpose(2, 3), self.band))
        self.register_buffer("stored", self.band.stored(), persistent=False)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, {self.band}"

    def forward(self, x: Tensor) -> Tensor:
        """Real (B, I, H, W) to real (B, O, H, W), in the precision of autocast where that is on.

        It works in channels_last (``models.layout``), and returns the layout that it is given.

        Raises:
            ValueError: the layer is for the band of another grid.
        """
        device = x.device.type
        if torch.is_autocast_enabled(device):
            x = x.to(torch.get_autocast_dtype(device))
        with torch.autocast(device, enabled=False):
            out = self._convolve(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            return out if is_channels_last(x) else out.contiguous()

    def _convolve(self, x: Tensor) -> Tensor:
        """(B, H, W, I) to (B, H, W, O)."""
        B, H, W, I = x.shape
        if self.band.grid not in (None, (H, W)):
            raise ValueError(f"input has {H} × {W} pixels, this layer is for the {self.band}")
        band = self.band.on((H, W))
        R, K = band.rows, band.columns
        across, down = shared_matrices(H, W, R, K, x.dtype, x.device)
        lines = _each(across, x.reshape(B * H, W, I))
        modes = _each(down, lines.view(B, 2 * H, K * I)).view(B, R, 2, K, I)
        mixed = mix(modes.permute(3, 1, 2, 0, 4), self._weight_on(band).to(x.dtype))
        lines = _each(down.T, mixed.permute(3, 1, 2, 0, 4).reshape(B, 2 * R, -1))
        return _each(across.T, lines.view(B * H, 2 * K, -1)).view(B, H, W, -1)

    def _weight_on(self, band: Band) -> Tensor:
        """The weights (K, R, 2, I, O) of all modes of a band as wide as the layer's, or narrower."""
        spectrum = _unpack(self.weight, self.stored, self.band)[: band.columns]
        if band.rows == self.band.rows:
            return spectrum
        positive, negative = (band.rows + 1) // 2, band.rows // 2
        return torch.cat((spectrum[:, :positive], spectrum[:, self.band.rows - negative :]), dim=1)


def mix(modes: Tensor, weight: Tensor) -> Tensor:
    """Each mode (B, I) times its complex matrix (I, O): (K, R, 2, B, I) to (K, R, 2, B, O).

    (a + ib)(c + id) as the real product [[a, -b], [b, a]] [[c], [d]], which reads the weights where they lie.
    """
    K, R, _, B, I = modes.shape
    real, imaginary = modes.unbind(2)
    doubled = torch.stack((real, -imaginary, imaginary, real), dim=3).view(K, R, B, 2, 2, I).transpose(2, 3)
    product = torch.bmm(doubled.reshape(K * R, 2 * B, 2 * I), weight.reshape(K * R, 2 * I, -1))
    return product.view(K, R, 2, B, -1)


def _each(matrix: Tensor, batch: Tensor) -> Tensor:
    """One matrix times each of a batch."""
    return torch.bmm(matrix.expand(batch.shape[0], -1, -1), batch)  # len() would fix an export to one size


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # a matrix first needed in evaluation must serve training, too
def fourier_matrices(
    H: int, W: int, R: int, K: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The matrices of an orthonormal analysis: ``rfft2`` cut to the band; their transposes are ``irfft2``.

    Column frequencies that stand for their conjugates, too, carry the factor sqrt(2): that makes the
    synthesis the adjoint of the analysis.

    Returns:
        across (2 K, W), columns, all real parts before all imaginary ones;
        down (2 R, 2 H), rows of complex numbers, real part by imaginary part.
    """
    columns = torch.fft.rfft(torch.eye(W, dtype=torch.float64, device="cpu"), norm="ortho").T[:K]
    frequency = torch.arange(K, device="cpu")[:, None]
    columns = torch.where((frequency == 0) | (2 * frequency == W), columns, math.sqrt(2) * columns)
    across = torch.cat((columns.real, columns.imag))
    rows = torch.fft.fft(torch.eye(H, dtype=torch.float64, device="cpu"), norm="ortho")
    rows = torch.cat((rows[: (R + 1) // 2], rows[H - R // 2 :]))
    down = torch.view_as_real(torch.stack((rows, 1j * rows), dim=2)).permute(0, 3, 1, 2)
    return across.to(device, dtype), down.reshape(2 * R, 2 * H).to(device, dtype)


def shared_matrices(*key: Any) -> tuple[Tensor, Tensor]:
    """``fourier_matrices``, under a name that can be marked for compilers."""
    return fourier_matrices(*key)
