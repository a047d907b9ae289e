"""The matrix products of the transforms, for each layout of activations in memory.

Shapes: B batch, C channels, H rows, W columns, R row frequencies, K column frequencies; the matrices are
those of ``transforms.matrices_of``. An analysis takes real (B, C, H, W) to modes (K, R, 2, B, C), modes
first as the mixing of channels wants them; a synthesis is its adjoint.

Contiguous activations: on small grids one product over the whole grid; else one per axis, each of which
moves the axis that it transforms to the front, so that both read their input where it lies, and the last
one leaves the modes first.

Activations in channels_last lie in memory as (B, H, W, C), and are taken per axis on any grid. Where there
are many channels for the pixels of a line, line by line: the columns of each of the B H lines, then the rows
of each of the B samples with what the columns left, K C numbers beside each other; nothing but modes is
copied. Else products of C numbers are too narrow, and it goes plane by plane: rows first, W C numbers beside
each other, and real: what a real input has at +f and at -f are the same cosines and sines. The columns make
them complex, and the two signs are told apart at the end, where little is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# (numbers, (H, W, R, K), matrices) to numbers.
Product = Callable[[Tensor, tuple[int, int, int, int], Sequence[Tensor]], Tensor]


def _whole(x: Tensor, spectrum: tuple[int, int, int, int], matrices: Sequence[Tensor]) -> Tensor:
    (B, C), (H, W, R, K) = x.shape[:2], spectrum
    return (matrices[1] @ x.reshape(B * C, H * W).T).view(K, R, 2, B, C)


def _whole_back(modes: Tensor, spectrum: tuple[int, int, int, int], matrices: Sequence[Tensor]) -> Tensor:
    (B, C), (H, W, R, K) = modes.shape[3:], spectrum
    return (modes.reshape(K * R * 2, B * C).T @ matrices[1]).view(B, C, H, W)


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


def _lines(x: Tensor, spectrum: tuple[int, int, int, int], matrices: Sequence[Tensor]) -> Tensor:
    (B, C), (H, W, R, K) = x.shape[:2], spectrum
    across, _, rows, *_ = matrices
    lines = _each(across, x.permute(0, 2, 3, 1).reshape(B * H, W, C))
    modes = _each(rows, lines.view(B, 2 * H, K * C))
    return modes.view(B, R, 2, K, C).permute(3, 1, 2, 0, 4)


def _lines_back(modes: Tensor, spectrum: tuple[int, int, int, int], matrices: Sequence[Tensor]) -> Tensor:
    (B, C), (H, W, R, K) = modes.shape[3:], spectrum
    across, _, rows, *_ = matrices
    # Turned copies of the small matrices: products with turned views of them take a quarter longer.
    lines = _each(rows.T.contiguous(), modes.permute(3, 1, 2, 0, 4).reshape(B, 2 * R, K * C))
    x = _each(across.T.contiguous(), lines.view(B * H, 2 * K, C))
    return x.view(B, H, W, C).permute(0, 3, 1, 2)


def _planes(x: Tensor, spectrum: tuple[int, int, int, int], matrices: Sequence[Tensor]) -> Tensor:
    (B, C), (H, W, R, K) = x.shape[:2], spectrum
    across, _, _, folded, signs = matrices
    M = signs.shape[1] // 2
    rows = x.permute(0, 2, 3, 1).reshape(B, H, W * C)
    if M < H:
        rows = _each(folded, rows)
    rows = rows.view(B, M, W, C).transpose(1, 2).reshape(B, W, M * C)
    lines = _each(across, rows).view(B, 2, K, M, C).permute(2, 1, 3, 0, 4)
    return _each(signs, lines.reshape(K, 2 * M, B * C)).view(K, R, 2, B, C)


def _planes_back(modes: Tensor, spectrum: tuple[int, int, int, int], matrices: Sequence[Tensor]) -> Tensor:
    (B, C), (H, W, R, K) = modes.shape[3:], spectrum
    across, _, _, folded, signs = matrices
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


# Analysis and synthesis, for contiguous activations and, the last two, for those in channels_last.
PRODUCTS: dict[str, tuple[Product, Product]] = {
    "whole": (_whole, _whole_back),
    "axes": (_axes, _axes_back),
    "lines": (_lines, _lines_back),
    "planes": (_planes, _planes_back),
}
