"""From a network, or none, to reconstructed objects, how good they are, and what is kept of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ptychofno import metrics as quality
from ptychofno.data.dataset import Array, PtychoDataset
from ptychofno.evaluation.figures import draw_reconstruction
from ptychofno.evaluation.illumination import lit_pixels, scanned_region, weight_of
from ptychofno.evaluation.infer import predict
from ptychofno.evaluation.measured import evaluate_measured
from ptychofno.evaluation.overlap import Refinement, Refiner
from ptychofno.evaluation.simulated import evaluate_simulated
from ptychofno.evaluation.stitch import NEARLY_SETTLED_RAD, SETTLED_RAD, Stitched, stitch
from ptychofno.runs import artifacts


@dataclass(frozen=True)
class Evaluation:
    """How good a network is, and the first object it reconstructed."""

    metrics: dict[str, Any]
    """Plain values: those of ``ptychofno.metrics.compare`` on the lit pixels of the scanned region, the mean
    over test objects, null without a truth; ``unrefined`` holds them before refinement.

    ``diffraction_error_stitched`` (measured data): sum |A_pred - X| / sum X of the test patterns as an object
    predicts them that is made of all the others. ``flat``: the same of a flat object with the same probe;
    ``no_better_than_flat``: whether the first is above 0.9 of it. ``diffraction_error``: that of the
    network's own patches on the test patterns, for measured data also ``…_validation`` and ``…_train``. A
    patch is predicted from the very pattern that it is compared with, and may have fitted its noise, or a
    wrong probe.
    """
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
    """Complex64 (N, N), or (M, N, N) of M modes, as given or as refined with the first object."""
    rounds: Sequence[Sequence[float]] = ()
    """For each object the relative error of its patterns' amplitudes, at the start and after every round."""
    object_pixel_m: float | None = None
    """Size of an object pixel; None where nothing tells it."""


def evaluate(
    model: nn.Module | None,
    dataset: PtychoDataset,
    *,
    infer_batch_size: int,
    phase_alignment: str,
    device: torch.device | str,
    refinement: Refinement | None = None,
    each_round: Callable[[int, float], None] = lambda number, misfit: None,
    sparse: bool = False,
) -> Evaluation:
    """Predict patches, stitch them, refine the object and compare it with what is known.

    Args:
        model: see ``predict_patches``; it is left on ``device``. None starts from a flat object.
        dataset: with ``test_objects`` its test scan is compared with them, object by object;
            without, every pattern of the measured scan makes the object.
        infer_batch_size, phase_alignment: settings of a run.
        device: where the network and the rounds of overlap compute.
        refinement: what follows stitching; None for nothing.
        each_round: called with the number and the error of every round.
        sparse: let a refinement begin from the patches of some patterns, see ``infer.spread_out``.

    Raises:
        ValueError: for an unknown ``phase_alignment``, or a prediction that is not finite.
    """
    if phase_alignment not in quality.PHASE_ALIGNMENTS:
        choices = ", ".join(quality.PHASE_ALIGNMENTS)
        raise ValueError(f"evaluation.phase_alignment={phase_alignment!r}: choose one of {choices}")
    probe = np.array(dataset.probe)
    settled_rad = SETTLED_RAD if refinement is None else NEARLY_SETTLED_RAD
    put_together = partial(stitch, probe=weight_of(probe), settled_rad=settled_rad)
    refiner = Refiner(probe, dataset.valid, device, refinement, each_round)
    predicted = None
    if model is not None:
        sparse = sparse and refinement is not None
        predicted = predict(model, dataset, batch_size=infer_batch_size, device=device, sparse=sparse)
    target = None
    if dataset.test_objects is None:
        found, metrics = evaluate_measured(predicted, dataset, put_together, refiner)
    else:
        target = np.array(dataset.test_objects[0])
        found, metrics = evaluate_simulated(predicted, dataset, put_together, refiner, phase_alignment)
    first = found[0].stitched
    region = scanned_region(first.illumination)
    return Evaluation(
        metrics=metrics,
        prediction=_without_free_phase(first, target, region, phase_alignment),
        target=target,
        illumination=first.illumination,
        region=region,
        phase_alignment=phase_alignment,
        probe=found[0].probe,
        rounds=[one.misfit for one in found],
        object_pixel_m=dataset.object_pixel_m,
    )


def judge(
    model: nn.Module | None,
    dataset: PtychoDataset,
    plan: Any,
    device: torch.device | str,
    each_round: Callable[[int, float], None] = lambda number, misfit: None,
    sparse: bool = False,
) -> Evaluation:
    """``evaluate`` as a run's settings (infer_batch_size, evaluation, refine) say; raises as it does."""
    return evaluate(
        model,
        dataset,
        infer_batch_size=plan.infer_batch_size,
        phase_alignment=plan.evaluation.phase_alignment,
        device=device,
        refinement=plan.refine(measured=dataset.test_objects is None),
        each_round=each_round,
        sparse=sparse,
    )


def write_evaluation(directory: Path, evaluation: Evaluation, title: str) -> None:
    """Write metrics, errors of the rounds, object and picture into ``directory``, which exists."""
    artifacts.write_json(directory / artifacts.METRICS, evaluation.metrics)
    if any(evaluation.rounds):
        artifacts.write_json(directory / artifacts.ROUNDS, {"error": evaluation.rounds})
    save_reconstruction(directory / artifacts.RECONSTRUCTION, evaluation)
    draw_reconstruction(directory / artifacts.RECONSTRUCTION_FIGURE, evaluation, title)


def save_reconstruction(path: Path | str, evaluation: Evaluation) -> None:
    """Write an NPZ file with what was reconstructed, in one step.

    Keys: ``prediction`` complex64 (H, W), its free phase removed; ``illumination`` float32
    (H, W); ``region`` int64 (2, 2), first and last-plus-one row and column of the scanned area;
    ``probe`` complex64 (N, N) or (M, N, N), refined where that was asked for; ``target`` complex64 (H, W)
    where there is a truth; ``object_pixel_m`` where it is known.
    """
    arrays: dict[str, Any] = {
        "prediction": evaluation.prediction,
        "illumination": evaluation.illumination,
        "region": np.array([[side.start, side.stop] for side in evaluation.region]),
    }
    optional = {"probe": evaluation.probe, "target": evaluation.target}
    arrays |= {name: array for name, array in optional.items() if array is not None}
    artifacts.write_with(path, partial(np.savez, **arrays))


def _without_free_phase(
    stitched: Stitched, target: Array | None, region: tuple[slice, slice], phase_alignment: str
) -> Array:
    """The object (H, W) turned, and with ``plane`` also unramped, onto the target or else onto 0."""
    compared = np.zeros(stitched.object.shape, dtype=np.bool_)
    compared[region] = lit_pixels(stitched.illumination)[region]
    phase = stitched.object * np.sqrt(stitched.illumination) * compared
    if target is not None:
        phase = phase * target.conj()
    correction = np.ones(phase.shape, dtype=np.complex128)
    if phase_alignment == "plane":
        correction = quality.phase_ramp(quality.phase_slopes(phase), phase.shape).conj()
    correction = correction * np.exp(-1j * np.angle((phase * correction).sum()))
    return np.asarray((stitched.object * correction).astype(np.complex64))
