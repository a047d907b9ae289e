"""Scan positions: cutting patches out of an object and laying them back.

Positions are (row, col) of a patch's top-left pixel in object pixels. A position is split into the nearest
whole pixel, the corner, where arrays are sliced, and a fraction of -0.5 to 0.5 px, by which fields are
shifted in Fourier space: sharp up to the Nyquist frequency, and periodic over the patch. So what is shifted
should be dark at its border, as an exit wave is.
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
    corners, fractions = split_positions(positions_px, patch_size, (obj.shape[0], obj.shape[1]))
    patches = obj.reshape(-1)[lit_indices(corners, patch_size, obj.shape[1])]
    return patches if fractions is None else shift(patches, -fractions)


def windows(obj: Tensor, patch_size: int) -> Tensor:
    """A view of an object (H, W): the patch at every corner, (H - N + 1, W - N + 1, N, N).

    Cutting patches out of it is fast, but a gradient through it would have the size of all windows.
    """
    return obj.unfold(0, patch_size, 1).unfold(1, patch_size, 1)


def put_(obj: Tensor, patches: Tensor, corners: Tensor) -> None:
    """Put patches (n, N, N) that do not overlap into ``obj`` (H, W), at whole pixels ``corners`` (n, 2)."""
    if obj.device.type == "cpu":
        windows(obj, patches.shape[-1]).index_put_(corners.unbind(-1), patches)
    else:  # there torch would make a copy of all windows
        index = lit_indices(corners, patches.shape[-1], obj.shape[1])
        obj.view(-1).index_copy_(0, index.flatten(), patches.flatten())


def lay(patches: Tensor, corners: Tensor, shape: tuple[int, int]) -> Tensor:
    """The sum of patches (n, N, N) laid at whole pixels ``corners`` (n, 2) of an empty object."""
    flat = patches.new_zeros(shape[0] * shape[1])
    index = lit_indices(corners, patches.shape[-1], shape[1])
    return flat.index_add_(0, index.reshape(-1), patches.reshape(-1)).reshape(shape)


def lit_indices(corners: Tensor, patch_size: int, width: int) -> Tensor:
    """Flat indices (…, N, N) of the pixels of patches at ``corners`` (…, 2), in an object of ``width`` px."""
    along = torch.arange(patch_size, device=corners.device)
    rows, cols = corners[..., 0, None] + along, corners[..., 1, None] + along
    return rows[..., :, None] * width + cols[..., None, :]


def split_positions(
    positions_px: Tensor, patch_size: int, shape: tuple[int, int]
) -> tuple[Tensor, Tensor | None]:
    """Corners, int64 (n, 2), and fractions, float32 (n, 2), of positions; None where all are whole.

    Raises ValueError naming the first patch that leaves the object of ``shape``.
    """
    exact = positions_px.to(torch.float64)
    limit = torch.tensor(shape, dtype=torch.float64, device=exact.device) - patch_size
    outside = ((exact < 0) | (exact > limit)).any(dim=-1)
    if outside.any():
        first = int(outside.nonzero()[0])
        row, col = exact[first].tolist()
        raise ValueError(
            f"patch {first} at (row {row:g}, col {col:g}) px of size {patch_size} leaves the object {shape}"
        )
    corners = torch.round(exact)
    fractions = exact - corners
    return corners.to(torch.int64), fractions.float() if bool(fractions.any()) else None


def shift(fields: Tensor, by_px: Tensor) -> Tensor:
    """Periodic ``fields`` (…, N, N) moved by (row, col) ``by_px`` (…, 2) pixels; unitary for complex ones."""
    moved = torch.fft.ifft2(torch.fft.fft2(fields) * shift_ramps(by_px, fields.shape[-1]))
    return moved if fields.is_complex() else moved.real


def shift_ramps(by_px: Tensor, size: int) -> Tensor:
    """What moves a field by ``by_px`` (…, 2) when its transform is multiplied with it, (…, N, N)."""
    angle = -2 * torch.pi * torch.fft.fftfreq(size, device=by_px.device, dtype=by_px.dtype)
    rows, cols = (torch.exp(1j * by_px[..., axis, None] * angle) for axis in (0, 1))
    return rows[..., :, None] * cols[..., None, :]
