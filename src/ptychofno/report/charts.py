"""The figures of the report: arms in rows, one dot per run; curves with bands over the seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from ptychofno.report.arms import Arm
from ptychofno.report.runs import Measure, Run
from ptychofno.report.study import Study
from ptychofno.report.svg import Axis, band, drawing, element, line, text, tick_label
from ptychofno.report.wording import percent, plain, shown

Numbers = NDArray[np.float64]

WIDTH = 1120.0
_NAMES, _ROW, _HEAD, _FOOT = 210.0, 28.0, 34.0, 30.0
_MOST_POINTS = 400


def crash_rates(study: Study) -> str:
    """Crash rate of every arm with Wilson's interval, the control's drawn through all rows."""
    arms, width = study.arms, 760.0
    axis = Axis(0.0, 1.0, _NAMES, width - 110)
    height = _HEAD + len(arms) * _ROW + _FOOT - 12
    parts = _vertical_grid(axis, [0, 0.25, 0.5, 0.75, 1], _HEAD - 8, height - _FOOT + 12, percent)
    if study.control and study.control.results:
        low, high = axis.at(np.array(study.control.crash_interval))
        rows = len(arms) * _ROW
        parts.append(
            element("rect", x=float(low), y=_HEAD, width=float(high - low), height=rows, class_="shade")
        )
    for arm, y in _rows(study, parts):
        if not arm.results:
            parts.append(text("no result", axis.start, y + 4, "muted"))
            continue
        low, high = axis.at(np.array(arm.crash_interval))
        middle = float(axis.at(arm.crash_rate))
        hue = "crash" if arm.crashed else "good"
        parts.append(element("line", x1=float(low), x2=float(high), y1=y, y2=y, class_=f"interval {hue}"))
        parts.append(element("circle", cx=middle, cy=y, r=5, class_=f"dot {hue}"))
        parts.append(text(f"{arm.crashed} of {len(arm.results)}", width - 90, y + 4, "number"))
    return drawing(width, height, *parts, label="Crash rate of each arm with its 95 % interval")


def measures(study: Study, chosen: Sequence[Measure]) -> str:
    """One column per measure, one row per arm, one dot per run; bar and tick: quartiles and median."""
    panel = (WIDTH - _NAMES) / len(chosen)
    height = _HEAD + len(study.arms) * _ROW + _FOOT
    parts: list[str] = []
    rows = list(_rows(study, parts))
    for column, measure in enumerate(chosen):
        left = _NAMES + column * panel
        values = [run.measures.get(measure.key, math.nan) for arm in study.arms for run in arm.results]
        good = [value for arm in study.arms for value in arm.values(measure.key)]
        axis = Axis.over(good or values, left + 8, left + panel - 30, log=measure.smaller_is_better)
        parts.append(text(measure.label, left + 8, 14, "heading"))
        better = "← better" if measure.smaller_is_better else "better →"
        parts.append(text(better, left + 8, 27, "muted small"))
        parts += _vertical_grid(axis, axis.ticks(3), _HEAD, height - _FOOT + 4, tick_label)
        if not np.isfinite(values).any():
            parts.append(text("not known", left + 8, _HEAD + 18, "muted"))
            continue
        for arm, y in rows:
            parts.append(_dots(arm, measure, axis, y))
    return drawing(WIDTH, height, *parts, label="Measures of every run: a dot per seed, quartiles and median")


def loss_overview(study: Study) -> str:
    """Median validation loss of all arms in one figure, each named at its end."""
    height, right = 360.0, 230.0
    curves = [(arm, *_seeds(arm, "val_loss")) for arm in study.arms if arm.successes]
    curves = [(arm, x, y) for arm, x, y in curves if x.size]
    if not curves:
        return ""
    medians = [np.nanmedian(y, axis=0) for _, _, y in curves]
    flat = _flat(study.arms)
    y_axis = Axis.over([*np.concatenate(medians), flat], height - 34, 14)
    x_axis = _epochs([x for _, x, _ in curves], 52, WIDTH - right)
    parts = _frame(x_axis, y_axis, flat)
    ends = []
    for (_, x, _), median in zip(curves, medians, strict=True):
        finite = np.flatnonzero(np.isfinite(median))
        ends.append((x_axis.at(x[finite[-1]]), y_axis.at(median[finite[-1]])))
    heights = _apart([float(y) for _, y in ends], 15.0, 14.0, height - 30)
    for (arm, x, _), median, end, y in zip(curves, medians, ends, heights, strict=True):
        hue = "winner" if arm is study.verdict.candidate else "control" if arm is study.control else "other"
        label_x = WIDTH - right + 26
        leader = f"M{float(end[0]) + 3:.1f} {float(end[1]):.1f}L{label_x - 5:.1f} {y - 4:.1f}"
        parts.append(
            element(
                "g",
                line(x_axis.at(x), y_axis.at(median), "wide"),
                line(x_axis.at(x), y_axis.at(median), "median"),
                element("path", d=leader, class_="leader"),
                text(plain(arm.name, 30), label_x, y, whole=arm.name),
                class_=f"series {hue}",
                tabindex=0,
            )
        )
    return drawing(WIDTH, height, *parts, label="Median validation loss of all arms by epoch")


def curves(study: Study) -> list[tuple[Arm, str]]:
    """For every arm validation loss, gradient norm and learning rate by epoch, on common axes."""
    pitch, height, left = WIDTH / 3, 150.0, 54.0
    panel = pitch - 30.0
    quantities = ("val_loss", "grad_norm_median", "learning_rate")
    data = {arm.name: {key: _seeds(arm, key) for key in quantities} for arm in study.arms}
    largest = {arm.name: _median(*_seeds(arm, "grad_norm_max")) for arm in study.arms}
    flat = _flat(study.arms)
    axes = {}
    for key in quantities:
        drawn = [y.ravel() for found in data.values() for _, y in [found[key]]]
        drawn += [y for _, y in largest.values()] if key == "grad_norm_median" else []
        drawn += [_thinned(run, key)[1] for arm in study.arms for run in arm.results]
        extra = [flat] if key == "val_loss" else []
        axes[key] = Axis.over([*np.concatenate([np.empty(0), *drawn]), *extra], height - 26, 10)
    every = [x for found in data.values() for x, _ in found.values()]
    every += [run.epochs for arm in study.arms for run in arm.results]
    reference = data.get(study.control.name) if study.control else None
    rows = []
    for arm in study.arms:
        parts = []
        for index, key in enumerate(quantities):
            start = index * pitch
            x_axis, y_axis = _epochs(every, start + left, start + panel), axes[key]
            inside = _frame(x_axis, y_axis, flat if key == "val_loss" else math.nan)
            if reference and arm is not study.control:
                x, y = reference[key]
                if x.size:
                    inside.append(line(x_axis.at(x), y_axis.at(np.nanmedian(y, axis=0)), "reference"))
            x, y = data[arm.name][key]
            if x.size:
                low, high = y_axis.at(np.nanmin(y, axis=0)), y_axis.at(np.nanmax(y, axis=0))
                inside.append(band(x_axis.at(x), low, high))
                inside.append(line(x_axis.at(x), y_axis.at(np.nanmedian(y, axis=0)), "median"))
            if key == "grad_norm_median":
                x, y = largest[arm.name]
                inside.append(line(x_axis.at(x), y_axis.at(y), "largest"))
            for run in arm.results:
                if not run.succeeded:
                    x, crashed = _thinned(run, key)
                    inside.append(line(x_axis.at(x), y_axis.at(crashed), "crashed"))
            parts.append(element("g", *inside))
        label = f"Validation loss, gradient norm and learning rate of {arm.name} by epoch"
        rows.append((arm, drawing(WIDTH, height, *parts, label=label)))
    return rows


def _rows(study: Study, parts: list[str]) -> list[tuple[Arm, float]]:
    """Arms and the heights of their rows; their names and the lines between them go to ``parts``."""
    found = []
    for index, arm in enumerate(study.arms):
        y = _HEAD + (index + 0.5) * _ROW
        hue = "winner" if arm is study.verdict.candidate else "control" if arm is study.control else ""
        parts.append(text(plain(arm.name, 29), 0, y + 4, f"name {hue}", whole=arm.name))
        found.append((arm, y))
    return found


def _vertical_grid(
    axis: Axis, ticks: Sequence[float], top: float, bottom: float, label: Callable[[float], str]
) -> list[str]:
    parts = []
    for tick in ticks:
        x = float(axis.at(tick))
        parts.append(element("line", x1=x, x2=x, y1=top, y2=bottom, class_="grid"))
        parts.append(text(label(tick), x, bottom + 15, "tick", "middle"))
    return parts


def _dots(arm: Arm, measure: Measure, axis: Axis, y: float) -> str:
    summary, parts = arm.summary(measure.key), []
    if summary.count:
        low, middle, high = (float(axis.at(one)) for one in (summary.low, summary.median, summary.high))
        parts.append(element("line", x1=low, x2=high, y1=y, y2=y, class_="quartiles"))
        parts.append(element("line", x1=middle, x2=middle, y1=y - 8, y2=y + 8, class_="middle"))
    for run in arm.results:
        entry = run.measures.get(measure.key, math.nan)
        if math.isfinite(entry):
            tip = f"{arm.name}, seed {run.seed}: {shown(entry, measure.form)} ({run.state})"
            parts.append(_dot(axis, entry, y, run.succeeded, element("title", escape(tip))))
    return "".join(parts)


def _dot(axis: Axis, value: float, y: float, good: bool, title: str) -> str:
    """A run; what lies beyond the axis is a triangle at its end."""
    if axis.low <= value <= axis.high:
        hue = "good" if good else "crash hollow"
        return element("circle", title, cx=float(axis.at(value)), cy=y, r=3.5, class_=f"dot {hue}")
    x, away = (axis.start, -1) if value < axis.low else (axis.end, 1)
    tip = f"M{x + 9 * away:.1f} {y:.1f}L{x + 3 * away:.1f} {y - 4:.1f}L{x + 3 * away:.1f} {y + 4:.1f}Z"
    return element("path", title, d=tip, class_="beyond")


def _frame(x_axis: Axis, y_axis: Axis, flat: float) -> list[str]:
    parts = []
    for tick in y_axis.ticks():
        y = float(y_axis.at(tick))
        parts.append(element("line", x1=x_axis.start, x2=x_axis.end, y1=y, y2=y, class_="grid"))
        parts.append(text(tick_label(tick), x_axis.start - 7, y + 4, "tick", "end"))
    for tick in x_axis.ticks(5):
        if tick == int(tick):
            parts.append(text(f"{tick:g}", float(x_axis.at(tick)), y_axis.start + 16, "tick", "middle"))
    if math.isfinite(flat):
        y = float(y_axis.at(flat))
        parts.append(element("line", x1=x_axis.start, x2=x_axis.end, y1=y, y2=y, class_="flat"))
    return parts


def _epochs(xs: Sequence[Numbers], start: float, end: float) -> Axis:
    last = max((float(x.max()) for x in xs if x.size and np.isfinite(x).all()), default=1.0)
    return Axis(0.5, max(last, 1.0) + 0.5, start, end)


def _flat(arms: Sequence[Arm]) -> float:
    """The flat object's loss where all runs agree on it."""
    found = np.array([run.flat_baseline for arm in arms for run in arm.results])
    found = found[np.isfinite(found)]
    return float(found[0]) if found.size and np.ptp(found) <= 1e-4 * abs(found[0]) else math.nan


