"""The matrix products of the transforms, for each layout of activations in memory.

Shapes: B batch, C channels, H rows, W columns, R row frequencies, K column frequencies; the matrices are
those of ``transforms.matrices_of``. An analysis takes real (B, C, H, W) to modes (K, R, 2, B, C), modes
first as the mixing of channels wants them; a synthesis is its adjoint.

Contiguous activations: each product moves the axis that it transforms to the front, so that both of them
read their input where it lies, and the last one leaves the modes first.

Activations in channels_last lie in memory as (B, H, W, C), where a product runs sample by sample, with
W C numbers beside each other. Rows come first there, and stay real: what a real input has at +f and at
-f are the same cosines and sines. The columns make them complex, and the two signs are told apart at the
end, where little is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# (numbers, (H, W, R, K), matrices) to numbers.
Product = Callable[[Tensor, tuple[int, int, int, int], Sequence[Tensor]], Tensor]


def _whole(x: Tensor, spectrum: tuple[int, int, int, int], matrices: Sequence[Tensor]) -> Tensor:
    (B, C), (H, W, R, K) = x.shape[:2], spectrum
    return (matrices[0] @ x.reshape(B * C, H * W).T).view(K, R, 2, B, C)


def _whole_back(modes: Tensor, spectrum: tuple[int, int, int, int], matrices: Sequence[Tensor]) -> Tensor:
    (B, C), (H, W, R, K) = modes.shape[3:], spectrum
    return (modes.reshape(K * R * 2, B * C).T @ matrices[0]).view(B, C, H, W)


def _axes(x: Tensor, spectrum: tuple[int, int, int, int], matrices: Sequence[Tensor]) -> Tensor:
    (B, C), (H, W, R, K) = x.shape[:2], spectrum
    across, down, *_ = matrices
    lines = (across @ x.reshape(B * C * H, W).T).view(2, K, B * C, H).transpose(2, 3)
    modes = torch.bmm(down[0].expand(K, 2 * R, H), lines[0])
    modes = torch.baddbmm(modes, down[1].expand(K, 2 * R, H), lines[1])
    return modes.view(K, R, 2, B, C)


def _axes_back(modes: Tensor, spectrum: tuple[int, int, int, int], matrices: Sequence[Tensor]) -> Tensor:
    (B, C), (H, W, R, K) = modes.shape[3:], spectrum
    across, down, *_ = matrices
    modes = modes.reshape(K, 2 * R, B * C).transpose(1, 2)
    lines = modes.new_empty(2, K, B * C, H)
    for part, matrix in zip(lines, down, strict=True):
        part.baddbmm_(modes, matrix.expand(K, 2 * R, H), beta=0)
    return (lines.view(2 * K, B * C * H).T @ across).view(B, C, H, W)


def _whole_last(x: Tensor, spectrum: tuple[int, int, int, int], matrices: Sequence[Tensor]) -> Tensor:
    (B, C), (H, W, R, K) = x.shape[:2], spectrum
    modes = _each(matrices[0], x.permute(0, 2, 3, 1).reshape(B, H * W, C))
    return modes.transpose(0, 1).contiguous().view(K, R, 2, B, C)


def _whole_last_back(
    modes: Tensor, spectrum: tuple[int, int, int, int], matrices: Sequence[Tensor]
) -> Tensor:
    (B, C), (H, W, R, K) = modes.shape[3:], spectrum
    pixels = _each(matrices[0].T, modes.reshape(K * R * 2, B, C).transpose(0, 1))
    return pixels.view(B, H, W, C).permute(0, 3, 1, 2)


def _axes_last(x: Tensor, spectrum: tuple[int, int, int, int], matrices: Sequence[Tensor]) -> Tensor:
    (B, C), (H, W, R, K) = x.shape[:2], spectrum
    across, _, folded, signs = matrices
    M = signs.shape[1] // 2
    rows = x.permute(0, 2, 3, 1).reshape(B, H, W * C)
    if M < H:
        rows = _each(folded, rows)
    rows = rows.view(B, M, W, C).transpose(1, 2).reshape(B, W, M * C)
    lines = _each(across, rows).view(B, 2, K, M, C).permute(2, 1, 3, 0, 4)
    return _each(signs, lines.reshape(K, 2 * M, B * C)).view(K, R, 2, B, C)


def _axes_last_back(modes: Tensor, spectrum: tuple[int, int, int, int], matrices: Sequence[Tensor]) -> Tensor:
    (B, C), (H, W, R, K) = modes.shape[3:], spectrum
    across, _, folded, signs = matrices
    M = signs.shape[1] // 2
    lines = _each(signs.T, modes.reshape(K, 2 * R, B * C)).view(K, 2, M, B, C).permute(3, 1, 0, 2, 4)
    rows = _each(across.T, lines.reshape(B, 2 * K, M * C)).view(B, W, M, C)
    rows = rows.transpose(1, 2).reshape(B, M, W * C)
    if M < H:
        rows = _each(folded.T, rows)
    return rows.view(B, H, W, C).permute(0, 3, 1, 2)


def _each(matrix: Tensor, batch: Tensor) -> Tensor:
    """One matrix times each of a batch."""
    return torch.bmm(matrix.expand(len(batch), -1, -1), batch)


# By method and whether activations are in channels_last: analysis and synthesis.
PRODUCTS: dict[tuple[str, bool], tuple[Product, Product]] = {
    ("whole", False): (_whole, _whole_back),
    ("whole", True): (_whole_last, _whole_last_back),
    ("axes", False): (_axes, _axes_back),
    ("axes", True): (_axes_last, _axes_last_back),
}
