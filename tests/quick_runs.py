"""Runs of seconds for tests of what is around the training."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ptychofno import evaluation
from ptychofno.config.composition import compose
from ptychofno.train import train


@contextmanager
def without_pictures() -> Iterator[None]:
    """Drawing takes longer than training; it is tested with the pictures, and by whole commands."""

    def leave_empty(path: Path, *_: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["ptychofno.evaluation.judge"], "draw_reconstruction", leave_empty)
        patch.setattr(evaluation, "draw_curves", leave_empty)
        yield


def run(*overrides: str) -> None:
    """A run without what only its command line does, and without pictures."""
    with without_pictures():
        train(compose(overrides))
