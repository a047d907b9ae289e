"""Runs of seconds for tests of what is around the training."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.image import imsave

from ptychofno.config.composition import compose
from ptychofno.runs.trained import record_of, weights_of
from ptychofno.train import train


@contextmanager
def without_pictures() -> Iterator[None]:
    """Drawing takes longer than training; it is tested with the pictures, and by whole commands."""

    def leave_a_pixel(path: Path, *_: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        imsave(path, np.zeros((1, 1, 3), np.uint8))

    with pytest.MonkeyPatch.context() as patch:
        import_module("ptychofno.train.run")
        patch.setattr(sys.modules["ptychofno.evaluation.evaluate"], "draw_reconstruction", leave_a_pixel)
        patch.setattr("ptychofno.train.run.draw_curves", leave_a_pixel)
        yield


def run(*overrides: str) -> None:
    """A run without what only its command line does, and without pictures."""
    with without_pictures():
        train(compose(overrides))


def weights(run_dir: Path, which: str) -> dict[str, Any]:
    """The state dict of a run's ``best``, ``last`` or ``judged`` weights, or of ``epoch=N``."""
    file = weights_of(run_dir, record_of(run_dir), which)
    assert file is not None
    content = torch.load(file, weights_only=True)
    return dict(content.get("state_dict", content))
