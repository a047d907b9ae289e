"""The example of tuning, with the real sweeper."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
TINY = [
    "data=grid_lines_tiny",
    "trainer.max_epochs=1",
    "refine=none",
    "logger=none",
    "hydra.sweeper.n_trials=1",
]


def test_a_search_goes_on_from_its_storage(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed: pip install ptychofno[optuna]")
    import optuna

    search = ["-m", "hydra/sweeper=optuna", "--config-dir", str(ROOT / "docs/tuning"), "+study=tune"]
    command = [sys.executable, "-m", "ptychofno.train", *search, *TINY]
    for started in (1, 2):
        subprocess.run(command, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
        trials = optuna.load_study("tune", f"sqlite:///{tmp_path}/tune.db").trials
        assert len(trials) == started and all(0 < trial.value <= 1 for trial in trials)
    found = yaml.safe_load((tmp_path / "outputs/optimization_results.yaml").read_text())
    assert found["best_value"] == max(trial.value for trial in trials)
    assert set(found["best_params"]) == {"optimizer.lr", "model.hidden_channels"}
