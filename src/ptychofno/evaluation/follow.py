"""A network judged while it trains: one number, in a fraction of the time of ``evaluate``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptychofno.evaluation.evaluate import Split
from ptychofno.evaluation.illumination import lit_pixels, scanned_region
from ptychofno.evaluation.stitch import stitch
from ptychofno.metrics import amplitude_similarity

Array = NDArray[Any]


def follow_similarity(split: Split, objects: Array, probe: Array) -> Callable[[Tensor], float | None]:
    """A judge of the amplitude SSIM of what is stitched from predicted patches.

    Args:
        split: the samples that will be predicted, in this order; the patterns are not read.
        objects: their truth, complex64 (k, H, W).
        probe: complex64 (N, N).

    Returns:
        From complex patches (n, C, N, N) on the CPU to the mean over objects of their SSIM, see
        ``ptychofno.metrics.compare``; None when what is stitched is not
        finite, or no object has contrast.
    """
    positions = np.asarray(split.positions_px).reshape(len(split.positions_px), -1, 2)
    index = np.asarray(split.object_index)

    def judge(patches: Tensor) -> float | None:
        if not bool(torch.isfinite(torch.view_as_real(patches)).all()):
            return None
        found = []
        for k, truth in enumerate(objects):
            mine = torch.from_numpy(index == k)
            with np.errstate(all="ignore"):
                stitched = stitch(
                    patches[mine].flatten(0, 1),
                    positions[index == k].reshape(-1, 2),
                    probe,
                    shape=truth.shape,
                )
            if not np.isfinite(stitched.object).all():
                return None  # patches so large that their sums overflow
            region = scanned_region(stitched.illumination)
            lit = lit_pixels(stitched.illumination)[region]
            found.append(amplitude_similarity(stitched.object[region], np.asarray(truth)[region], lit))
        known = [similarity for similarity in found if similarity is not None]
        return sum(known) / len(known) if known else None

    return judge
