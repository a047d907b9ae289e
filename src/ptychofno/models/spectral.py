"""Band-limited spectral convolution in real arithmetic.

Shapes: B batch, I input channels, O output channels, H rows, W columns, R row frequencies and
K column frequencies kept. An axis of 2 is (real, imaginary).

Only a band of the spectrum is used, so instead of a full FFT, zero filling and a complex einsum
the truncated transform is taken as matrix products along each axis, and the channels are mixed
mode by mode as one batched matrix product. Weights and transforms are real tensors: optimizers,
clipping, half precision and compilers treat them as any other. experiments/bench measures it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ptychofno.models.layout import is_channels_last
from ptychofno.models.transforms import Matrices, Spectrum, analyse, synthesise, transforms


class Run(NamedTuple):
    """Coefficients that follow each other, and the real planes of their weights."""

    modes: slice
    planes: slice
    real: bool


@dataclass(frozen=True)
class Band:
    """The R × K lowest frequencies, where known of an (H, W) ``grid``.

    Rows carry both signs, -(R // 2) … (R - 1) // 2; columns are the half spectrum 0 … K - 1.
    A spectrum of the band has the axes (K, R, 2, …), rows in the order of ``fftfreq``.
    """

    rows: int
    columns: int
    grid: tuple[int, int] | None = None

    def on(self, grid: tuple[int, int]) -> Band:
        """What an (H, W) grid holds of this band."""
        return Band(min(self.rows, grid[0]), min(self.columns, grid[1] // 2 + 1), grid)

    def spectrum(self) -> Spectrum:
        assert self.grid is not None
        return Spectrum(*self.grid, self.rows, self.columns)

    def runs(self) -> list[Run]:
        """The K R coefficients as runs that are real, or complex.

        A real grid has a real coefficient where a frequency is its own negative: zero and Nyquist.
        """
        H, W = self.grid or (0, 0)
        rows = [0, H // 2] if self.rows == H and H % 2 == 0 else [0]
        columns = [0, W // 2] if 2 * self.columns - 2 == W and W > 0 else [0]
        runs: list[Run] = []
        mode = plane = 0
        for real in (column * self.rows + row for column in columns for row in rows):
            runs.append(Run(slice(mode, real), slice(plane, plane + 2 * (real - mode)), False))
            plane = runs[-1].planes.stop + 1
            mode = real + 1
            runs.append(Run(slice(real, mode), slice(plane - 1, plane), True))
        end = self.columns * self.rows
        runs.append(Run(slice(mode, end), slice(plane, plane + 2 * (end - mode)), False))
        return [run for run in runs if run.modes.start < run.modes.stop]


def kept_modes(modes: int, size: int) -> Band:
    """The frequencies that a grid of ``size`` × ``size`` holds of ``modes`` per axis."""
    return Band(2 * modes, modes).on((size, size))


def pack(spectrum: Tensor, band: Band) -> Tensor:
    """Weights (K, R, 2, I, O) to the real planes (P, I, O) that a layer stores, mode by mode.

    A plane is the real or the imaginary part of one mode's weights. Real coefficients have one only:
    ``irfft2`` ignores what the other would do. The two signs of a row in column 0 act on the same pair of
    conjugate coefficients, yet each has an effect: the textbook layer learns both, and so does this one.
    """
    modes = spectrum.flatten(0, 1)
    return torch.cat(
        [modes[run.modes, 0] if run.real else modes[run.modes].flatten(0, 1) for run in band.runs()]
    )


def unpack(planes: Tensor, band: Band) -> Tensor:
    """The inverse of ``pack``: (K, R, 2, I, O), zero where a part has no effect."""
    modes = []
    for run in band.runs():
        part = planes[run.planes]
        modes.append(
            torch.stack((part, torch.zeros_like(part)), dim=1) if run.real else part.unflatten(0, (-1, 2))
        )
    return torch.cat(modes).unflatten(0, (band.columns, band.rows))


def mix(modes: Tensor, planes: Tensor, band: Band) -> Tensor:
    """Each mode (B, I) times its complex matrix (I, O): (K, R, 2, B, I) to (K, R, 2, B, O)."""
    return _Mixing.apply(modes, planes, band)


class _Mixing(torch.autograd.Function):
    """(a + ib)(c + id) as the real product [[a, -b], [b, a]] [[c], [d]], one for a run of modes.

    The weights are read, and their gradient is written, where they lie; only the modes, small beside
    them, are copied. Autograd's own backward would copy the gradient of the weights once more.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(modes: Tensor, planes: Tensor, band: Band) -> Tensor:
        K, R, _, B, I = modes.shape
        O = planes.shape[2]
        doubled = _doubled(modes)
        mixed = modes.new_empty(K * R, 2 * B, O)
        for run in band.runs():
            inputs, weights, outputs = doubled[run.modes], planes[run.planes], mixed[run.modes]
            if run.real:
                _product_(outputs[:, :B], inputs[:, :B, :I], weights)
                outputs[:, B:] = 0
            else:
                _product_(outputs, inputs, weights.view(-1, 2 * I, O))
        return mixed.view(K, R, 2, B, O)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Band], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.band = inputs[2]

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        modes, planes = ctx.saved_tensors
        above = gradient[0].contiguous()
        for_modes = _for_modes(above, planes, ctx.band) if ctx.needs_input_grad[0] else None
        for_planes = _for_planes(above, modes, ctx.band) if ctx.needs_input_grad[1] else None
        return for_modes, for_planes, None