def _seeds(arm: Arm, key: str) -> tuple[Numbers, Numbers]:
    """Epochs (n,) and a quantity (runs, n) of the successful runs."""
    runs = arm.successes
    length = max((run.epochs.size for run in runs), default=0)
    table = np.full((len(runs), length), np.nan)
    for row, run in zip(table, runs, strict=True):
        row[: run.epochs.size] = run.curves[key]
    longest = max(runs, key=lambda run: run.epochs.size).epochs if runs else np.empty(0)
    known = np.isfinite(table).any(axis=0) & np.isfinite(longest) if runs else np.empty(0, dtype=bool)
    step = max(1, -(-length // _MOST_POINTS))
    return longest[known][::step], table[:, known][:, ::step]


def _median(x: Numbers, y: Numbers) -> tuple[Numbers, Numbers]:
    return x, np.nanmedian(y, axis=0) if x.size else x


def _thinned(run: Run, key: str) -> tuple[Numbers, Numbers]:
    step = max(1, -(-run.epochs.size // _MOST_POINTS))
    return run.epochs[::step], run.curves[key][::step]


def _apart(heights: Sequence[float], distance: float, top: float, bottom: float) -> list[float]:
    """``heights`` moved as little as keeps them in order, ``distance`` apart, and inside."""
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    placed = list(heights)
    above = top - distance
    for index in order:
        placed[index] = above = max(heights[index] + 4, above + distance)
    below = bottom + distance
    for index in reversed(order):
        placed[index] = below = min(placed[index], below - distance)
    return placed
