"""Run directories written by hand: what training leaves behind, without training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from matplotlib.image import imsave

FLAT = 0.18
RunWriter = Callable[..., Path]


def settings(**changes: Any) -> dict[str, Any]:
    """A configuration; ``optimizer__lr=1`` sets ``optimizer.lr``."""
    config: dict[str, Any] = {
        "seed": 1,
        "run_dir": "somewhere",
        "loss": {"_target_": "ptychofno.training.MAELoss"},
        "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.001},
        "trainer": {"max_epochs": 4, "accelerator": "cpu"},
        "evaluation": {"phase_alignment": "plane"},
    }
    for key, value in changes.items():
        node = config
        *parts, last = key.split("__")
        for part in parts:
            node = node.setdefault(part, {})
        node[last] = value
    return config


def write_run(
    root: Path,
    arm: str,
    seed: int,
    *,
    state: str = "completed",
    losses: list[float | None] | None = None,
    loss: float = 0.01,
    ssim: float | None = 0.95,
    held_out_error: float | None = None,
    config: dict[str, Any] | None = None,
    overrides: list[str] | None = None,
    directory: str | None = None,
    size: int = 24,
    steps: int = 8,
    picture: bool = True,
    similarity: list[float] | None = None,
    **record: Any,
) -> Path:
    path = root / (directory or f"{arm}-seed{seed}")
    (path / ".hydra").mkdir(parents=True)
    end = FLAT if state == "collapsed" else loss
    losses = [FLAT, 0.1, end, end] if losses is None else losses
    entries = len(losses)
    (path / "run.json").write_text(
        json.dumps(
            {
                "state": state,
                "seed": seed,
                "dataset_key": "d5789a9880b9",
                "git_commit": "5f809ddf",
                "flat_baseline": FLAT,
                "parameters": 1000,
                "device": "CPU",
                "error": None,
                **record,
            }
        )
    )
    (path / "config.yaml").write_text(yaml.safe_dump(config or settings(seed=seed)))
    (path / ".hydra/overrides.yaml").write_text(yaml.safe_dump(overrides or [f"+arm={arm}", f"seed={seed}"]))
    history = {
        "epoch": list(range(1, entries + 1)),
        "step": list(range(4, 4 * entries + 1, 4)),
        "val_ssim": similarity or [None] * entries,
        "train_loss": losses,
        "val_loss": losses,
        "learning_rate": [1e-3] * entries,
        "grad_norm_median": [0.5] * entries,
        "grad_norm_max": [2.0] * entries,
        "seconds": [1.5] * entries,
    }
    (path / "history.json").write_text(json.dumps(history))
    pairs = {"ssim": [ssim, ssim], "mae": [0.1, 0.2], "psnr": [30.0, 25.0], "frc50": [0.3, 0.2]}
    (path / "metrics.json").write_text(
        json.dumps({**pairs, "ssim_phase_2pi": ssim, "diffraction_error_stitched": held_out_error})
    )
    norms = {"median": 0.5 + steps / 2, "p99": steps, "max": steps}
    (path / "stats.json").write_text(json.dumps({"grad_norm": norms}))
    if picture:
        pixels = np.random.default_rng(seed).random((size, 2 * size))
        imsave(path / "reconstruction.png", pixels, format="png")
    return path


def write_flat(path: Path, error: float, **source: Any) -> Path:
    """A reconstruction from a flat object, as ``reconstruct flat`` leaves it."""
    path.mkdir(parents=True)
    record = {"run_dir": None, "dataset_key": "d5789a9880b9", "settings": ["refine.rounds=30"], **source}
    (path / "source.json").write_text(json.dumps(record))
    (path / "config.yaml").write_text(yaml.safe_dump(settings()))
    metrics = {"ssim": [None, None], "diffraction_error_stitched": error, "flat": 0.45}
    (path / "metrics.json").write_text(json.dumps(metrics))
    return path
