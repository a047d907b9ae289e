"""A trained network judged: patches predicted, stitched, and compared with what is known.

Shapes: n samples, C channels, N pattern size, k objects of (H, W).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ptychofno import metrics as quality
from ptychofno.artifacts import write_with
from ptychofno.evaluation.illumination import lit_pixels, scanned_region
from ptychofno.evaluation.infer import predict_patches
from ptychofno.evaluation.stitch import Stitched, centre_crop, check_stitch
from ptychofno.evaluation.stitch import stitch as overlap_average
from ptychofno.physics import diffraction_amplitude, extract_patches

Array = NDArray[Any]

_PATTERNS_AT_ONCE = 256


class Split(Protocol):
    """Samples: amplitudes (n, C, N, N), positions (n, C, 2) in pixels, object index (n,)."""

    @property
    def amplitude(self) -> Array: ...
    @property
    def positions_px(self) -> Array: ...
    @property
    def object_index(self) -> Array: ...


class Dataset(Protocol):
    """What is judged on; ``scan()`` of a measured one holds training, validation, test in this order."""

    @property
    def probe(self) -> Array: ...
    @property
    def train(self) -> Split: ...
    @property
    def validation(self) -> Split: ...
    @property
    def test(self) -> Split: ...
    @property
    def test_objects(self) -> Array | None: ...
    def scan(self) -> Split: ...


@dataclass(frozen=True)
class Evaluation:
    """How good a network is, and the first object it reconstructed."""

    metrics: dict[str, Any]
    """As in ``evaluate``; plain values."""
    prediction: Array
    """Complex64 (H, W), without the phase that no measurement fixes; 0 where nothing was scanned."""
    target: Array | None
    """Complex64 (H, W); None for measured data."""
    illumination: Array
    """Float32 (H, W), the weight of what was averaged."""
    region: tuple[slice, slice]
    """Rows and columns that were scanned; metrics are computed on its lit pixels."""
    phase_alignment: str
    """What was removed from phases before comparing: plane or mean."""


def evaluate(
    model: nn.Module,
    dataset: Dataset,
    *,
    infer_batch_size: int,
    stitch: str,
    sync_rounds: int,
    phase_alignment: str,
    device: torch.device | str,
) -> Evaluation:
    """Predict, stitch and judge.

    Args:
        model: the network, see ``predict_patches``; it is left on ``device``.
        dataset: with ``test_objects`` its test scan is compared with them, object by object;
            without, every pattern of the measured scan is stitched.
        infer_batch_size: patterns per forward pass.
        stitch: ``overlap`` (average of synchronised patches) or ``centre_crop``.
        sync_rounds: see ``ptychofno.evaluation.stitch.stitch``.
        phase_alignment: see ``ptychofno.metrics.compare``.
        device: where the network computes.

    Returns:
        ``metrics`` are those of ``ptychofno.metrics.compare`` for the lit pixels of the scanned
        region, the mean over test objects, all null without a truth; ``diffraction_error``,
        sum |A_pred - X| / sum X over the held-out test patterns; and for measured data
        ``diffraction_error_validation`` and ``diffraction_error_train``, null otherwise.
        In these three the network has seen the very pattern, and may have fitted its noise, or
        a wrong probe, patch by patch. ``diffraction_error_stitched`` (measured data) is the error of the
        test patterns as the object predicts them that is stitched from all the others, by ``overlap`` in
        any case, as a raster with gaps cannot be tiled.

    Raises:
        ValueError: for an unknown ``stitch`` or ``phase_alignment``, positions that
            ``centre_crop`` cannot tile, or a prediction that is not finite.
    """
    if phase_alignment not in quality.PHASE_ALIGNMENTS:
        choices = ", ".join(quality.PHASE_ALIGNMENTS)
        raise ValueError(f"evaluation.phase_alignment={phase_alignment!r}: choose one of {choices}")
    put_together = _stitcher(stitch, np.asarray(dataset.probe), sync_rounds)
    with_gaps = _stitcher("overlap", np.asarray(dataset.probe), sync_rounds)
    scan = dataset.scan()
    patches = predict_patches(model, scan.amplitude, batch_size=infer_batch_size, device=device)
    misfit, total = _amplitude_errors(patches, scan.amplitude, dataset.probe)
    truth = dataset.test_objects
    errors: dict[str, float | None]
    if truth is None:
        # scan() is the three splits in this order, so their errors are cut from one pass.
        names = ("diffraction_error_train", "diffraction_error_validation", "diffraction_error")
        ends = np.cumsum([len(split.amplitude) for split in (dataset.train, dataset.validation)])
        parts = zip(names, np.split(misfit, ends), np.split(total, ends), strict=True)
        errors = {name: float(part.sum() / whole.sum()) for name, part, whole in parts}
        similarity: dict[str, Any] = {name: [None, None] for name in quality.QUALITIES}
        similarity |= {"phase_mae_rad": None, "ssim_phase_2pi": None, "phase_vacuous": None}
        first = put_together(patches.flatten(0, 1), np.reshape(scan.positions_px, (-1, 2)), shape=None)
        errors["diffraction_error_stitched"] = _error_from_the_others(
            patches.flatten(0, 1), dataset, with_gaps, first.object.shape
        )
        target = None
    else:
        stitched = stitch_each(put_together, patches, scan, truth)
        errors = {
            "diffraction_error": float(misfit.sum() / total.sum()),
            "diffraction_error_validation": None,
            "diffraction_error_train": None,
            "diffraction_error_stitched": None,
        }
        pairs = zip(stitched, truth, strict=True)
        similarity = _mean([_judge(one, true, phase_alignment) for one, true in pairs])
        first, target = stitched[0], np.array(truth[0])
    region = scanned_region(first.illumination)
    return Evaluation(
        metrics=similarity | errors,
        prediction=_without_free_phase(first, target, region, phase_alignment),
        target=target,
        illumination=first.illumination,
        region=region,
        phase_alignment=phase_alignment,
    )


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
        mine = patches[torch.from_numpy(here)].flatten(0, 1)
        stitched.append(put_together(mine, positions, shape=one.shape))
    return stitched


def save_reconstruction(path: Path | str, evaluation: Evaluation) -> None:
    """Write an NPZ file with what was reconstructed, in one step.

    Keys: ``prediction`` complex64 (H, W), its free phase removed; ``illumination`` float32
    (H, W); ``region`` int64 (2, 2), first and last-plus-one row and column of the scanned area;
    ``target`` complex64 (H, W) where there is a truth.
    """
    arrays: dict[str, Any] = {
        "prediction": evaluation.prediction,
        "illumination": evaluation.illumination,
        "region": np.array([[side.start, side.stop] for side in evaluation.region]),
    }
    if evaluation.target is not None:
        arrays["target"] = evaluation.target
    write_with(path, partial(np.savez_compressed, **arrays))


def _stitcher(stitch: str, probe: Array, sync_rounds: int) -> Callable[..., Stitched]:
    check_stitch(stitch)
    choices: dict[str, Callable[..., Stitched]] = {
        "overlap": partial(overlap_average, probe=probe, sync_rounds=sync_rounds),
        "centre_crop": centre_crop,
    }
    return choices[stitch]


def _amplitude_errors(patches: Tensor, amplitude: Array, probe: Array) -> tuple[Array, Array]:
    """sum |A_pred - X| and sum X of each sample, float64 (n,)."""
    illumination = torch.from_numpy(np.array(probe, dtype=np.complex64))
    misfit, total = [], []
    for start in range(0, len(patches), _PATTERNS_AT_ONCE):
        chunk = slice(start, start + _PATTERNS_AT_ONCE)
        predicted = diffraction_amplitude(patches[chunk], illumination).numpy()
        measured = np.asarray(amplitude[chunk])
        misfit.append(np.abs(predicted - measured).sum(axis=(1, 2, 3), dtype=np.float64))
        total.append(measured.sum(axis=(1, 2, 3), dtype=np.float64))
    return np.concatenate(misfit), np.concatenate(total)


def _error_from_the_others(
    patches: Tensor, dataset: Dataset, put_together: Callable[..., Stitched], shape: tuple[int, int]
) -> float:
    """Relative amplitude error of the test patterns, predicted by what the others were stitched to.

    ``patches`` (n, N, N) of the whole scan, the test patterns last.
    """
    positions = np.reshape(dataset.scan().positions_px, (-1, 2))
    others = len(patches) - len(dataset.test.amplitude)
    stitched = put_together(patches[:others], positions[:others], shape=shape)
    obj = torch.as_tensor(stitched.object, dtype=torch.complex64)
    seen = extract_patches(obj, torch.from_numpy(positions[others:].copy()), patches.shape[-1])
    misfit, total = _amplitude_errors(seen[:, None], dataset.test.amplitude, dataset.probe)
    return float(misfit.sum() / total.sum())


def _judge(stitched: Stitched, truth: Array, phase_alignment: str) -> dict[str, Any]:
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


def _without_free_phase(
    stitched: Stitched, target: Array | None, region: tuple[slice, slice], phase_alignment: str
) -> Array:
    """The object (H, W) turned, and with ``plane`` also unramped, onto the target or else onto 0."""
    judged = np.zeros(stitched.object.shape, dtype=np.bool_)
    judged[region] = lit_pixels(stitched.illumination)[region]
    phase = stitched.object * np.sqrt(stitched.illumination) * judged
    if target is not None:
        phase = phase * target.conj()
    correction = np.ones(phase.shape, dtype=np.complex128)
    if phase_alignment == "plane":
        correction = quality.phase_ramp(quality.phase_slopes(phase), phase.shape).conj()
    correction = correction * np.exp(-1j * np.angle((phase * correction).sum()))
    return np.asarray((stitched.object * correction).astype(np.complex64))
