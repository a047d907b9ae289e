"""Runs of seconds for tests of what is around the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ptychofno.config.composition import compose
from ptychofno.runs.standing import record_of, weights_of
from ptychofno.train import train

QUICK = [
    "data=grid_lines_tiny",
    "trainer.max_epochs=1",
    "model.hidden_channels=2",
    "logger=none",
    "refine=none",
]


def run(*overrides: str) -> None:
    """A run without what only its command line does."""
    train(compose(overrides))


def weights(run_dir: Path, which: str) -> dict[str, Any]:
    """The state dict of a run's ``best``, ``last`` or ``judged`` weights, or of ``epoch=N``."""
    file = weights_of(run_dir, record_of(run_dir), which)
    assert file is not None
    content = torch.load(file, weights_only=True)
    return dict(content.get("state_dict", content))
