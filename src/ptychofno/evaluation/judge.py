"""The evaluation that a run's settings ask for, and the files that are kept of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ptychofno.evaluation.dataset import Dataset
from ptychofno.evaluation.evaluate import Evaluation, evaluate, save_reconstruction
from ptychofno.evaluation.figures import draw_reconstruction
from ptychofno.runs import artifacts


def judge(
    model: nn.Module | None,
    dataset: Dataset,
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
        stitch=plan.evaluation.stitch,
        sync_rounds=plan.evaluation.sync_rounds,
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
