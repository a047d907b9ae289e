"""Runs of seconds for tests of what is around the training."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imsave

from ptychofno import evaluation
from ptychofno.config.composition import compose
from ptychofno.train import train


@contextmanager
def without_pictures() -> Iterator[None]:
    """Drawing takes longer than training; it is tested with the pictures, and by whole commands."""

    def leave_a_pixel(path: Path, *_: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        imsave(path, np.zeros((1, 1, 3), np.uint8))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["ptychofno.evaluation.judge"], "draw_reconstruction", leave_a_pixel)
        patch.setattr(evaluation, "draw_curves", leave_a_pixel)
        yield


def run(*overrides: str) -> None:
    """A run without what only its command line does, and without pictures."""
    with without_pictures():
        train(compose(overrides))
