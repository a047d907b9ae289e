"""Short spectral layers with the weights of ours: one on FFTs, one on products with the Fourier matrices.

Shapes: B batch, I input and O output channels, H rows, W columns, R row and K column frequencies kept.
Activations lie in memory as (B, H, W, channels).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ptychofno.models import SpectralConv2d, pack


def mixed(modes: Tensor, weight: Tensor) -> Tensor:
    """(K, R, 2, B, I) times complex matrices (K R, 2 I, O): (a + ib)(c + id) is [[a, -b], [b, a]] [[c], [d]]."""
    K, R, _, B, I = modes.shape
    real, imaginary = modes.unbind(2)
    rows = torch.stack((real, -imaginary, imaginary, real), 2).view(K * R, 2, 2, B, I)
    return torch.bmm(rows.transpose(2, 3).reshape(K * R, 2 * B, 2 * I), weight).view(K, R, 2, B, -1)


class Short(nn.Module):
    """What the two share: the weights, the stored ones among zeros."""

    def __init__(self, of: SpectralConv2d) -> None:
        super().__init__()
        self.weight, self.band = of.weight, of.band
        R, K = self.band.rows, self.band.columns
        stored = pack(torch.arange(1, 2 * K * R + 1).view(K, R, 2, 1, 1), self.band).flatten() - 1
        self.register_buffer("stored", stored, persistent=False)

    def complete(self, dtype: torch.dtype) -> Tensor:
        R, K, (_, I, O) = self.band.rows, self.band.columns, self.weight.shape
        if len(self.stored) == 2 * K * R:
            return self.weight.to(dtype).view(K * R, 2 * I, O)
        full = torch.zeros(2 * K * R, I, O, dtype=dtype, device=self.weight.device)
        return full.index_copy(0, self.stored, self.weight.to(dtype)).view(K * R, 2 * I, O)


class ShortFFT(Short):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            H, W, R, K = *x.shape[2:], self.band.rows, self.band.columns
            lines = torch.fft.rfft(x.permute(0, 2, 3, 1).float(), dim=2)[:, :, :K]
            modes = torch.view_as_real(torch.fft.fft(lines, dim=1))
            modes = torch.cat((modes[:, : (R + 1) // 2], modes[:, H - R // 2 :]), 1)
            found = mixed(modes.permute(2, 1, 4, 0, 3), self.complete(torch.float32)).permute(3, 1, 0, 4, 2)
            gap = found.new_zeros(len(found), H - R, *found.shape[2:])
            filled = torch.cat((found[:, : (R + 1) // 2], gap, found[:, (R + 1) // 2 :]), 1)
            lines = torch.fft.ifft(torch.view_as_complex(filled.contiguous()), dim=1)
            return torch.fft.irfft(lines, n=W, dim=2).to(x.dtype).contiguous().permute(0, 3, 1, 2)


class ShortFFT2(Short):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            H, W, R, K = *x.shape[2:], self.band.rows, self.band.columns
            p, n = (R + 1) // 2, H - R // 2
            modes = torch.view_as_real(torch.fft.rfft2(x.permute(0, 2, 3, 1).float(), dim=(1, 2))[:, :, :K])
            modes = torch.cat((modes[:, :p], modes[:, n:]), 1)
            found = mixed(modes.permute(2, 1, 4, 0, 3), self.complete(torch.float32)).permute(3, 1, 0, 4, 2)
            filled = found.new_zeros(len(found), H, W // 2 + 1, *found.shape[3:])
            filled[:, :p, :K], filled[:, n:, :K] = found[:, :p], found[:, p:]
            return (
                torch.fft.irfft2(torch.view_as_complex(filled), s=(H, W), dim=(1, 2))
                .to(x.dtype)
                .contiguous()
                .permute(0, 3, 1, 2)
            )


class ShortProducts(Short):
    def __init__(self, of: SpectralConv2d) -> None:
        super().__init__(of)
        (H, W), R, K = self.band.grid, self.band.rows, self.band.columns
        columns = torch.fft.rfft(torch.eye(W, dtype=torch.double), norm="ortho").T[:K]
        twice = torch.ones(K, 1, dtype=torch.double)
        twice[1 : (W + 1) // 2] = 2.0
        columns = columns * twice.sqrt()
        rows = torch.fft.fft(torch.eye(H, dtype=torch.double), norm="ortho")
        rows = torch.cat((rows[: (R + 1) // 2], rows[H - R // 2 :]))
        self.register_buffer("columns", torch.cat((columns.real, columns.imag)).float(), persistent=False)
        rows = torch.stack(
            (torch.stack((rows.real, -rows.imag), -1), torch.stack((rows.imag, rows.real), -1)), 1
        )
        self.register_buffer("rows", rows.reshape(2 * R, 2 * H).float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        device = x.device.type
        if torch.is_autocast_enabled(device):
            x = x.to(torch.get_autocast_dtype(device))
        with torch.autocast(device, enabled=False):
            B, I, H, W = x.shape
            R, K = self.band.rows, self.band.columns
            columns, rows = self.columns.to(x.dtype), self.rows.to(x.dtype)
            lines = each(columns, x.permute(0, 2, 3, 1).reshape(B * H, W, I))
            modes = each(rows, lines.view(B, 2 * H, K * I)).view(B, R, 2, K, I)
            found = mixed(modes.permute(3, 1, 2, 0, 4), self.complete(x.dtype)).permute(3, 1, 2, 0, 4)
            lines = each(rows.T, found.reshape(B, 2 * R, -1))
            out = each(columns.T, lines.view(B * H, 2 * K, -1))
            return out.view(B, H, W, -1).permute(0, 3, 1, 2)


def each(matrix: Tensor, batch: Tensor) -> Tensor:
    return torch.bmm(matrix.expand(len(batch), -1, -1), batch)
