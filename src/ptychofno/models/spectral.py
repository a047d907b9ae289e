"""Band-limited spectral convolution in real arithmetic.

Shapes: B batch, I input channels, O output channels, H rows, W columns, R row frequencies and
K column frequencies kept. A trailing or leading axis of 2 is (real, imaginary).

Only a band of the spectrum is used, so instead of a full FFT, zero filling and a complex einsum
the truncated transform is taken as matrix products along each axis, and the channels are mixed
mode by mode as one batched matrix product. Weights and transforms are real tensors: optimizers,
clipping, half precision and compilers treat them as any other.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn


def kept_modes(modes: int, size: int) -> tuple[int, int]:
    """(R, K): row and column frequencies that a grid of ``size`` holds of ``modes`` per axis.

    Rows carry both signs, -modes … modes - 1; columns are the half spectrum 0 … modes - 1.
    """
    return min(2 * modes, size), min(modes, size // 2 + 1)


class SpectralConv2d(nn.Module):
    """Multiply the lowest Fourier modes by a complex matrix over channels (Li et al. 2021, eq. 5).

    Equal to rfft2, a product with the weights on both corners of positive and negative row
    frequencies, zeros elsewhere, and irfft2.

    Args:
        in_channels, out_channels: I and O.
        modes: modes per axis (then R = 2 modes, K = modes), or (R, K) itself. More modes see
            finer structure and cost weights in proportion to R K. A grid that holds fewer
            uses those it has.

    ``weight`` is real (K R, I, 2, O); rows are in the order of ``fftfreq``. Its output channel is the
    last axis, as ``output_axes`` says for unit-wise gradient clipping.
    """

    output_axes = {"weight": 3}

    def __init__(self, in_channels: int, out_channels: int, modes: int | tuple[int, int]) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.rows, self.columns = (2 * modes, modes) if isinstance(modes, int) else modes
        # E|w|^2 = 1 / I keeps the power of each mode.
        scale = 1.0 / math.sqrt(2 * in_channels)
        self.weight = nn.Parameter(
            scale * torch.randn(self.columns * self.rows, in_channels, 2, out_channels)
        )

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, rows={self.rows}, columns={self.columns}"

    def forward(self, x: Tensor) -> Tensor:
        """Real (B, I, H, W) to real (B, O, H, W)."""
        B, I, H, W = x.shape
        R, K = min(self.rows, H), min(self.columns, W // 2 + 1)
        across, down, up, back = transforms(H, W, R, K, x.dtype, x.device)

        z = (x.reshape(B * I * H, W) @ across).view(B, I, H, K, 2)
        z = z.permute(0, 1, 3, 4, 2).reshape(B * I * K, 2 * H) @ down
        z = z.view(B, I, K, R, 2).permute(2, 3, 4, 0, 1).reshape(K * R, 2 * B, I)

        weight = self._weight_of(R, K).reshape(K * R, I, 2 * self.out_channels)
        z = torch.bmm(z, weight.to(z.dtype)).view(K * R, 2, B, 2, self.out_channels)
        real = z[:, 0, :, 0] - z[:, 1, :, 1]
        imaginary = z[:, 0, :, 1] + z[:, 1, :, 0]

        z = torch.stack((real, imaginary), dim=1).view(K, R, 2, B, self.out_channels)
        z = z.permute(3, 4, 0, 1, 2).reshape(B * self.out_channels * K, R * 2) @ up
        z = z.view(B, self.out_channels, K, 2, H).permute(0, 1, 4, 2, 3)
        return (z.reshape(-1, K * 2) @ back).view(B, self.out_channels, H, W)

    def _weight_of(self, R: int, K: int) -> Tensor:
        """The weights of the R × K frequencies that the grid holds."""
        if (self.rows, self.columns) == (R, K):
            return self.weight
        weight = self.weight.view(self.columns, self.rows, self.in_channels, 2, self.out_channels)[:K]
        if self.rows > R:
            positive = (R + 1) // 2
            weight = torch.cat((weight[:, :positive], weight[:, self.rows - R // 2 :]), dim=1)
        return weight


def row_frequencies(R: int) -> list[int]:
    """Signed frequencies in the order of ``fftfreq``: 0 … , then the negative ones."""
    return [*range((R + 1) // 2), *range(-(R // 2), 0)]


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # a matrix first needed in evaluation must serve training, too
def transforms(
    H: int, W: int, R: int, K: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The truncated orthonormal transforms of an H × W grid as four real matrices.

    Returns:
        across (W, 2 K): analysis of the columns; down (2 H, 2 R): complex analysis of the rows;
        up (2 R, 2 H): complex synthesis of the rows; back (2 K, W): real synthesis of the columns,
        in which every column frequency but zero and Nyquist stands for its conjugate too.
    """
    column = 2 * math.pi / W * torch.outer(_steps(W), torch.arange(K, dtype=torch.float64))
    across = torch.stack((column.cos(), -column.sin()), dim=-1).reshape(W, 2 * K) / math.sqrt(W)
    twice = torch.full((K,), 2.0, dtype=torch.float64)
    twice[0] = 1.0
    if W % 2 == 0 and K == W // 2 + 1:
        twice[-1] = 1.0
    back = (torch.stack((column.cos() * twice, -column.sin() * twice), dim=-1) / math.sqrt(W)).reshape(
        W, 2 * K
    )

    row = 2 * math.pi / H * torch.outer(_steps(H), torch.tensor(row_frequencies(R), dtype=torch.float64))
    cos, sin = row.cos() / math.sqrt(H), row.sin() / math.sqrt(H)
    # (a + ib)(cos - i sin): the real part takes a cos + b sin, the imaginary part b cos - a sin.
    from_real = torch.stack((cos, -sin), dim=-1)
    from_imaginary = torch.stack((sin, cos), dim=-1)
    down = torch.stack((from_real, from_imaginary)).reshape(2 * H, 2 * R)
    up = down.T  # orthonormal: synthesis is the adjoint
    return tuple(matrix.contiguous().to(device, dtype) for matrix in (across, down, up, back.T))  # type: ignore[return-value]


def _steps(length: int) -> Tensor:
    return torch.arange(length, dtype=torch.float64)
