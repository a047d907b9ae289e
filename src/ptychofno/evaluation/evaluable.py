"""Whether a scan can be evaluated, found out before a network is trained on it.

Shapes: n samples, C channels, N pattern size, k objects of (H, W).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ptychofno.data.dataset import Array, PtychoDataset, scan_positions
from ptychofno.evaluation.illumination import overlap_illumination, scanned_region
from ptychofno.metrics import SMALLEST_SIDE_PX

_LARGEST_OBJECT_MI_PX = 64


def check_evaluable(dataset: PtychoDataset) -> None:
    """Refuse what ``evaluate`` could not compute metrics for, from positions, probe and object shapes alone.

    Raises ValueError, naming the setting, for a simulated scan whose lit area is too small to compare, or a
    measured one whose object would exceed 64 Mi pixels. Patterns are not read.
    """
    size = dataset.probe.shape[-1]
    for positions_px, shape in _scans(dataset):
        if shape is None:
            _check_extent(positions_px, size)
            continue
        height, width = _lit(positions_px, dataset.probe, shape)
        if min(height, width) < SMALLEST_SIDE_PX:
            raise ValueError(
                f"data.size={shape[0]} with data.N={size}: the scanned region of {height} x {width} px is too"
                f" small to compare, which takes {SMALLEST_SIDE_PX} px a side; choose a larger data.size"
            )


def _scans(dataset: PtychoDataset) -> Iterator[tuple[Array, tuple[int, int] | None]]:
    """Positions (n, C, 2) and shape of each object that is stitched; no shape for a measured one."""
    if dataset.test_objects is None:
        yield scan_positions(dataset), None
        return
    height, width = dataset.test_objects.shape[1:]
    for k in range(len(dataset.test_objects)):
        yield dataset.test.positions_px[np.asarray(dataset.test.object_index) == k], (height, width)


def _check_extent(positions_px: Array, size: int) -> None:
    corners = positions_px.reshape(-1, 2)
    # As floats: a position in the wrong unit may exceed any integer type.
    height, width = (np.ceil(corners.max(axis=0)) + size).tolist()
    if height * width > _LARGEST_OBJECT_MI_PX * 2**20:
        row, col = corners[corners.max(axis=1).argmax()]
        raise ValueError(
            f"data.path: the position (row {row:g}, col {col:g}) needs an object of {height:g} x {width:g}"
            f" px, more than {_LARGEST_OBJECT_MI_PX} Mi pixels; expected data.layout.positions_keys in px"
        )


def _lit(positions_px: Array, probe: Array, shape: tuple[int, int]) -> tuple[int, int]:
    """Height and width in pixels of what overlapping patches light."""
    rows, cols = scanned_region(overlap_illumination(positions_px.reshape(-1, 2), probe, shape))
    return rows.stop - rows.start, cols.stop - cols.start
