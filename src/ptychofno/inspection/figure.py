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

Layer = Mapping[str, Any]


@dataclass(frozen=True)
class _Panel:
    """One quantity or two related ones over depth: their keys and what they are called.

    ``top`` of a linear scale is its upper end; None for that of the values.
    """

    title: str
    quantities: tuple[tuple[str, str], ...]
    scale: str = "log"
    top: float | None = None
    reference: tuple[float, str] | None = None


_PANELS = (
    _Panel("Activations a", (("std", "standard deviation"), ("abs_q99", "99 % quantile of |a|"))),
    _Panel("Zeros after GELU (fraction)", (("gelu_zero_fraction", ""),), "linear"),
    _Panel(
        "Power at DC; low frequencies of the rest (share)",
        (("low_frequency_share", "low frequencies"), ("dc_share", "DC")),
        "linear",
        top=1.03,
        reference=(math.pi / 64, "white noise"),
    ),
    _Panel("Effective rank", (("effective_rank", "effective rank"), ("channels", "channels"))),
    _Panel("Spectral / local branch (ratio of rms)", (("spectral_to_local", ""),)),
    _Panel("Residual update / input (ratio of rms)", (("update_to_input", ""),)),
    _Panel("Gradient of the parameters (norm)", (("grad_norm", ""),)),
    _Panel("First optimizer step / weights (ratio of rms)", (("update_to_weight", ""),)),
    _Panel("Gains (mean size)", (("layerscale", "layerscale"), ("norm_weight", "norm weight"))),
)


def draw_activations(path: Path | str, networks: Sequence[Mapping[str, Any]]) -> None:
    """One panel per quantity, stages in the order in which they run, as a PNG file written in one step.

    Axes of positive quantities are logarithmic where these span more than a factor of 3; a value of 0 is
    a triangle at the foot.

    Args:
        networks: as written to JSON.
    """
    stages = [
        [_with_channels(layer) for layer in network["layers"] if layer["stage"]] for network in networks
    ]
    names = common_order([[layer["name"] for layer in own] for own in stages])
    panels = [
        panel for panel in _PANELS if any(_values(own, k) for own in stages for k, _ in panel.quantities)
    ]
    rows = math.ceil(len(panels) / _COLUMNS)
    head, foot = 0.8 + 0.26 * len(networks), 0.3 + 0.085 * max(map(len, names))
    height = head + 2.75 * rows + foot
    figure = new_figure(15.0, height)
    _write_head(figure, networks, height)
    grid = figure.add_gridspec(
        rows,
        _COLUMNS,
        left=0.05,
        right=0.985,
        top=1 - head / height,
        bottom=foot / height,
        hspace=0.42,
        wspace=0.17,
    )
    for index, panel in enumerate(panels):
        axes = figure.add_subplot(grid[index // _COLUMNS, index % _COLUMNS])
        _draw_panel(axes, panel, stages, names)
        last = index + _COLUMNS >= len(panels)
        axes.set_xticks(
            range(len(names)), names if last else [""] * len(names), rotation=90, parse_math=False
        )
    save_figure(path, figure)


def _draw_panel(axes: Axes, panel: _Panel, stages: Sequence[Sequence[Layer]], names: Sequence[str]) -> None:
    drawn: list[float] = []
    for own, colour in zip(stages, _cycled(len(stages)), strict=True):
        for (key, _), style in zip(panel.quantities, _STYLES, strict=False):
            points = [(names.index(name), value) for name, value in _values(own, key)]
            above = [(x, y) for x, y in points if y > 0 or panel.scale == "linear"]
            axes.plot(
                *_columns(above), color=colour, linestyle=style, linewidth=1.8, marker="o", markersize=4
            )
            drawn += [y for _, y in above]
            zero = [(x, 0.03) for x, y in points if (x, y) not in above]
            axes.plot(*_columns(zero), "v", color=colour, markersize=7, transform=axes.get_xaxis_transform())
    if panel.scale == "linear":
        axes.set_ylim(0, panel.top)
        axes.margins(y=0.1)
    else:
        set_scale(axes, np.array(drawn))
        if axes.get_yscale() == "linear":
            axes.set_ylim(bottom=0)
    _write_legend(axes, panel)
    axes.set_xlim(-0.5, len(names) - 0.5)
    tidy(axes, 10.5)


def _write_legend(axes: Axes, panel: _Panel) -> None:
    """Title and, above the axes where they hide no curve, what the styles of line mean."""
    handles: list[Line2D] = []
    if len(panel.quantities) > 1:
        for (_, label), style in zip(panel.quantities, _STYLES, strict=True):
            handles.append(Line2D([], [], color=INK, linestyle=style, linewidth=1.8, label=label))
    if panel.reference is not None:
        value, label = panel.reference
        handles.append(axes.axhline(value, color=MUTED, linestyle=":", linewidth=1.6, label=label))
    axes.set_title(panel.title, fontsize=13, color=INK, loc="left", pad=23 if handles else 7)
    if handles:
        box: dict[str, Any] = {"frameon": False, "fontsize": 10, "labelcolor": INK, "handlelength": 2.2}
        axes.legend(
            handles=handles, loc="lower left", bbox_to_anchor=(-0.02, 1), borderaxespad=0.1, ncols=3, **box
        )


def _write_head(figure: Figure, networks: Sequence[Mapping[str, Any]], height_in: float) -> None:
    """Which network has which colour."""
    letters = letters_of(networks)
    for i, (network, letter, colour) in enumerate(
        zip(networks, letters, _cycled(len(networks)), strict=True)
    ):
        y = 1 - (0.3 + 0.26 * i) / height_in
        figure.add_artist(Line2D([0.014, 0.036], [y, y], color=colour, linewidth=3, marker="o", markersize=5))
        title = drawable(network["title"])
        figure.text(
            0.044,
            y,
            f"{letter + '   ' if letter else ''}{title}    {network['model']}, loss {network['loss']:.3g}",
            fontsize=13,
            color=INK,
            va="center",
            parse_math=False,
        )


def _with_channels(layer: Layer) -> Layer:
    return {**layer, "channels": layer["shape"][0]}


def _values(stages: Sequence[Layer], key: str) -> list[tuple[str, float]]:
    """Stage and value wherever there is a finite one."""
    return [(s["name"], s[key]) for s in stages if s[key] is not None and math.isfinite(s[key])]


def _columns(points: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _cycled(count: int) -> list[str]:
    return [SERIES[i % len(SERIES)] for i in range(count)]
