"""``stats.json``: one run in the numbers that published comparisons give of theirs; and when a run was flat.

Plain values and a state dict in, plain values out. ``null`` stands for what a run does not have: a
phase that cannot be judged, a network without gains, a plateau that was never left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

LEFT_PLATEAU_BELOW = 0.8
"""A run has left the flat plateau when its validation loss is below this share of the flat object's."""

FLAT_ABOVE = 0.9
"""A run is on the flat plateau, at its end or again, above this share of the flat object's loss."""

ALIKE_BELOW = 0.5
"""Below this contrast patches are all alike: those of a flat network have 0.03, of a good one 0.9 to 1.6."""

GOOD_SSIM = 0.8
"""The amplitude SSIM from which the field calls a reconstruction good."""

NEAR_ZERO = 1e-2
"""A gain stayed near zero while all its entries are below this: ten times the published initial value.

The normalised update has unit variance, so this gain adds one percent of its scale to what passes by.
"""

_GAINS = {"norm.weight": "norm_weight", "layerscale": "layerscale"}


def state_of(
    diverged: str | None, val_loss: Sequence[Any], baseline: float, contrast: Sequence[Any] | None = None
) -> str:
    """``diverged``, ``collapsed`` (ended on the flat plateau) or ``completed``.

    ``contrast`` is that between the layers' patches where an output module changes them. Its rounds bring the
    losses of all patches together that fit the same noise, so that there the loss alone does not tell.
    """
    if diverged is not None:
        return "diverged"
    alike = contrast is None or not contrast[-1] >= ALIKE_BELOW
    return "collapsed" if alike and val_loss[-1] > FLAT_ABOVE * baseline else "completed"


def statistics(
    *,
    epochs: Mapping[str, Sequence[Any]],
    grad_norms: Sequence[float],
    diverged: bool,
    metrics: Mapping[str, Any],
    weights: Mapping[str, Tensor],
) -> dict[str, Any]:
    """The statistics of one run.

    ``epochs`` is the history; ``grad_norms`` are those before clipping, one per step, not finite where a step
    could not be taken; ``metrics`` are pairs of amplitude and phase. ``weights`` are those where training
    ended: whether gains have grown is a question to the training.
    """
    val_loss = list(epochs["val_loss"])
    taken = [norm for norm in grad_norms if np.isfinite(norm)]
    layers = _gains(weights)
    summary: dict[str, float | None] = dict.fromkeys(("median", "p99", "max"))
    if taken:
        summary = {
            "median": float(np.median(taken)),
            "p99": float(np.percentile(taken, 99)),
            "max": float(np.max(taken)),
        }
    return {
        "best_val_loss": min((loss for loss in val_loss if np.isfinite(loss)), default=None),
        "final_val_loss": val_loss[-1] if val_loss else None,
        "nan": diverged,
        "steps": len(taken),
        "grad_norm": summary,
        **{name: metrics.get(name, [None, None]) for name in ("ssim", "mae", "psnr")},
        "layers": layers,
        "stayed_near_zero": _all_near_zero(layers),
    }


def epoch_left_plateau(
    epochs: Iterable[float], val_loss: Iterable[float], flat_baseline: float
) -> float | None:
    """The first epoch whose validation loss is below 0.8 of the flat object's; None when there is none."""
    limit = LEFT_PLATEAU_BELOW * flat_baseline
    return next((epoch for epoch, loss in zip(epochs, val_loss, strict=True) if loss < limit), None)


def epoch_fell_back(epochs: Sequence[int], val_loss: Sequence[float], flat_baseline: float) -> int | None:
    """The first epoch on the flat plateau again, after it had been left; None when there is none."""
    if (left := epoch_left_plateau(epochs, val_loss, flat_baseline)) is None:
        return None
    later = ((epoch, loss) for epoch, loss in zip(epochs, val_loss, strict=True) if epoch > left)
    return next((epoch for epoch, loss in later if loss > FLAT_ABOVE * flat_baseline), None)


def steps_to_ssim(steps: Iterable[float], similarity: Iterable[float | None]) -> float | None:
    """Optimizer steps after which the validation object first had an amplitude SSIM of 0.8.

    To the end of an epoch, which is when it is looked at; None when it never had.
    """
    pairs = zip(steps, similarity, strict=True)
    return next((step for step, found in pairs if found is not None and found >= GOOD_SSIM), None)


def gain_values(gain: Tensor) -> dict[str, float]:
    """Of the absolute values: least, mean and largest."""
    size = gain.detach().abs().double()
    return {"min": float(size.min()), "mean": float(size.mean()), "max": float(size.max())}


def _gains(weights: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """Every norm weight and layerscale: what decides how much a residual block adds."""
    found = []
    for name, value in weights.items():
        for ending, kind in _GAINS.items():
            if f".{name}".endswith(f".{ending}"):
                values = gain_values(value)
                quiet = values["max"] < NEAR_ZERO
                found.append({"name": name, "kind": kind, **values, "stayed_near_zero": quiet})
    return found


def _all_near_zero(gains: Sequence[Mapping[str, Any]]) -> bool | None:
    """Whether no block adds anything: a block is as quiet as the quieter of its norm and its layerscale."""
    blocks: dict[str, bool] = {}
    for gain in gains:
        block = gain["name"].removesuffix("layerscale").removesuffix("norm.weight")
        blocks[block] = blocks.get(block, False) or gain["stayed_near_zero"]
    return all(blocks.values()) if blocks else None
