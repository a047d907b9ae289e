"""Whether a scan can be evaluated, found out before a network is trained on it."""

from __future__ import annotations

import numpy as np

from ptychofno.data.dataset import Array, PtychoDataset, scan_positions
from ptychofno.data.sampling import LARGEST_OBJECT_MI_PX
from ptychofno.evaluation.illumination import overlap_illumination, scanned_region
from ptychofno.metrics import SMALLEST_SIDE_PX


def check_evaluable(dataset: PtychoDataset) -> None:
    """Refuse what ``evaluate`` could not compute metrics for, from positions, probe and object shapes alone.

    Raises ValueError, naming the setting, for a simulated scan whose lit area is too small to compare, or one
    without a truth whose object would exceed 64 Mi pixels: a dataset of a user's own, as files are judged
    when they are read.
    """
    N = dataset.probe.shape[-1]
    if dataset.test_objects is None:
        _check_extent(scan_positions(dataset).reshape(-1, 2), N)
        return
    shape = dataset.test_objects.shape[1:]
    for k in range(len(dataset.test_objects)):
        positions = dataset.test.positions_px[np.asarray(dataset.test.object_index) == k]
        region = scanned_region(overlap_illumination(positions.reshape(-1, 2), dataset.probe, shape))
        height, width = (side.stop - side.start for side in region)
        if min(height, width) < SMALLEST_SIDE_PX:
            raise ValueError(
                f"data.size={shape[0]} with data.N={N}: the scanned region of {height} x {width} px is too"
                f" small to compare, which takes {SMALLEST_SIDE_PX} px a side; choose a larger data.size"
            )


def _check_extent(positions_px: Array, N: int) -> None:
    # As floats: a position in the wrong unit may exceed any integer type.
    height, width = (np.ceil(positions_px.max(axis=0)) + N).tolist()
    if height * width > LARGEST_OBJECT_MI_PX * 2**20:
        row, col = positions_px[positions_px.max(axis=1).argmax()]
        raise ValueError(
            f"data.path: the position (row {row:g}, col {col:g}) needs an object of {height:g} x {width:g}"
            f" px, more than {LARGEST_OBJECT_MI_PX} Mi pixels; expected data.layout.positions_keys in px"
        )
