"""A study of run directories written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from run_directories import RunWriter, write_run


@pytest.fixture
def study_dir(tmp_path: Path) -> Path:
    return tmp_path / "stage_a"


@pytest.fixture
def add_run(study_dir: Path) -> RunWriter:
    """Write a run into the study: ``add_run("stable", 3, state="collapsed")``."""

    def add(arm: str, seed: int, **what: Any) -> Path:
        return write_run(study_dir, arm, seed, **what)

    return add
