"""A network judged as a run's settings say, and what is kept of that."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from ptychofno import artifacts
from ptychofno.evaluation.evaluate import Dataset, Evaluation, evaluate, save_reconstruction
from ptychofno.evaluation.figures import draw_reconstruction


class EvaluationSettings(Protocol):
    """See ``evaluate``."""

    @property
    def stitch(self) -> str: ...
    @property
    def sync_rounds(self) -> int: ...
    @property
    def phase_alignment(self) -> str: ...


class Plan(Protocol):
    """What of a run's settings says how its network is judged."""

    @property
    def infer_batch_size(self) -> int: ...
    @property
    def evaluation(self) -> EvaluationSettings: ...


def judge(model: nn.Module, dataset: Dataset, plan: Plan, device: torch.device | str) -> Evaluation:
    """``evaluate`` with the settings of ``plan``; raises as it does."""
    return evaluate(
        model,
        dataset,
        infer_batch_size=plan.infer_batch_size,
        stitch=plan.evaluation.stitch,
        sync_rounds=plan.evaluation.sync_rounds,
        phase_alignment=plan.evaluation.phase_alignment,
        device=device,
    )


def write_evaluation(directory: Path, evaluation: Evaluation, title: str) -> None:
    """Write metrics, object and picture into ``directory``, which exists."""
    artifacts.write_json(directory / artifacts.METRICS, evaluation.metrics)
    save_reconstruction(directory / artifacts.RECONSTRUCTION, evaluation)
    draw_reconstruction(directory / artifacts.RECONSTRUCTION_FIGURE, evaluation, title)
