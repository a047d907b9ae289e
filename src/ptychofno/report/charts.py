"""The figures of the report: arms in rows, one dot per run; curves with bands over the seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ptychofno.display.drawing import BLUE, INK, MUTED, RED, SERIES, axes_at, set_scale, tidy
from ptychofno.report.arms import Arm
from ptychofno.report.evidence import survival
from ptychofno.report.runs import Measure
from ptychofno.report.study import Study
from ptychofno.report.svg import inline_svg, page_figure
from ptychofno.report.wording import formatted, one_line, percent

Numbers = NDArray[np.float64]

WIDTH = 1120.0
# Pixels: names on the left; one row per arm; head above and foot below the rows.
_NAMES, _ROW, _HEAD, _FOOT = 210.0, 28.0, 34.0, 30.0
_SMALL, _NORMAL = 12, 13
_HUES = [colour for colour in SERIES if colour != RED]  # red is for crashed runs
QUANTITIES = {
    "val_loss": "validation loss",
    "grad_norm_median": "gradient norm",
    "learning_rate": "learning rate",
}


def crash_rates(study: Study) -> str:
    """Crash rate of every arm with Wilson's interval, the control's drawn through all rows."""
    arms = study.trained
    figure, (axes,), tips = _rows(study, arms, 760.0, 1, right=110.0)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], [percent(share) for share in (0, 0.25, 0.5, 0.75, 1)])
    if study.control and study.control.results:
        axes.axvspan(*study.control.crash_interval, color=MUTED, alpha=0.12, linewidth=0)
    for row, arm in enumerate(arms):
        if not arm.results:
            axes.text(0, row, "no result", color=MUTED, fontsize=_NORMAL, va="center")
            continue
        colour = RED if arm.crashed else BLUE
        axes.plot(arm.crash_interval, [row, row], color=colour, linewidth=2.5, alpha=0.55)
        axes.plot(arm.crash_rate, row, "o", color=colour, markersize=9)
        counts = f"{arm.crashed} of {len(arm.results)}"
        axes.text(1.03, row, counts, color=INK, fontsize=_NORMAL, va="center")
    return inline_svg(figure, "Crash rate of each arm with its 95 % interval", tips)


def measures(study: Study, chosen: Sequence[Measure]) -> str:
    """One column per measure, one row per arm, one dot per run; bar and tick: quartiles and median."""
    figure, columns, tips = _rows(study, study.arms, WIDTH, len(chosen))
    for axes, measure in zip(columns, chosen, strict=True):
        good = np.concatenate([arm.values(measure.key) for arm in study.arms])
        every = np.array(
            [run.measures.get(measure.key, math.nan) for arm in study.arms for run in arm.results]
        )
        axes.set_title(measure.label, fontsize=_NORMAL, fontweight="bold", color=INK, loc="left", pad=17)
        better = "← better" if measure.smaller_is_better else "better →"
        axes.text(0, 1, better, transform=axes.transAxes, fontsize=_SMALL, color=MUTED, va="bottom")
        _set_limits(axes, good if good.size else every[np.isfinite(every)], measure.smaller_is_better)
        for row, arm in enumerate(study.arms):
            _draw_runs(axes, row, arm, measure, tips)
    return inline_svg(figure, "Measures of every run: a dot per seed, quartiles and median", tips)


def loss_overview(study: Study) -> str:
    """Median validation loss of all arms."""
    found = [(arm, *_seeds(arm, "val_loss")) for arm in study.arms]
    known = [(arm, epochs, np.nanmedian(losses, axis=0)) for arm, epochs, losses in found if epochs.size]
    label = "Median validation loss of all arms by epoch"
    return _overview(study, known, label, flat=_flat(study.arms)) if known else ""


def off_plateau(study: Study) -> str:
    """Share of all runs of an arm that are still on the flat plateau, by epoch, after Kaplan and Meier."""
    found = [(arm, *survival(arm.plateau)[:2]) for arm in study.trained if len(arm.plateau)]
    known = [(arm, np.append(0, epochs), np.append(1, share)) for arm, epochs, share in found]
    label = "Share of runs still on the flat plateau by epoch"
    return _overview(study, known, label, heights=(0.0, 1.0), drawstyle="steps-post") if known else ""


def _overview(
    study: Study,
    known: Sequence[tuple[Arm, Numbers, Numbers]],
    label: str,
    flat: float = math.nan,
    heights: Sequence[float] = (),
    **every: Any,
) -> str:
    """A line per arm in one figure, named in the order in which they end; ``heights`` are always in it."""
    height = max(360.0, 60.0 + 20.0 * len(known))
    figure = page_figure(WIDTH, height)
    axes = _panel(figure, 52.0, 14.0, WIDTH - 300.0, height - 48.0)
    for index, (arm, epochs, values) in enumerate(known):
        wide = arm is study.verdict.candidate or arm is study.control
        style: dict[str, Any] = {"linewidth": 2.8 if wide else 1.6, "label": one_line(arm.name, 30), **every}
        style["linestyle"] = "-" if index < len(_HUES) else "--"
        _draw_line(axes, epochs, values, _HUES[index % len(_HUES)], **style)
    lines = axes.get_lines()
    axes.update_datalim([(1.0, one) for one in heights], updatex=False)
    _finish([axes], flat)
    lines.sort(key=lambda line: -np.asarray(line.get_ydata(), dtype=np.float64)[-1])
    legend = axes.legend(handles=lines, loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    for name in legend.get_texts():
        name.set(color=INK, fontsize=_NORMAL)
    return inline_svg(figure, label)


def curves(study: Study) -> list[tuple[Arm, str]]:
    """For every arm loss, gradient norm and learning rate by epoch; axes are common to all arms.

    Band: from the smallest to the largest seed. The control is drawn into the figures of all others.
    """
    figures = [page_figure(WIDTH, 150.0) for _ in study.trained]
    for column, key in enumerate(QUANTITIES):
        panels = [_panel(figure, column * 379.0 + 54.0, 10.0, 300.0, 114.0) for figure in figures]
        for axes, arm in zip(panels, study.trained, strict=True):
            if study.control and arm is not study.control:
                epochs, values = _seeds(study.control, key)
                _draw_line(axes, epochs, np.nanmedian(values, axis=0), MUTED, linewidth=1.4, alpha=0.75)
            _draw_arm(axes, arm, key)
        _finish(panels, _flat(study.trained) if key == "val_loss" else math.nan)
    label = "Validation loss, gradient norm and learning rate of {} by epoch"
    pairs = zip(study.trained, figures, strict=True)
    return [(arm, inline_svg(figure, label.format(arm.name))) for arm, figure in pairs]


def _rows(
    study: Study, arms: Sequence[Arm], width: float, count: int, right: float = 0.0
) -> tuple[Figure, list[Axes], dict[str, str]]:
    """A figure with a row for each arm, ``count`` panels beside their names, and the names in full."""
    height = _HEAD + len(arms) * _ROW + _FOOT
    figure, tips = page_figure(width, height), {}
    across = (width - _NAMES - right) / count
    panels = [
        _panel(figure, _NAMES + column * across + 8, _HEAD, across - 38, len(arms) * _ROW)
        for column in range(count)
    ]
    for axes in panels:
        axes.set_ylim(len(arms) - 0.5, -0.5)
        axes.set_yticks([])
        axes.tick_params(length=0)
        axes.spines[["left", "bottom"]].set_visible(False)
    for row, arm in enumerate(arms):
        weight = "bold" if arm is study.verdict.candidate else "normal"
        name = figure.text(
            0, 1 - (_HEAD + (row + 0.5) * _ROW) / height, one_line(arm.name, 29), gid=f"name{row}"
        )
        name.set(fontsize=_NORMAL, color=INK, va="center", fontweight=weight)
        tips[f"name{row}"] = arm.name
    return figure, panels, tips


def _panel(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at pixels of the page."""
    axes = axes_at(figure, left / 72, top / 72, width / 72, height / 72)
    tidy(axes, _SMALL)
    axes.tick_params(length=0, labelcolor=MUTED)
    return axes


