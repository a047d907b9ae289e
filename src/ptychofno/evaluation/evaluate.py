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
from ptychofno.evaluation.illumination import lit_pixels, scanned_region
from ptychofno.evaluation.infer import predict_patches
from ptychofno.evaluation.overlap import Reconstruction, Refinement, Refiner, Samples
from ptychofno.evaluation.stitch import Stitched, centre_crop, check_stitch
from ptychofno.evaluation.stitch import stitch as overlap_average
from ptychofno.physics import diffraction_amplitude, orientation_that_fits
from ptychofno.runs.artifacts import write_with

Array = NDArray[Any]

_PATTERNS_AT_ONCE = 256
_NO_BETTER = 0.9
"""An object is no better than a flat one when its error is above this share of the flat one's."""
_ORIENTATION = ("swap_axes", "negate_rows", "negate_cols")
_MEASURED_ERRORS = ("diffraction_error_stitched", "flat", "no_better_than_flat")


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
    @property
    def valid(self) -> Array | None: ...
    @property
    def given_probe(self) -> Array | None: ...
    @property
    def object_pixel_m(self) -> float | None: ...
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
    probe: Array | None = None
    """Complex64 (N, N), as given or as refined with the first object."""
    rounds: Sequence[Sequence[float]] = ()
    """For each object the relative error of its patterns' amplitudes, at the start and after every round."""
    object_pixel_m: float | None = None
    """Size of an object pixel; None where nothing tells it."""


