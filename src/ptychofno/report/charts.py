"""The figures of the report: arms in rows, one dot per run; curves with bands over the seeds."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ptychofno.display.drawing import BLUE, INK, MUTED, RED, SERIES, set_scale, tidy, to_the_letter
from ptychofno.display.text import one_line, percent
from ptychofno.report.arms import Arm
from ptychofno.report.evidence import survival
from ptychofno.report.runs import Measure
from ptychofno.report.study import Study

WIDTH_PX = 1120.0
_ROW_PX, _HEAD_PX, _CURVE_PX = 28.0, 80.0, 150.0
_SMALL, _NORMAL = 12, 13
_QUANTITIES = {
    "val_loss": "validation loss",
    "grad_norm_median": "gradient norm",
    "learning_rate": "learning rate",
}


def _figure(width: float, height: float) -> Figure:
    """A figure of which one point is one pixel of the page."""
    return Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained")


def as_image(figure: Figure) -> str:
    """A data URI with an SVG image, the same bytes for the same figure; shown as ``img``, it runs nothing."""
    content = io.StringIO()
    deterministic: Any = {"svg.fonttype": "none", "svg.hashsalt": "ptychofno"}
    with rc_context(deterministic), to_the_letter(figure):
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    return f"data:image/svg+xml;base64,{b64encode(content.getvalue().encode()).decode('ascii')}"


def crash_rates(study: Study) -> Figure:
    """Crash rate of every arm with Wilson's interval, the control's drawn through all rows."""
    figure, (axes,) = _rows(study, study.trained, 760.0, 1)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], [percent(share) for share in (0, 0.25, 0.5, 0.75, 1)])
    if study.control and study.control.results:
        axes.axvspan(*study.control.crash_interval, color=MUTED, alpha=0.12, linewidth=0)
    for row, arm in enumerate(study.trained):
        counts = "no result"
        if arm.results:
            counts, colour = f"{arm.crashed} of {len(arm.results)}", RED if arm.crashed else BLUE
            axes.plot(arm.crash_interval, [row, row], color=colour, linewidth=2.5, alpha=0.55)
            axes.plot(arm.crash_rate, row, "o", color=colour, markersize=9)
        axes.text(1.03, row, counts, color=INK, fontsize=_NORMAL, va="center")
    return figure


def measures(study: Study, chosen: Sequence[Measure]) -> Figure:
    """One column per measure, one row per arm, one dot per run; bar and tick: quartiles and median."""
    figure, columns = _rows(study, study.arms, WIDTH_PX, len(chosen))
    for axes, measure in zip(columns, chosen, strict=True):
        good = np.concatenate([arm.values(measure.key) for arm in study.arms])
        every = np.array([run.measures[measure.key] for arm in study.arms for run in arm.results])
        better = {"low": "← better", "high": "better →"}.get(measure.better, "")
        axes.set_title(f"{measure.label}\n{better}", fontsize=_NORMAL, color=INK, loc="left")
        axes.update_datalim([(value, 0) for value in (good if good.size else every[np.isfinite(every)])])
        axes.margins(x=0.08)
        if measure.better != "high":
            set_scale(axes, good, "x")
        if axes.get_xscale() == "linear":
            axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
        axes.autoscale_view(scaley=False)
        axes.set_xlim(axes.get_xlim())
        for row, arm in enumerate(study.arms):
            _draw_runs(axes, row, arm, measure)
    return figure


def off_plateau(study: Study) -> Figure | None:
    """Share of all runs of an arm that are still on the flat plateau, by epoch, after Kaplan and Meier."""
    known = [arm for arm in study.trained if len(arm.plateau)]
    if not known:
        return None
    figure = _figure(WIDTH_PX, max(360.0, 60.0 + 20.0 * len(known)))
    axes = figure.subplots()
    for index, arm in enumerate(known):
        epochs, share, _ = survival(arm.plateau)
        wide = arm is study.verdict.candidate or arm is study.control
        style: dict[str, Any] = {"drawstyle": "steps-post", "linewidth": 2.8 if wide else 1.6}
        style["linestyle"] = "-" if index < len(SERIES) else "--"
        style["label"] = one_line(arm.name, 30)
        axes.plot(np.append(0, epochs), np.append(1, share), color=SERIES[index % len(SERIES)], **style)
    axes.set_ylim(0, 1.03)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    tidy(axes, _NORMAL)
    box: dict[str, Any] = {"frameon": False, "labelcolor": INK, "fontsize": _NORMAL}
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), **box)
    return figure


def curves(study: Study) -> Figure:
    """For every arm loss, gradient norm and learning rate by epoch, a line per seed, the control's behind."""
    figure = _figure(WIDTH_PX, _CURVE_PX * len(study.trained))
    panels = figure.subplots(len(study.trained), len(_QUANTITIES), sharex=True, sharey="col", squeeze=False)
    for row, arm in zip(panels, study.trained, strict=True):
        crashed = f"{arm.crashed} of {len(arm.results)} crashed" if arm.results else "no result"
        row[0].set_title(f"{one_line(arm.name, 45)}, {crashed}", fontsize=_NORMAL, color=INK, loc="left")
        for run in arm.results[:1]:
            row[0].axhline(run.flat_baseline, color=MUTED, linestyle=(0, (5, 4)), linewidth=1.2)
        behind = [(run, MUTED) for run in (study.control.results if study.control else [])]
        lines = [*behind, *((run, BLUE if run.succeeded else RED) for run in arm.results)]
        for axes, (key, label) in zip(row, _QUANTITIES.items(), strict=True):
            for run, colour in lines:
                axes.plot(run.epochs, run.curves[key], ".-", color=colour, linewidth=1.2, markersize=3)
            axes.set_ylabel(label, fontsize=_SMALL, color=MUTED)
            tidy(axes, _SMALL)
    for column in panels.T:
        values = [line.get_ydata() for axes in column for line in axes.get_lines()]
        set_scale(column[0], np.concatenate([np.empty(0), *values]))
    panels[0, 0].xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    return figure


