"""Whether a simulated scan can be evaluated, found out before a network is trained on it."""

from __future__ import annotations

import numpy as np

from ptychofno.data.dataset import PtychoDataset
from ptychofno.evaluation.illumination import overlap_illumination, scanned_region
from ptychofno.metrics import SMALLEST_SIDE_PX


def check_evaluable(dataset: PtychoDataset) -> None:
    """Refuse what ``evaluate`` could not compute metrics for, from positions, probe and object shapes alone.

    Raises ValueError, naming the setting, for a simulated scan whose lit area is too small to compare.
    """
    if dataset.test_objects is None:
        return
    shape, N = dataset.test_objects.shape[1:], dataset.probe.shape[-1]
    for k in range(len(dataset.test_objects)):
        positions = dataset.test.positions_px[np.asarray(dataset.test.object_index) == k]
        region = scanned_region(overlap_illumination(positions.reshape(-1, 2), dataset.probe, shape))
        height, width = (side.stop - side.start for side in region)
        if min(height, width) < SMALLEST_SIDE_PX:
            raise ValueError(
                f"data.size={shape[0]} with data.N={N}: the scanned region of {height} x {width} px is too"
                f" small to compare, which takes {SMALLEST_SIDE_PX} px a side; choose a larger data.size"
            )
