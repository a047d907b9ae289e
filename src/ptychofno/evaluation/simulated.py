"""Objects whose truth is known: reconstructed from the test scan and compared with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ptychofno import metrics as quality
from ptychofno.data.dataset import Array, PtychoDataset, Split
from ptychofno.evaluation.illumination import lit_pixels, scanned_region
from ptychofno.evaluation.infer import Predicted, patch_errors
from ptychofno.evaluation.overlap import Reconstruction, Refiner, Samples
from ptychofno.evaluation.stitch import Stitched

_OF_MEASURED_DATA = ("diffraction_error_stitched", "flat", "no_better_than_flat")


def evaluate_simulated(
    predicted: Predicted | None,
    dataset: PtychoDataset,
    put_together: Callable[..., Stitched],
    refiner: Refiner,
    phase_alignment: str,
) -> tuple[list[Reconstruction], dict[str, Any]]:
    """Each test object as it is reconstructed, and the metrics of ``evaluate``.

    Args:
        predicted: from the test scan; None for a flat start.
        put_together: see ``stitch_each``.
    """
    test, truth = dataset.test, dataset.test_objects
    assert truth is not None
    stitched = None
    if predicted is not None:
        stitched = stitch_each(put_together, predicted.patches, predicted.samples, truth)
    found = []
    for k in range(len(truth)):
        here = np.asarray(test.object_index) == k
        part = Samples(np.asarray(test.amplitude)[here], np.asarray(test.positions_px)[here])
        scan = refiner.scan([part], truth.shape[1:])
        found.append(refiner.refined(scan, None if stitched is None else stitched[k]))

    def similarity(objects: Sequence[Stitched]) -> dict[str, Any]:
        return _mean([_compare(one, true, phase_alignment) for one, true in zip(objects, truth, strict=True)])

    before = [stitched] if stitched is not None and refiner.how is not None else []
    with ThreadPoolExecutor() as pool:
        metrics, *unrefined = pool.map(similarity, [[one.stitched for one in found], *before])
    metrics |= patch_errors(predicted, dataset) | dict.fromkeys(_OF_MEASURED_DATA)
    return found, metrics | {"unrefined": unrefined[0] if unrefined else None}


def stitch_each(
    put_together: Callable[..., Stitched], patches: Tensor, split: Split, truth: Array
) -> list[Stitched]:
    """Each of the k objects of ``truth`` (k, H, W) from those of ``patches`` (n, C, N, N) that are its own.

    Args:
        put_together: called with patches (m, N, N), positions (m, 2) and ``shape``.
        split: the samples that were predicted, in this order; the patterns are not read.
    """
    stitched = []
    for k, one in enumerate(truth):
        here = np.asarray(split.object_index) == k
        positions = np.reshape(split.positions_px[here], (-1, 2))
        own = patches[torch.from_numpy(here)].flatten(0, 1)
        stitched.append(put_together(own, positions, shape=one.shape))
    return stitched


def _compare(stitched: Stitched, truth: Array, phase_alignment: str) -> dict[str, Any]:
    region = scanned_region(stitched.illumination)
    lit = lit_pixels(stitched.illumination)[region]
    return quality.compare(stitched.object[region], truth[region], phase_alignment=phase_alignment, mask=lit)


def _mean(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Entry by entry over the objects; null where no object has the entry."""

    def average(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    mean: dict[str, Any] = {
        name: [average([result[name][part] for result in results]) for part in (0, 1)]
        for name in quality.QUALITIES
    }
    for name in ("phase_mae_rad", "ssim_phase_2pi"):
        mean[name] = average([result[name] for result in results])
    mean["phase_vacuous"] = all(result["phase_vacuous"] for result in results)
    return mean