def _set_limits(axes: Axes, values: Numbers, logarithmic: bool) -> None:
    if not values.size:
        axes.set_xticks([])
        axes.text(0, 0.5, "not known", transform=axes.transAxes, color=MUTED, fontsize=_NORMAL)
        return
    axes.update_datalim([(value, 0) for value in values])
    axes.margins(x=0.08)
    if logarithmic:
        set_scale(axes, values, "x")
    if axes.get_xscale() == "linear":
        axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    axes.autoscale_view(scaley=False)
    axes.set_xlim(axes.get_xlim())


def _draw_runs(axes: Axes, row: int, arm: Arm, measure: Measure, tips: dict[str, str]) -> None:
    summary = arm.summary(measure.key)
    if summary.count:
        axes.plot(
            [summary.low, summary.high],
            [row, row],
            color=BLUE,
            linewidth=9,
            alpha=0.22,
            solid_capstyle="butt",
        )
        axes.plot([summary.median] * 2, [row - 0.29, row + 0.29], color=INK, linewidth=1.6)
    low, high = axes.get_xlim()
    for run in arm.results:
        value = run.measures.get(measure.key, math.nan)
        if not math.isfinite(value):
            continue
        style: dict[str, Any] = {"color": BLUE if run.succeeded else RED, "alpha": 0.8, "markersize": 7}
        if low <= value <= high:
            (dot,) = axes.plot(value, row, "o", fillstyle="full" if run.succeeded else "none", **style)
        else:  # beyond the axis: a triangle at its end
            at, mark = (0.0, "<") if value < low else (1.0, ">")
            (dot,) = axes.plot(at, row, mark, transform=axes.get_yaxis_transform(), **style)
        dot.set_gid(f"dot{len(tips)}")
        about = f"{arm.name}, seed {run.seed}: {formatted(value, measure.form)} ({run.state})"
        tips[f"dot{len(tips)}"] = about


