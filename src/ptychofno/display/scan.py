"""A measured scan at a glance: its mean pattern, which pixels count, its path and its probe.

Shapes: patterns of (N, N), n positions, m modes of the probe.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ptychofno.data.dataset import Array
from ptychofno.display.drawing import BLUE, INK, RED, new_figure, save_figure, tidy, write_title
from ptychofno.display.text import counted


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
    axes[0].imshow(np.where(valid, np.log1p(np.square(mean)), np.nan), cmap="magma")
    axes[0].axhline(mean.shape[0] // 2, color="white", linewidth=0.5, alpha=0.6)
    axes[0].axvline(mean.shape[1] // 2, color="white", linewidth=0.5, alpha=0.6)
    axes[1].imshow(valid, cmap="gray", vmin=0, vmax=1)
    axes[2].plot(positions_px[:, 1], positions_px[:, 0], color=BLUE, linewidth=0.6)
    axes[2].plot(positions_px[:, 1], positions_px[:, 0], ".", color=INK, markersize=3)
    axes[2].plot(positions_px[:1, 1], positions_px[:1, 0], "o", color=RED, markersize=6)
    axes[2].set_aspect("equal", adjustable="datalim")
    axes[2].invert_yaxis()
    tidy(axes[2], 9)
    probe = "no probe"
    axes[3].set_axis_off()
    if modes is not None:
        probe = f"probe amplitude, {counted(len(modes), 'mode')}"
        axes[3].imshow(np.sqrt(np.square(np.abs(modes)).sum(axis=0)), cmap="viridis")
    titles = (
        "mean pattern, log(1 + counts)",
        f"mask, {int((~valid).sum())} px not valid",
        "scan path in object px, red: the first",
        probe,
    )
    for panel, heading in zip(axes, titles, strict=True):
        panel.set_title(heading, fontsize=11, color=INK, loc="left")
        panel.tick_params(labelsize=9)
    save_figure(path, figure)