def evaluate(
    model: nn.Module | None,
    dataset: Dataset,
    *,
    infer_batch_size: int,
    stitch: str,
    sync_rounds: int,
    phase_alignment: str,
    device: torch.device | str,
    refinement: Refinement | None = None,
    each_round: Callable[[int, float], None] = lambda number, misfit: None,
) -> Evaluation:
    """Predict, stitch, refine and judge.

    Args:
        model: the network, see ``predict_patches``; it is left on ``device``. None starts the
            refinement from a flat object.
        dataset: with ``test_objects`` its test scan is compared with them, object by object;
            without, every pattern of the measured scan makes the object.
        infer_batch_size: patterns per forward pass.
        stitch: ``overlap`` (average of synchronised patches) or ``centre_crop``.
        sync_rounds: see ``ptychofno.evaluation.stitch.stitch``.
        phase_alignment: see ``ptychofno.metrics.compare``.
        device: where the network and the rounds of overlap compute.
        refinement: what follows stitching; None for nothing.
        each_round: is told the number of every round and its error.

    Returns:
        ``metrics`` are those of ``ptychofno.metrics.compare`` for the lit pixels of the scanned
        region, the mean over test objects, all null without a truth. ``unrefined`` holds them before
        refinement. ``diffraction_error_stitched`` (measured data) is sum |A_pred - X| / sum X of the
        test patterns as that object predicts them that is made of all the others, by ``overlap`` in any
        case, as a raster with gaps cannot be tiled; ``flat`` is the same of a flat object with the same
        probe, and ``no_better_than_flat`` says whether the first is above 0.9 of it. ``diffraction_error``
        is that of the network's own patches on the test patterns, for measured data also ``…_validation``
        and ``…_train``: there the network has seen the very pattern, and may have fitted its noise, or a
        wrong probe, patch by patch.

    Raises:
        ValueError: for an unknown ``stitch`` or ``phase_alignment``, positions that
            ``centre_crop`` cannot tile, or a prediction that is not finite.
    """
    if phase_alignment not in quality.PHASE_ALIGNMENTS:
        choices = ", ".join(quality.PHASE_ALIGNMENTS)
        raise ValueError(f"evaluation.phase_alignment={phase_alignment!r}: choose one of {choices}")
    put_together = _stitcher(stitch, np.asarray(dataset.probe), sync_rounds)
    patches = None
    if model is not None:
        scan = dataset.scan()
        patches = predict_patches(
            model,
            scan.amplitude,
            batch_size=infer_batch_size,
            device=device,
            positions_px=scan.positions_px,
        )
    refiner = Refiner(np.array(dataset.probe), dataset.valid, device, refinement, each_round)
    targets: list[Array | None] = [None]
    if dataset.test_objects is None:
        with_gaps = _stitcher("overlap", np.asarray(dataset.probe), sync_rounds)
        found, metrics = _measured(patches, dataset, put_together, with_gaps, refiner)
    else:
        targets = [np.array(one) for one in dataset.test_objects]
        found, metrics = _simulated(patches, dataset, put_together, refiner, phase_alignment)
    first = found[0].stitched
    region = scanned_region(first.illumination)
    return Evaluation(
        metrics=metrics,
        prediction=_without_free_phase(first, targets[0], region, phase_alignment),
        target=targets[0],
        illumination=first.illumination,
        region=region,
        phase_alignment=phase_alignment,
        probe=found[0].probe,
        rounds=[one.misfit for one in found],
        object_pixel_m=dataset.object_pixel_m,
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
    ``probe`` complex64 (N, N), refined where that was asked for; ``target`` complex64 (H, W) where there
    is a truth; ``object_pixel_m`` where it is known.
    """
    arrays: dict[str, Any] = {
        "prediction": evaluation.prediction,
        "illumination": evaluation.illumination,
        "region": np.array([[side.start, side.stop] for side in evaluation.region]),
    }
    for name in ("probe", "target", "object_pixel_m"):
        if (value := getattr(evaluation, name)) is not None:
            arrays[name] = value
    write_with(path, partial(np.savez_compressed, **arrays))


def _stitcher(stitch: str, probe: Array, sync_rounds: int) -> Callable[..., Stitched]:
    check_stitch(stitch)
    choices: dict[str, Callable[..., Stitched]] = {
        "overlap": partial(overlap_average, probe=probe, sync_rounds=sync_rounds),
        "centre_crop": centre_crop,
    }
    return choices[stitch]


def _simulated(
    patches: Tensor | None,
    dataset: Dataset,
    put_together: Callable[..., Stitched],
    refiner: Refiner,
    phase_alignment: str,
) -> tuple[list[Reconstruction], dict[str, Any]]:
    """Each test object as it is reconstructed, and the metrics of all."""
    test, truth = dataset.test, dataset.test_objects
    assert truth is not None
    starts: Sequence[Stitched | None] = [None] * len(truth)
    if patches is not None:
        starts = stitch_each(put_together, patches, test, truth)
    found = []
    for k, start in enumerate(starts):
        here = np.asarray(test.object_index) == k
        part = Samples(np.asarray(test.amplitude)[here], np.asarray(test.positions_px)[here])
        found.append(refiner.refined([part], truth.shape[1:], start))

    def similarity(objects: Sequence[Stitched]) -> dict[str, Any]:
        pairs = zip(objects, truth, strict=True)
        return _mean([_judge(one, true, phase_alignment) for one, true in pairs])

    metrics = similarity([one.stitched for one in found])
    own = _own_errors(patches, dataset)
    unmeasured: dict[str, Any] = dict.fromkeys(_MEASURED_ERRORS)
    before = [start for start in starts if start is not None]
    unrefined = similarity(before) if before and refiner.how is not None else None
    return found, metrics | own | unmeasured | {"unrefined": unrefined}


def _measured(
    patches: Tensor | None,
    dataset: Dataset,
    put_together: Callable[..., Stitched],
    with_gaps: Callable[..., Stitched],
    refiner: Refiner,
) -> tuple[list[Reconstruction], dict[str, Any]]:
    """The object of all patterns, and how one of all but the test patterns predicts these."""
    seen, test = [dataset.train, dataset.validation], [dataset.test]
    scan = dataset.scan()
    positions = np.reshape(scan.positions_px, (-1, 2))
    height, width = (np.ceil(positions.max(axis=0)).astype(int) + refiner.probe.shape[-1]).tolist()
    starts: tuple[Stitched | None, Stitched | None] = (None, None)
    if patches is not None:
        flat = patches.flatten(0, 1)
        others = len(flat) - len(dataset.test.amplitude) * patches.shape[1]
        starts = (
            put_together(flat, positions, shape=(height, width)),
            with_gaps(flat[:others], positions[:others], shape=(height, width)),
        )
    whole = refiner.refined([*seen, *test], (height, width), starts[0])
    apart = refiner.refined(seen, (height, width), starts[1])
    held_out = refiner.scan(test, (height, width))
    error = refiner.error(held_out, apart)
    of_flat = refiner.flat_error(refiner.scan(seen, (height, width)), held_out, apart)
    unrefined = None
    if starts[1] is not None and refiner.how is not None:
        stitched = Reconstruction(starts[1], refiner.probe, [])
        unrefined = {"diffraction_error_stitched": refiner.error(held_out, stitched)}
    metrics: dict[str, Any] = {name: [None, None] for name in quality.QUALITIES}
    metrics |= {"phase_mae_rad": None, "ssim_phase_2pi": None, "phase_vacuous": None}
    metrics |= _own_errors(patches, dataset)
    metrics |= {"diffraction_error_stitched": error, "flat": of_flat}
    poor = error > _NO_BETTER * of_flat
    metrics |= {"no_better_than_flat": poor, "unrefined": unrefined}
    metrics["hint"] = _orientation_hint(dataset) if poor else None
    return [whole], metrics


def _orientation_hint(dataset: Dataset) -> str | None:
    """Which settings of the layout make an object of patterns that make none as they are; None for none."""
    probe = torch.tensor(np.asarray(dataset.probe if dataset.given_probe is None else dataset.given_probe))
    valid = None if dataset.valid is None else torch.tensor(np.asarray(dataset.valid))
    amplitude = torch.tensor(np.asarray(dataset.train.amplitude)[:, 0])
    positions = torch.tensor(np.asarray(dataset.train.positions_px)[:, 0])
    changes = zip(_ORIENTATION, orientation_that_fits(amplitude, positions, probe, valid), strict=True)
    wanted = [f"data.layout.{name}=true" for name, change in changes if change]
    return f"the scan fits with {' '.join(wanted)}" if wanted else None


def _own_errors(patches: Tensor | None, dataset: Dataset) -> dict[str, float | None]:
    """sum |A_pred - X| / sum X, each pattern as its own patch explains it; null without patches."""
    names = ("diffraction_error_train", "diffraction_error_validation", "diffraction_error")
    errors: dict[str, float | None] = dict.fromkeys(names)
    if patches is None:
        return errors
    misfit, total = _amplitude_errors(patches, dataset.scan().amplitude, dataset.probe, dataset.valid)
    if dataset.test_objects is not None:
        return errors | {"diffraction_error": float(misfit.sum() / total.sum())}
    # scan() is the three splits in this order, so their errors are cut from one pass.
    ends = np.cumsum([len(split.amplitude) for split in (dataset.train, dataset.validation)])
    parts = zip(names, np.split(misfit, ends), np.split(total, ends), strict=True)
    return errors | {name: float(part.sum() / whole.sum()) for name, part, whole in parts}


def _amplitude_errors(
    patches: Tensor, amplitude: Array, probe: Array, valid: Array | None
) -> tuple[Array, Array]:
    """sum |A_pred - X| and sum X of each sample, float64 (n,)."""
    illumination = torch.from_numpy(np.array(probe, dtype=np.complex64))
    misfit, total = [], []
    for start in range(0, len(patches), _PATTERNS_AT_ONCE):
        chunk = slice(start, start + _PATTERNS_AT_ONCE)
        predicted = diffraction_amplitude(patches[chunk], illumination).numpy()
        if valid is not None:
            predicted = predicted * valid
        measured = np.asarray(amplitude[chunk])
        misfit.append(np.abs(predicted - measured).sum(axis=(1, 2, 3), dtype=np.float64))
        total.append(measured.sum(axis=(1, 2, 3), dtype=np.float64))
    return np.concatenate(misfit), np.concatenate(total)


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