def _for_modes(gradient: Tensor, planes: Tensor, band: Band) -> Tensor:
    """The gradient of ``mix`` in its modes."""
    K, R, _, B, O = gradient.shape
    I = planes.shape[1]
    gradient = gradient.view(K * R, 2 * B, O)
    quarters = gradient.new_empty(K * R, 2 * B, 2 * I)  # the gradient of the doubled modes
    for run in band.runs():
        above, weights, below = gradient[run.modes], planes[run.planes], quarters[run.modes]
        if run.real:
            below.zero_()
            _product_(below[:, :B, :I], above[:, :B], weights.transpose(1, 2))
        else:
            _product_(below, above, weights.view(-1, 2 * I, O).transpose(1, 2))
    quarters = quarters.view(K, R, 2, B, 2, I)
    quarters[:, :, 0, :, 0] += quarters[:, :, 1, :, 1]
    quarters[:, :, 1, :, 0] -= quarters[:, :, 0, :, 1]
    return quarters[:, :, :, :, 0]


def _for_planes(gradient: Tensor, modes: Tensor, band: Band) -> Tensor:
    """The gradient of ``mix`` in its weights."""
    K, R, _, B, I = modes.shape
    O = gradient.shape[4]
    gradient, doubled = gradient.view(K * R, 2 * B, O), _doubled(modes)
    out = gradient.new_empty(band.runs()[-1].planes.stop, I, O)
    for run in band.runs():
        above, inputs, weights = gradient[run.modes], doubled[run.modes], out[run.planes]
        if run.real:
            _product_(weights, inputs[:, :B, :I].transpose(1, 2), above[:, :B])
        else:
            _product_(weights.view(-1, 2 * I, O), inputs.transpose(1, 2), above)
    return out


def _product_(out: Tensor, left: Tensor, right: Tensor) -> None:
    """The batched product, written where it belongs."""
    out.baddbmm_(left, right, beta=0)


def _doubled(modes: Tensor) -> Tensor:
    """Complex (K, R, 2, B, I), however it lies, to the real matrices [[a, -b], [b, a]], (K R, 2 B, 2 I)."""
    K, R, _, B, I = modes.shape
    doubled = modes.new_empty(K, R, 2, B, 2, I)
    doubled[:, :, :, :, 0] = modes
    doubled[:, :, 0, :, 1] = -modes[:, :, 1]
    doubled[:, :, 1, :, 1] = modes[:, :, 0]
    return doubled.view(K * R, 2 * B, 2 * I)


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
    transform_0: Tensor
    transform_1: Tensor
    transform_2: Tensor
    transform_3: Tensor
    transform_4: Tensor

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
        if self.band.grid is not None:
            self._hold_transforms()

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, {self.band}"

    def forward(self, x: Tensor) -> Tensor:
        """Real (B, I, H, W) to real (B, O, H, W), in the precision of autocast where that is on.

        Either layout of memory (``models.layout``) is read and written without conversion.

        Raises:
            ValueError: the layer is for the band of another grid.
        """
        device = x.device.type
        if torch.is_autocast_enabled(device):
            x = x.to(torch.get_autocast_dtype(device))
        with torch.autocast(device, enabled=False):
            return self._convolve(x)

    def _convolve(self, x: Tensor) -> Tensor:
        grid = (int(x.shape[2]), int(x.shape[3]))
        if self.band.grid is None:
            band = self.band.on(grid)
            matrices = transforms(*band.spectrum(), x.dtype, x.device)
            mixed = replace(band, grid=None)
        elif grid == self.band.grid:
            band = mixed = self.band
            matrices = self._transforms
        else:
            raise ValueError(f"input has {grid[0]} × {grid[1]} pixels, this layer is for the {self.band}")
        weight = self.weight if mixed == self.band else self._weight_of(mixed)
        modes = mix(analyse(x, band.spectrum(), *matrices), weight.to(x.dtype), mixed)
        return synthesise(modes, band.spectrum(), *matrices, channels_last=is_channels_last(x))

    def _weight_of(self, band: Band) -> Tensor:
        """The weights of a narrower band."""
        spectrum = unpack(self.weight, self.band)[: band.columns]
        if band.rows < self.band.rows:
            positive, negative = (band.rows + 1) // 2, band.rows // 2
            spectrum = torch.cat((spectrum[:, :positive], spectrum[:, self.band.rows - negative :]), dim=1)
        return pack(spectrum, band)

    def _hold_transforms(self) -> None:
        """Buffers follow the device, and are not part of a checkpoint."""
        matrices = transforms(*self.band.spectrum(), self.weight.dtype, self.weight.device)
        for index, matrix in enumerate(matrices):
            self.register_buffer(f"transform_{index}", matrix, persistent=False)

    @property
    def _transforms(self) -> Matrices:
        return self.transform_0, self.transform_1, self.transform_2, self.transform_3, self.transform_4

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SpectralConv2d:
        """Take matrices of the new dtype and device instead of converting rounded ones."""
        super()._apply(fn, recurse)
        if self.band.grid is not None:
            self._hold_transforms()
        return self
