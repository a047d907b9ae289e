"""Where an object was lit, and how strongly.

Shapes: n patches, N patch size in pixels, (H, W) object.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptychofno.evaluation.infer import PATCHES_AT_ONCE
from ptychofno.physics import shift, split_positions

# Share of the interior's illumination below which a pixel is dark.
_LIT = 0.01

Real = NDArray[np.floating]


def weight_of(probe: Any) -> NDArray[Any]:
    """What patches are weighted with, complex64 (N, N): a probe, or the root of what its modes sum up to."""
    probe = np.asarray(probe)
    if probe.ndim == 2:
        return probe
    return np.sqrt(np.square(np.abs(probe)).sum(axis=0)).astype(np.complex64)


def overlap_illumination(positions_px: Any, probe: Any, shape: tuple[int, int]) -> Real:
    """The weight under which overlapping patches are averaged, sum |P|^2, float32 (H, W) of ``shape``.

    Args:
        positions_px: (n, 2), (row, col) of the top-left pixels.
        probe: complex (N, N) or (M, N, N).
    """
    positions = torch.from_numpy(np.asarray(positions_px).astype(np.float64))
    return summed_intensity(*split_positions(positions, np.shape(probe)[-1], shape), probe, shape)


def summed_intensity(corners: Tensor, fractions: Tensor | None, probe: Any, shape: tuple[int, int]) -> Real:
    """The same for positions as ``physics.split_positions`` gives them."""
    probe = torch.tensor(weight_of(probe))
    intensity = np.square(np.abs(probe.numpy())).astype(np.float32)
    illumination = np.zeros(shape, dtype=np.float32)
    for chunk in torch.arange(len(corners)).split(PATCHES_AT_ONCE):
        patches = np.broadcast_to(intensity, (len(chunk), *intensity.shape))
        if fractions is not None:
            patches = shift(probe, fractions[chunk]).abs().square().numpy()
        add_patches(illumination, patches, corners[chunk])
    return illumination


def add_patches(canvas: NDArray[Any], patches: Iterable[NDArray[Any]], corners: Tensor) -> None:
    """Add patches (N, N) to ``canvas`` (H, W) at ``corners``, whole pixels (n, 2)."""
    for patch, (row, col) in zip(patches, corners.tolist(), strict=True):
        canvas[row : row + patch.shape[0], col : col + patch.shape[1]] += patch


def scanned_region(illumination: Real) -> tuple[slice, slice]:
    """The rectangle that was scanned, as (rows, columns) of ``illumination`` (H, W).

    A row or column belongs when its brightest pixel reaches a tenth of the interior's median,
    the interior being all pixels above a tenth of the brightest one. The maximum along a line
    does not depend on how far the line runs beyond the scan, as its mean would. The rectangle
    may hold dark pixels, see ``lit_pixels``.

    Raises:
        ValueError: when nothing is illuminated.
    """
    threshold = 0.1 * _interior_median(illumination)
    rows = np.flatnonzero(illumination.max(axis=1) >= threshold)
    cols = np.flatnonzero(illumination.max(axis=0) >= threshold)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)


def lit_pixels(illumination: Real) -> NDArray[np.bool_]:
    """Where the probe fell, bool (H, W): what is compared and drawn of an object.

    At least 1 % of the interior's median of ``illumination`` (H, W), the interior as in
    ``scanned_region``: far below what any pixel between overlapping patches receives, and far
    above the feet of a probe, where a patch leaves no trace in its pattern.

    Raises:
        ValueError: when nothing is illuminated.
    """
    return np.asarray(illumination >= _LIT * _interior_median(illumination))


def _interior_median(illumination: Real) -> float:
    brightest = illumination.max()
    if not brightest > 0:
        raise ValueError("illumination is zero everywhere: nothing was scanned")
    return float(np.median(illumination[illumination >= 0.1 * brightest]))
