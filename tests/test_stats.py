"""A run in numbers."""

from __future__ import annotations

import torch

from ptychofno.models import StablePtychoBlock
from ptychofno.runs.stats import NEAR_ZERO, epoch_fell_back, epoch_left_plateau, statistics, steps_to_ssim

HISTORY = {"epoch": [1, 2, 3], "val_loss": [0.3, 0.2, 0.21]}
METRICS = {"ssim": [0.9, None], "mae": [0.1, 0.2], "psnr": [20.0, 30.0]}


def of(**changes: object) -> dict:
    given = {
        "epochs": HISTORY,
        "grad_norms": [float(norm) for norm in range(101)],
        "diverged": False,
        "metrics": METRICS,
        "weights": {},
    }
    return statistics(**{**given, **changes})  # type: ignore[arg-type]


def test_losses_norms_and_metrics() -> None:
    stats = of()
    assert (stats["best_val_loss"], stats["final_val_loss"], stats["nan"]) == (0.2, 0.21, False)
    assert stats["grad_norm"] == {"median": 50.0, "p99": 99.0, "max": 100.0}
    assert stats["steps"] == 101
    assert {name: stats[name] for name in METRICS} == METRICS


def test_a_run_that_diverged_at_once() -> None:
    stats = of(epochs={key: [] for key in HISTORY}, grad_norms=[], diverged=True, metrics={})
    assert stats["nan"] and stats["best_val_loss"] is None and stats["grad_norm"]["max"] is None
    assert stats["ssim"] == [None, None]
    norms = [1.0, 3.0, float("nan")]  # the step that was not taken
    assert of(grad_norms=norms, diverged=True)["grad_norm"]["max"] == 3 and of(grad_norms=norms)["steps"] == 2


def test_the_best_loss_is_finite() -> None:
    stats = of(epochs={**HISTORY, "val_loss": [0.3, 0.2, float("nan")]}, diverged=True)
    assert stats["best_val_loss"] == 0.2


def test_leaving_the_plateau() -> None:
    assert epoch_left_plateau([1, 2, 3], [0.9, 0.8, 0.79], 1.0) == 3
    assert epoch_left_plateau([1, 2], [0.9, float("nan")], 1.0) is None


def test_steps_to_a_good_reconstruction() -> None:
    assert steps_to_ssim([9, 18], [0.7999, 0.8]) == 18
    assert steps_to_ssim([9, 18], [float("nan"), 0.7]) is None
    assert steps_to_ssim([9, 18], [None, None]) is None


def block_stats(block: torch.nn.Module) -> dict:
    return of(weights=torch.nn.ModuleDict({"first": block}).state_dict())


def test_gains_at_the_start_and_after_growth() -> None:
    layerscale = StablePtychoBlock(3, 2, layerscale_init=1e-3)
    zero_gamma = StablePtychoBlock(3, 2, layerscale_init=None)
    assert block_stats(layerscale)["stayed_near_zero"] and block_stats(zero_gamma)["stayed_near_zero"]
    with torch.no_grad():
        layerscale.layerscale[1] = -2 * NEAR_ZERO
    stats = block_stats(layerscale)
    assert stats["stayed_near_zero"] is False
    (gain,) = [layer for layer in stats["layers"] if layer["kind"] == "layerscale"]
    assert gain["name"] == "first.layerscale"
    assert (round(gain["min"], 6), round(gain["max"], 6)) == (1e-3, 2 * NEAR_ZERO)
    (norm,) = [layer for layer in stats["layers"] if layer["kind"] == "norm_weight"]
    assert (norm["min"], norm["mean"], norm["max"]) == (1, 1, 1) and not norm["stayed_near_zero"]


def test_one_grown_block_is_enough_and_a_network_without_gains_has_no_answer() -> None:
    quiet, loud = StablePtychoBlock(2, 2), StablePtychoBlock(2, 2, layerscale_init=0.5)
    weights = torch.nn.ModuleList([quiet, loud]).state_dict()
    assert of(weights=weights)["stayed_near_zero"] is False
    assert of()["stayed_near_zero"] is None and of()["layers"] == []


def test_falling_back_on_the_plateau() -> None:
    assert epoch_fell_back([1, 2, 3, 4], [0.95, 0.7, 0.85, 0.91], 1.0) == 4
    assert epoch_fell_back([1, 2, 3], [0.95, 0.95, 0.95], 1.0) is None, "it never left"
    assert epoch_fell_back([1, 2, 3], [0.95, 0.7, 0.9], 1.0) is None
