"""How a training went: losses, learning rate and gradient norms over epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ptychofno.display.drawing import (
    BLUE,
    INK,
    MUTED,
    ORANGE,
    RED,
    new_figure,
    save_figure,
    set_scale,
    tidy,
    write_title,
)

History = Mapping[str, Sequence[float | None]]


def draw_curves(
    path: Path | str,
    history: History | None,
    flat_baseline: float | None,
    title: str,
    rounds: Sequence[Sequence[float]] = (),
    steps: Sequence[Sequence[float]] = (),
) -> None:
    """Losses, learning rate and gradient norms over epochs as a PNG file, written in one step.

    Args:
        history: one list per key, one entry per epoch; None and NaN leave gaps. An axis is
            logarithmic where its values are positive and span more than a factor of 3. None where
            nothing was trained.
        flat_baseline: validation loss of the best constant object, drawn as a dashed line.
        rounds: for each object the error of its patterns at the start of refinement and after every round.
        steps: rows of epoch, step, loss, gradient norm and more; drawn pale behind the epochs.
    """
    figure = new_figure(10.0, 6.8 if history else 3.6)
    write_title(figure, title)
    area = {"left": 0.115, "right": 0.98}
    refined = [misfit for misfit in rounds if misfit]
    if not history:
        _draw_rounds(
            figure.add_subplot(figure.add_gridspec(1, 1, top=0.76, bottom=0.16, **area)[0, 0]), refined
        )
        return save_figure(path, figure)
    top = figure.add_gridspec(1, 1, top=0.87, bottom=0.49, **area)
    below = figure.add_gridspec(1, 3 if refined else 2, top=0.345, bottom=0.085, wspace=0.36, **area)

    axes = figure.add_subplot(top[0, 0])
    _plot_steps(axes, steps, 2)
    _plot(axes, history, "train_loss", "training", BLUE)
    _plot(axes, history, "val_loss", "validation", RED)
    if flat_baseline is not None and np.isfinite(flat_baseline):
        axes.axhline(flat_baseline, color=MUTED, linestyle=(0, (5, 3)), linewidth=1.4, label="flat object")
    _finish(axes, "loss")
    _from_the_first_step(axes, steps)

    axes = figure.add_subplot(below[0, 0])
    _plot(axes, history, "learning_rate", "learning rate", BLUE)
    _finish(axes, "learning rate")

    axes = figure.add_subplot(below[0, 1])
    _plot_steps(axes, steps, 3)
    _plot(axes, history, "grad_norm_max", "max", RED)
    _plot(axes, history, "grad_norm_clipped_max", "max, clipped", ORANGE, linestyle="--")
    _plot(axes, history, "grad_norm_median", "median", BLUE)
    _finish(axes, "gradient norm")
    _from_the_first_step(axes, steps)
    if refined:
        _draw_rounds(figure.add_subplot(below[0, 2]), refined)
    return save_figure(path, figure)


def _draw_rounds(axes: Axes, rounds: Sequence[Sequence[float]]) -> None:
    for misfit in rounds:
        axes.plot(range(len(misfit)), misfit, color=BLUE, linewidth=2, marker="o", markersize=4)
    _finish(axes, "error of the patterns", "round of overlap")


def _plot(axes: Axes, history: History, key: str, label: str, colour: str, linestyle: str = "-") -> None:
    epochs = np.asarray(history["epoch"], dtype=np.float64)
    # None becomes NaN, which leaves a gap.
    values = np.asarray(history[key], dtype=np.float64)
    values[~np.isfinite(values)] = np.nan
    marker = "o" if len(epochs) <= 30 else "none"
    line = axes.plot(epochs, values, color=colour, label=label)[0]
    line.set(linestyle=linestyle, linewidth=2, marker=marker, markersize=4)
    if epochs.size:
        axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)


def _from_the_first_step(axes: Axes, steps: Sequence[Sequence[float]]) -> None:
    if steps:
        axes.set_xlim(0, 1.02 * steps[-1][0])


def _plot_steps(axes: Axes, steps: Sequence[Sequence[float]], column: int) -> None:
    """Those of epoch e lie between e - 1 and e, where what is said of the whole epoch stands."""
    if not steps:
        return
    rows = np.asarray(steps, dtype=np.float64)
    epochs, first, count = np.unique(rows[:, 0], return_index=True, return_counts=True)
    within = np.arange(len(rows)) - np.repeat(first, count)
    values = np.where(np.isfinite(rows[:, column]), rows[:, column], np.nan)
    x = np.repeat(epochs - 1, count) + (within + 1) / np.repeat(count, count)
    axes.plot(x, values, color=BLUE, alpha=0.3, linewidth=1, label="_steps")


def _finish(axes: Axes, quantity: str, over: str = "epoch") -> None:
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=np.float64) for line in axes.get_lines()])
    set_scale(axes, values)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_ylabel(quantity, fontsize=12, color=INK)
    axes.set_xlabel(over, fontsize=12, color=INK)
    tidy(axes, 11)
    if any(not str(line.get_label()).startswith("_") for line in axes.get_lines()[1:]):
        # Above the axes, where it hides no curve.
        style: dict[str, Any] = {"frameon": False, "fontsize": 11, "labelcolor": INK, "handlelength": 1.6}
        axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), borderaxespad=0.2, ncols=3, **style)
