"""How every figure looks."""

from __future__ import annotations

from matplotlib.axes import Axes

DPI = 150
INK, MUTED, GRID = "#1f2430", "#667085", "#e4e7ec"


def tidy(axes: Axes, labelsize: float) -> None:
    """A light grid behind the curves, and no frame where there is no scale."""
    axes.tick_params(labelsize=labelsize, color=MUTED, labelcolor=INK)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)