def _rows(study: Study, arms: Sequence[Arm], width_px: float, count: int) -> tuple[Figure, Sequence[Axes]]:
    """A figure with a named row for each arm across ``count`` panels."""
    figure = _figure(width_px, _HEAD_PX + len(arms) * _ROW_PX)
    panels = figure.subplots(1, count, sharey=True, squeeze=False, gridspec_kw={"wspace": 0.12})[0]
    names = panels[0].set_yticks(range(len(arms)), [one_line(arm.name, 29) for arm in arms])
    for axes in panels:
        tidy(axes, _NORMAL)
        axes.tick_params(length=0, pad=12)
        axes.grid(False, axis="y")
        axes.spines[["left", "bottom"]].set_visible(False)
    for name, arm in zip(names, arms, strict=True):
        name.label1.set_fontweight("bold" if arm is study.verdict.candidate else "normal")
    panels[0].set_ylim(len(arms) - 0.5, -0.5)
    return figure, panels


def _draw_runs(axes: Axes, row: int, arm: Arm, measure: Measure) -> None:
    low, median, high, known = arm.summary(measure.key)
    if known:
        bar: dict[str, Any] = {"color": BLUE, "linewidth": 9, "alpha": 0.22, "solid_capstyle": "butt"}
        axes.plot([low, high], [row, row], **bar)
        axes.plot([median] * 2, [row - 0.29, row + 0.29], color=INK, linewidth=1.6)
    first, last = axes.get_xlim()
    for run in arm.results:  # a triangle where a run lies beyond the axis
        value = run.measures[measure.key]
        mark = "<" if value < first else ">" if value > last else "o"
        (dot,) = axes.plot(np.clip(value, first, last), row, mark, alpha=0.8, markersize=7, clip_on=False)
        dot.set(color=BLUE if run.succeeded else RED, fillstyle="full" if run.succeeded else "none")