def _draw_arm(axes: Axes, arm: Arm, key: str) -> None:
    epochs, values = _seeds(arm, key)
    if epochs.size:
        low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
        axes.fill_between(epochs, low, high, color=BLUE, alpha=0.16, linewidth=0)
        _draw_line(axes, epochs, np.nanmedian(values, axis=0), BLUE, linewidth=1.9)
    epochs, values = _seeds(arm, "grad_norm_max")
    if key == "grad_norm_median" and epochs.size:
        _draw_line(axes, epochs, np.nanmax(values, axis=0), BLUE, linewidth=1, linestyle=":", alpha=0.8)
    for run in arm.results:
        if not run.succeeded:
            _draw_line(axes, run.epochs, run.curves[key], RED, linewidth=1.2)


def _draw_line(axes: Axes, epochs: Numbers, values: Numbers, colour: str, **style: Any) -> None:
    """A line with gaps where there is no number; with dots where there are few epochs."""
    mark: dict[str, Any] = {"marker": "o", "markersize": 3} if epochs.size <= 2 else {}
    axes.plot(epochs, values, color=colour, **mark, **style)


def _finish(panels: Sequence[Axes], flat: float) -> None:
    """One scale for all panels that holds what is drawn in any; a dashed line for the flat object's loss."""
    if math.isfinite(flat):
        for axes in panels:
            axes.axhline(flat, color=MUTED, linestyle=(0, (5, 4)), linewidth=1.2)
    corners = np.concatenate([axes.dataLim.get_points() for axes in panels])
    heights = corners[np.isfinite(corners).all(axis=1), 1]
    epochs = corners[np.isfinite(corners).all(axis=1), 0]
    first, last = min([1.0, *epochs]), max([1.0, *epochs])
    for axes in panels:
        axes.update_datalim([(1.0, height) for height in heights], updatex=False)
        axes.margins(y=0.08)
        set_scale(axes, heights)
        if axes.get_yscale() == "linear":
            axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        axes.autoscale_view(scalex=False)
        axes.set_xlim(first - 0.5, last + 0.5)


def _flat(arms: Sequence[Arm]) -> float:
    """The flat object's loss where all runs agree on it."""
    found = np.array([run.flat_baseline for arm in arms for run in arm.results])
    found = found[np.isfinite(found)]
    return float(found[0]) if found.size and np.ptp(found) <= 1e-4 * abs(found[0]) else math.nan


def _seeds(arm: Arm, key: str) -> tuple[Numbers, Numbers]:
    """Epochs (n,) and a quantity (runs, n) of the successful runs, where one of them has it."""
    longest = max(arm.successes, key=lambda run: run.epochs.size, default=None)
    if longest is None:
        return np.empty(0), np.empty((1, 0))
    table = np.full((len(arm.successes), longest.epochs.size), np.nan)
    for row, run in zip(table, arm.successes, strict=True):
        row[: run.epochs.size] = run.curves.get(key, math.nan)
    known = np.isfinite(table).any(axis=0) & np.isfinite(longest.epochs)
    return longest.epochs[known], table[:, known]
