"""An object whose truth is not known: how well it predicts patterns that it was not made from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ptychofno import metrics as quality
from ptychofno.data.dataset import PtychoDataset, scan_positions
from ptychofno.data.settings import turned_by
from ptychofno.evaluation.infer import Predicted, patch_errors
from ptychofno.evaluation.overlap import Reconstruction, Refiner
from ptychofno.evaluation.stitch import Stitched
from ptychofno.physics import orientation_that_fits

_NO_BETTER = 0.9
"""An object is no better than a flat one when its error is above this share of the flat one's."""


def evaluate_measured(
    predicted: Predicted | None,
    dataset: PtychoDataset,
    put_together: Callable[..., Stitched],
    refiner: Refiner,
) -> tuple[list[Reconstruction], dict[str, Any]]:
    """The object of all patterns; and the metrics of ``evaluate``, of one of all but the test patterns.

    Args:
        predicted: from ``dataset.scan()``; None for a flat start.
        put_together: see ``stitch_each``.
    """
    positions = np.reshape(scan_positions(dataset), (-1, 2))
    height, width = (np.ceil(positions.max(axis=0)).astype(int) + refiner.probe.shape[-1]).tolist()
    shape = (height, width)
    start = start_without_test = None
    if predicted is not None:
        of_seen = len(dataset.train.amplitude) + len(dataset.validation.amplitude)
        others = int(np.searchsorted(predicted.members, of_seen)) * predicted.patches.shape[1]
        single, places = predicted.patches.flatten(0, 1), np.reshape(predicted.samples.positions_px, (-1, 2))
        start = put_together(single, places, shape=shape)
        start_without_test = put_together(single[:others], places[:others], shape=shape)
    splits = [dataset.train, dataset.validation, dataset.test]
    others_scan, test_scan = refiner.scan(splits[:2], shape), refiner.scan(splits[2:], shape)
    whole = refiner.refined(refiner.scan(splits, shape), start)
    without_test = refiner.refined(others_scan, start_without_test)
    error = refiner.error(test_scan, without_test)
    of_flat = refiner.flat_error(others_scan, test_scan, without_test)
    unrefined = None
    if start_without_test is not None and refiner.how is not None:
        stitched = Reconstruction(start_without_test, refiner.probe, [])
        unrefined = {"diffraction_error_stitched": refiner.error(test_scan, stitched)}
    poor = error > _NO_BETTER * of_flat
    metrics: dict[str, Any] = {name: [None, None] for name in quality.QUALITIES}
    metrics |= {"phase_mae_rad": None, "ssim_phase_2pi": None, "phase_vacuous": None}
    metrics |= patch_errors(predicted, dataset)
    metrics |= {"diffraction_error_stitched": error, "flat": of_flat, "no_better_than_flat": poor}
    return [whole], metrics | {"unrefined": unrefined, "hint": _orientation_hint(dataset) if poor else None}


def _orientation_hint(dataset: PtychoDataset) -> str | None:
    """Which settings of the layout make an object of patterns that make none as they are; None for none."""
    probe = torch.tensor(np.asarray(dataset.probe if dataset.given_probe is None else dataset.given_probe))
    valid = None if dataset.valid is None else torch.tensor(np.asarray(dataset.valid))
    amplitude = torch.tensor(np.asarray(dataset.train.amplitude)[:, 0])
    positions = torch.tensor(np.asarray(dataset.train.positions_px)[:, 0])
    changes = orientation_that_fits(amplitude, positions, probe, valid)
    return f"the scan fits with {turned_by(changes)}" if any(changes) else None
