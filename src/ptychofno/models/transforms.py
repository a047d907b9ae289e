"""The truncated real Fourier transform of a grid and its adjoint, as matrix products.

Shapes: B batch, C channels, H rows, W columns, R row frequencies, K column frequencies.

Each product moves the axis that it transforms to the front, so that both read their input where it
lies and the last one leaves the modes first, as the mixing of channels wants them. The column
frequencies that stand for their conjugates too carry the factor sqrt(2): that makes the synthesis
(``irfft2``) the adjoint of the analysis (``rfft2``), and each the gradient of the other.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


def row_frequencies(R: int) -> list[int]:
    """Signed frequencies in the order of ``fftfreq``: 0 … , then the negative ones."""
    return [*range((R + 1) // 2), *range(-(R // 2), 0)]


@torch.compiler.assume_constant_result
def transforms(
    grid: tuple[int, int], R: int, K: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The analysis of an H × W grid as two real matrices, shared by all who ask for the same.

    Returns:
        across (2 K, W): columns, all real parts before all imaginary ones;
        down (2, 2 R, H): rows, from a real and from an imaginary input to (real, imaginary).
    """
    return _transforms(grid, R, K, dtype, device)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # a matrix first needed in evaluation must serve training, too
def _transforms(
    grid: tuple[int, int], R: int, K: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    H, W = grid
    twice = torch.full((K, 1), 2.0, dtype=torch.float64, device="cpu")
    twice[0] = 1.0
    if W % 2 == 0 and K == W // 2 + 1:
        twice[-1] = 1.0
    phase = _phases(range(K), W)
    across = torch.cat((phase.cos(), -phase.sin())) * (twice / W).sqrt().repeat(2, 1)

    phase = _phases(row_frequencies(R), H)
    cos, sin = phase.cos() / math.sqrt(H), phase.sin() / math.sqrt(H)
    # (a + ib)(cos - i sin): a gives (cos, -sin), b gives (sin, cos).
    down = torch.stack((torch.stack((cos, -sin), dim=1), torch.stack((sin, cos), dim=1)))
    return across.to(device, dtype), down.reshape(2, 2 * R, H).to(device, dtype)


def _phases(frequencies: Any, length: int) -> Tensor:
    """2 pi f n / length, exact in its integers: (frequencies, length)."""
    f = torch.tensor(list(frequencies), dtype=torch.int64, device="cpu")
    return (2 * math.pi / length) * (torch.outer(f, torch.arange(length, device="cpu")) % length).double()


def analyse(x: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Real (B, C, H, W) to its lowest modes (K, R, 2, B, C)."""
    return _Analysis.apply(x, across, down)


def synthesise(modes: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Modes (K, R, 2, B, C) to the real (B, C, H, W) that they make up; the adjoint of ``analyse``."""
    return _Synthesis.apply(modes, across, down)


class _Analysis(torch.autograd.Function):
    """Autograd's own backward of these products would transpose copies of whole activations."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, across: Tensor, down: Tensor) -> Tensor:
        B, C, H, W = x.shape
        K, R = len(across) // 2, down.shape[1] // 2
        across, down = across.to(x.dtype), down.to(x.dtype)
        lines = (across @ x.reshape(B * C * H, W).T).view(2, K, B * C, H).transpose(2, 3)
        modes = torch.bmm(down[0].expand(K, 2 * R, H), lines[0])
        modes = torch.baddbmm(modes, down[1].expand(K, 2 * R, H), lines[1])
        return modes.view(K, R, 2, B, C)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, None, None]:
        return synthesise(gradient[0], *ctx.saved_tensors), None, None


class _Synthesis(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(modes: Tensor, across: Tensor, down: Tensor) -> Tensor:
        K, R, _, B, C = modes.shape
        H, W = down.shape[2], across.shape[1]
        across, down = across.to(modes.dtype), down.to(modes.dtype)
        modes = modes.reshape(K, 2 * R, B * C).transpose(1, 2)
        lines = modes.new_empty(2, K, B * C, H)
        for part, matrix in zip(lines, down, strict=True):
            part.baddbmm_(modes, matrix.expand(K, 2 * R, H), beta=0)
        return (lines.view(2 * K, B * C * H).T @ across).view(B, C, H, W)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, None, None]:
        return analyse(gradient[0], *ctx.saved_tensors), None, None
