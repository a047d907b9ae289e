"""Activations, gradients and gains over the depth of one or several networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ptychofno.display.drawing import (
    INK,
    MUTED,
    SERIES,
    drawable,
    new_figure,
    save_figure,
    set_scale,
    tidy,
)
from ptychofno.inspection.terminal import common_order, letters_of

_STYLES: tuple[Any, ...] = ("-", (0, (4, 2)))
_COLUMNS = 3
_BOX: dict[str, Any] = {"frameon": False, "labelcolor": INK, "loc": "lower left", "borderaxespad": 0.1}


@dataclass(frozen=True)
class _Panel:
    """One quantity or two related ones over depth: their keys and what they are called.

    ``top`` of a linear scale is its upper end; None for that of the values.
    """

    title: str
    quantities: Mapping[str, str]
    scale: str = "log"
    top: float | None = None
    reference: tuple[float, str] | None = None


_PANELS = (
    _Panel("Activations a", {"std": "standard deviation", "abs_q99": "99 % quantile of |a|"}),
    _Panel("Zeros after GELU (fraction)", {"gelu_zero_fraction": ""}, "linear"),
    _Panel(
        "Power at DC; low frequencies of the rest (share)",
        {"low_frequency_share": "low frequencies", "dc_share": "DC"},
        "linear",
        top=1.03,
        reference=(math.pi / 64, "white noise"),
    ),
    _Panel("Effective rank", {"effective_rank": "effective rank", "channels": "channels"}),
    _Panel("Spectral / local branch (ratio of rms)", {"spectral_to_local": ""}),
    _Panel("Residual update / input (ratio of rms)", {"update_to_input": ""}),
    _Panel("Gradient of the parameters (norm)", {"grad_norm": ""}),
    _Panel("First optimizer step / weights (ratio of rms)", {"update_to_weight": ""}),
    _Panel("Gains (mean size)", {"layerscale": "layerscale", "norm_weight": "norm weight"}),
)


def draw_activations(path: Path | str, networks: Sequence[Mapping[str, Any]]) -> None:
    """One panel per quantity, stages in the order in which they run, as a PNG file written in one step.

    Axes of positive quantities are logarithmic where these span more than a factor of 3; a value of 0 is
    a triangle at the foot.

    Args:
        networks: as written to JSON.
    """
    stages = [
        {x["name"]: {**x, "channels": x["shape"][0]} for x in network["layers"] if x["stage"]}
        for network in networks
    ]
    names = common_order([list(own) for own in stages])
    panels = [
        panel for panel in _PANELS if any(_known(own, key) for own in stages for key in panel.quantities)
    ]
    rows = math.ceil(len(panels) / _COLUMNS)
    figure = new_figure(15.0, 0.5 + 0.26 * len(networks) + 2.75 * rows + 0.085 * max(map(len, names)))
    figure.set_layout_engine("constrained")
    _write_head(figure, networks)
    grid = figure.subplots(rows, _COLUMNS, sharex=True, squeeze=False).flat
    for axes in grid[len(panels) :]:
        axes.remove()
    for index, panel in enumerate(panels):
        axes = grid[index]
        _draw_panel(axes, panel, stages, names)
        axes.set_xticks(range(len(names)), names, rotation=90, parse_math=False)
        axes.tick_params(labelbottom=index + _COLUMNS >= len(panels))
    save_figure(path, figure)


def _draw_panel(axes: Axes, panel: _Panel, stages: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    drawn: list[float] = []
    for index, own in enumerate(stages):
        colour = SERIES[index % len(SERIES)]
        for key, style in zip(panel.quantities, _STYLES, strict=False):
            points = {names.index(name): value for name, value in _known(own, key).items()}
            above = {x: y for x, y in points.items() if y > 0 or panel.scale == "linear"}
            line: dict[str, Any] = {"linestyle": style, "linewidth": 1.8, "marker": "o", "markersize": 4}
            axes.plot(list(above), list(above.values()), color=colour, **line)
            drawn += above.values()
            zero = [x for x in points if x not in above]
            foot = axes.get_xaxis_transform()
            axes.plot(zero, [0.03] * len(zero), "v", color=colour, markersize=7, transform=foot)
    if panel.scale == "linear":
        axes.set_ylim(0, panel.top)
        axes.margins(y=0.1)
    else:
        set_scale(axes, np.array(drawn))
        if axes.get_yscale() == "linear":
            axes.set_ylim(bottom=0)
    handles: list[Line2D] = []
    if len(panel.quantities) > 1:
        for label, style in zip(panel.quantities.values(), _STYLES, strict=True):
            handles.append(Line2D([], [], color=INK, linestyle=style, linewidth=1.8, label=label))
    if panel.reference is not None:
        value, label = panel.reference
        handles.append(axes.axhline(value, color=MUTED, linestyle=":", linewidth=1.6, label=label))
    axes.set_title(panel.title, fontsize=13, color=INK, loc="left", pad=23 if handles else 7)
    if handles:  # above the axes, where they hide no curve
        axes.legend(handles=handles, bbox_to_anchor=(-0.02, 1), ncols=3, fontsize=10, **_BOX)
    tidy(axes, 10.5)


def _write_head(figure: Figure, networks: Sequence[Mapping[str, Any]]) -> None:
    """Which network has which colour."""
    handles = []
    for index, (network, letter) in enumerate(zip(networks, letters_of(networks), strict=True)):
        label = f"{drawable(network['title'])}    {network['model']}, loss {network['loss']:.3g}"
        line = Line2D([], [], color=SERIES[index % len(SERIES)], linewidth=3, marker="o", markersize=5)
        line.set_label(f"{letter}   {label}" if letter else label)
        handles.append(line)
    box: dict[str, Any] = {**_BOX, "loc": "outside upper left"}
    for text in figure.legend(handles=handles, fontsize=13, **box).get_texts():
        text.set_parse_math(False)


def _known(stages: Mapping[str, Mapping[str, Any]], key: str) -> dict[str, float]:
    """By stage the value wherever there is a finite one."""
    return {
        name: stage[key]
        for name, stage in stages.items()
        if stage[key] is not None and math.isfinite(stage[key])
    }
