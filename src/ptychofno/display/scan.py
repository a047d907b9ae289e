"""A measured scan at a glance: its mean pattern, which pixels count, its path and its probe.

Shapes: patterns of (N, N), n positions, m modes of the probe.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ptychofno.display.drawing import BLUE, INK, RED, new_figure, save_figure, tidy, write_title

Array = NDArray[Any]


def draw_scan(
    path: Path, *, title: str, mean: Array, valid: Array, positions_px: Array, modes: Array | None
) -> None:
    """Write a PNG file.

    Args:
        mean: amplitude (N, N) of the mean pattern. valid: bool (N, N).
        positions_px: (row, col) of each pattern (n, 2). modes: of the probe (m, N, N), or None.
    """
    figure = new_figure(17, 5)
    write_title(figure, title, f"{len(positions_px)} patterns of {mean.shape[0]} × {mean.shape[1]} px")
    axes = figure.subplots(1, 4)
    figure.subplots_adjust(left=0.03, right=0.985, top=0.78, bottom=0.08, wspace=0.2)
    shown = np.log1p(np.square(mean))
    axes[0].imshow(np.where(valid, shown, np.nan), cmap="magma")
    axes[0].axhline(mean.shape[0] // 2, color="white", linewidth=0.5, alpha=0.6)
    axes[0].axvline(mean.shape[1] // 2, color="white", linewidth=0.5, alpha=0.6)
    _headed(axes[0], "mean pattern, log(1 + counts)")
    axes[1].imshow(valid, cmap="gray", vmin=0, vmax=1)
    _headed(axes[1], f"mask, {int((~valid).sum())} px not valid")
    axes[2].plot(positions_px[:, 1], positions_px[:, 0], color=BLUE, linewidth=0.6)
    axes[2].plot(positions_px[:, 1], positions_px[:, 0], ".", color=INK, markersize=3)
    axes[2].plot(positions_px[:1, 1], positions_px[:1, 0], "o", color=RED, markersize=6)
    axes[2].set_aspect("equal", adjustable="datalim")
    axes[2].invert_yaxis()
    tidy(axes[2], 9)
    _headed(axes[2], "scan path in object px, red: the first")
    if modes is None:
        axes[3].text(0.5, 0.5, "no probe", ha="center", va="center", color=INK)
        axes[3].set_axis_off()
    else:
        axes[3].imshow(np.sqrt(np.square(np.abs(modes)).sum(axis=0)), cmap="viridis")
        _headed(axes[3], f"probe amplitude, {len(modes)} mode{'s' if len(modes) > 1 else ''}")
    save_figure(path, figure)


def _headed(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=11, color=INK, loc="left")
    axes.tick_params(labelsize=9)
