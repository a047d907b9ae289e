"""How good a network is while it trains: one number, in a fraction of the time of ``evaluate``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ptychofno.data.dataset import Array, Split
from ptychofno.evaluation.illumination import lit_pixels, scanned_region, weight_of
from ptychofno.evaluation.simulated import stitch_each
from ptychofno.evaluation.stitch import NEARLY_SETTLED_RAD, stitch
from ptychofno.metrics import amplitude_similarity


def follow_similarity(split: Split, objects: Array, probe: Array) -> Callable[[Tensor], float | None]:
    """What computes the amplitude SSIM of the objects stitched from predicted patches.

    Args:
        split: the samples that will be predicted, in this order; the patterns are not read.
        objects: their truth, complex64 (k, H, W).
        probe: complex64 (N, N) or (M, N, N).

    Returns:
        From complex patches (n, C, N, N) on the CPU to the mean over objects of their SSIM, see
        ``ptychofno.metrics.compare``; None when what is stitched is not
        finite, or no object has contrast.
    """

    weight = weight_of(probe)

    def similarity_of(patches: Tensor) -> float | None:
        if not bool(torch.isfinite(torch.view_as_real(patches)).all()):
            return None
        with np.errstate(all="ignore"):
            stitched = stitch_each(
                partial(stitch, probe=weight, settled_rad=NEARLY_SETTLED_RAD), patches, split, objects
            )
        found = []
        for one, truth in zip(stitched, objects, strict=True):
            if not np.isfinite(one.object).all():
                return None  # patches so large that their sums overflow
            region = scanned_region(one.illumination)
            lit = lit_pixels(one.illumination)[region]
            found.append(amplitude_similarity(one.object[region], np.asarray(truth)[region], lit))
        known = [similarity for similarity in found if similarity is not None]
        return sum(known) / len(known) if known else None

    return similarity_of
