"""Activations, gradients and gains over the depth of one or several networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ptychofno.display.drawing import INK, MUTED, SERIES, new_figure, save_figure, set_scale, tidy
from ptychofno.inspection.terminal import letters_of

_STYLES: tuple[Any, ...] = ("-", (0, (4, 2)))
_COLUMNS = 3
_BOX: dict[str, Any] = {"frameon": False, "labelcolor": INK, "loc": "lower left", "borderaxespad": 0.1}


_SHARES = {"gelu_zero_fraction", "low_frequency_share", "dc_share"}
"""These are on a linear scale from 0."""
# By title one quantity, or two and what to call them.
_PANELS = {
    "Activations a": {"std": "standard deviation", "abs_q99": "99 % quantile of |a|"},
    "Zeros after GELU (fraction)": {"gelu_zero_fraction": ""},
    "Power at DC; low frequencies of the rest (share)": {
        "low_frequency_share": "low frequencies",
        "dc_share": "DC",
    },
    "Effective rank": {"effective_rank": "effective rank", "channels": "channels"},
    "Spectral / local branch (ratio of rms)": {"spectral_to_local": ""},
    "Residual update / input (ratio of rms)": {"update_to_input": ""},
    "Gradient of the parameters (norm)": {"grad_norm": ""},
    "First optimizer step / weights (ratio of rms)": {"update_to_weight": ""},
    "Gains (mean size)": {"layerscale": "layerscale", "norm_weight": "norm weight"},
}


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
    names = _common_order([list(own) for own in stages])
    panels = {
        title: quantities
        for title, quantities in _PANELS.items()
        if any(_known(own, key) for own in stages for key in quantities)
    }
    rows = math.ceil(len(panels) / _COLUMNS)
    figure = new_figure(15.0, 0.5 + 0.26 * len(networks) + 2.75 * rows + 0.085 * max(map(len, names)))
    figure.set_layout_engine("constrained")
    _write_head(figure, networks)
    grid = figure.subplots(rows, _COLUMNS, sharex=True, squeeze=False).flat
    for axes in grid[len(panels) :]:
        axes.remove()
    for index, (title, quantities) in enumerate(panels.items()):
        axes = grid[index]
        _draw_panel(axes, title, quantities, stages, names)
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.tick_params(labelbottom=index + _COLUMNS >= len(panels))
    save_figure(path, figure)


def _draw_panel(
    axes: Axes,
    title: str,
    quantities: Mapping[str, str],
    stages: Sequence[Mapping[str, Any]],
    names: Sequence[str],
) -> None:
    linear = bool(_SHARES & quantities.keys())
    drawn: list[float] = []
    for index, own in enumerate(stages):
        colour = SERIES[index % len(SERIES)]
        for (key, label), style in zip(quantities.items(), _STYLES, strict=False):
            points = {names.index(name): value for name, value in _known(own, key).items()}
            above = {x: y for x, y in points.items() if y > 0 or linear}
            line: dict[str, Any] = {"linestyle": style, "linewidth": 1.8, "marker": "o", "markersize": 4}
            line["label"] = None if index else label
            axes.plot(list(above), list(above.values()), color=colour, **line)
            drawn += above.values()
            zero = [x for x in points if x not in above]
            foot = axes.get_xaxis_transform()
            axes.plot(zero, [0.03] * len(zero), "v", color=colour, markersize=7, transform=foot)
    if not linear:
        set_scale(axes, np.array(drawn))
    if axes.get_yscale() == "linear":
        axes.set_ylim(bottom=0)
    if "low_frequency_share" in quantities:
        axes.axhline(math.pi / 64, color=MUTED, linestyle=":", linewidth=1.6, label="white noise")
    handles, labels = axes.get_legend_handles_labels()
    axes.set_title(title, fontsize=13, color=INK, loc="left", pad=23 if handles else 7)
    if handles:  # above the axes, where they hide no curve
        box = axes.legend(handles, labels, bbox_to_anchor=(-0.02, 1), ncols=3, fontsize=10, **_BOX)
        for line_of_key in box.get_lines()[: len(quantities)]:
            line_of_key.set(color=INK, marker="none")
    tidy(axes, 10.5)


def _write_head(figure: Figure, networks: Sequence[Mapping[str, Any]]) -> None:
    """Which network has which colour."""
    handles = []
    for index, (network, letter) in enumerate(zip(networks, letters_of(networks), strict=True)):
        label = f"{network['title']}    {network['model']}, loss {network['loss']:.3g}"
        line = Line2D([], [], color=SERIES[index % len(SERIES)], linewidth=3, marker="o", markersize=5)
        line.set_label(f"{letter}   {label}" if letter else label)
        handles.append(line)
    figure.legend(handles=handles, fontsize=13, **{**_BOX, "loc": "outside upper left"})


def _known(stages: Mapping[str, Mapping[str, Any]], key: str) -> dict[str, float]:
    """By stage the value wherever there is a finite one."""
    return {
        name: stage[key]
        for name, stage in stages.items()
        if stage[key] is not None and math.isfinite(stage[key])
    }


def _common_order(lists: Sequence[Sequence[str]]) -> list[str]:
    """All names, each list's in its own order as far as the earlier lists allow."""
    order: list[str] = []
    for names in lists:
        for before, name in pairwise(["", *names]):
            if name not in order:
                order.insert(order.index(before) + 1 if before else 0, name)
    return order
