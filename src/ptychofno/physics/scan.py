"""Scan positions: cutting patches out of an object and laying them back.

Positions are (row, col) of a patch's top-left pixel in object pixels. A fractional position
reads and writes the four neighbours with bilinear weights, so that ``place_patches`` is the
exact adjoint of ``extract_patches`` for every position; an integer one slices.
Shapes: n patches, N patch size, (H, W) object.
"""

from __future__ import annotations

import torch
from torch import Tensor


def raster_positions(object_size: int, patch_size: int, step_px: int, extent_px: int = 0) -> Tensor:
    """A square raster from the top-left corner, int64 (n, 2), row-major.

    ``extent_px`` is how far a sample reaches beyond its first patch (gridsize > 1).
    """
    last = object_size - patch_size - extent_px
    if last < 0:
        raise ValueError(f"an object of {object_size} px cannot hold patches of {patch_size + extent_px} px")
    axis = torch.arange(0, last + 1, step_px)
    return torch.cartesian_prod(axis, axis)


def extract_patches(obj: Tensor, positions_px: Tensor, patch_size: int) -> Tensor:
    """Patches (n, N, N) of an object (H, W) at ``positions_px`` (n, 2).

    Raises ValueError naming the first patch that leaves the object.
    """
    flat = obj.reshape(-1)
    patches = None
    for index, weight in _taps(positions_px, patch_size, (obj.shape[0], obj.shape[1])):
        tap = flat[index] * weight[:, None, None].to(obj.dtype) if weight is not None else flat[index]
        patches = tap if patches is None else patches + tap
    assert patches is not None
    return patches


def place_patches(patches: Tensor, positions_px: Tensor, shape: tuple[int, int]) -> Tensor:
    """The sum of patches (n, N, N) laid onto an empty object of ``shape``: adjoint of extraction."""
    flat = patches.new_zeros(shape[0] * shape[1])
    for index, weight in _taps(positions_px, patches.shape[-1], shape):
        tap = patches * weight[:, None, None].to(patches.dtype) if weight is not None else patches
        flat.index_add_(0, index.reshape(-1), tap.reshape(-1))
    return flat.reshape(shape)


def _taps(
    positions_px: Tensor, patch_size: int, shape: tuple[int, int]
) -> list[tuple[Tensor, Tensor | None]]:
    """Flat object indices (n, N, N) and weights (n,) of the neighbours that a patch touches.

    The weight is None where every position is an integer: one tap of weight 1.
    """
    corner = torch.floor(positions_px.to(torch.float64)).to(torch.int64)
    fraction = positions_px.to(torch.float64) - corner
    limit = torch.tensor(shape, device=corner.device) - patch_size
    outside = ((corner < 0) | (corner + (fraction > 0) > limit)).any(dim=1)
    if outside.any():
        first = int(outside.nonzero()[0])
        row, col = positions_px[first].tolist()
        raise ValueError(
            f"patch {first} at (row {row:g}, col {col:g}) px of size {patch_size} leaves the object {shape}"
        )
    offset = torch.arange(patch_size, device=corner.device)

    def index_at(down: int, right: int) -> Tensor:
        rows = corner[:, 0, None] + down + offset
        cols = corner[:, 1, None] + right + offset
        return rows[:, :, None] * shape[1] + cols[:, None, :]

    if not fraction.any():
        return [(index_at(0, 0), None)]
    taps: list[tuple[Tensor, Tensor | None]] = []
    for down in (0, 1):
        for right in (0, 1):
            weight = (fraction[:, 0] if down else 1 - fraction[:, 0]) * (
                fraction[:, 1] if right else 1 - fraction[:, 1]
            )
            # A neighbour of weight 0 may lie outside; read the corner instead, times 0.
            index = torch.where((weight > 0)[:, None, None], index_at(down, right), index_at(0, 0))
            taps.append((index, weight))
    return taps
