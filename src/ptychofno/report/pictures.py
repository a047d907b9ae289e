"""The reconstructions of all arms on common colour scales."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from textwrap import shorten
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ptychofno.display.drawing import INK, RED
from ptychofno.display.text import formatted
from ptychofno.metrics import align
from ptychofno.report import files
from ptychofno.report.arms import Arm
from ptychofno.report.charts import figure_px
from ptychofno.report.runs import FoundRun
from ptychofno.runs import artifacts

Images = dict[str, NDArray[Any]]
Found = list[tuple[Arm, FoundRun, Images]]

COLOURS = {"amplitude": "gray", "phase": "viridis"}
ABREAST = 5


def reconstructions(arms: Sequence[Arm]) -> list[Figure]:
    """For every dataset the truth, where it is known, and the arms in their order.

    Of each arm the run nearest its median loss on the commonest dataset. Amplitudes are scaled and phases
    turned and flattened onto the truth, as for the metrics; the truth sets the colour scales. Without a truth
    the scales hold 99 % of all pixels.
    """
    every = Counter(run.dataset_key for arm in arms for run in arm.results)
    by_dataset: dict[str | None, Found] = {}
    for arm in arms:
        for run in sorted(arm.typical(), key=lambda run: -every[run.dataset_key]):
            if images := images_of(run):
                by_dataset.setdefault(run.dataset_key, []).append((arm, run, images))
                break
    return [_drawn(found) for found in by_dataset.values()]


def _drawn(found: Found) -> Figure:
    truth = next((images for _, _, images in found if "target_amplitude" in images), None)
    cells = [("truth\n", INK, {kind: truth[f"target_{kind}"] for kind in COLOURS})] if truth else []
    for arm, run, images in found:
        cells.append((_title(arm, run), INK if run.succeeded else RED, images))
    columns = min(ABREAST, len(cells))
    bands = math.ceil(len(cells) / columns)
    figure = figure_px(210.0 * columns + 70.0, 430.0 * bands)
    panels = figure.subplots(2 * bands, columns, squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    for row, (kind, colours) in enumerate(COLOURS.items()):
        shown = cells[:1] if truth else cells
        pixels = np.concatenate([images[kind].ravel() for _, _, images in shown])
        low, high = np.percentile(pixels, (0, 100) if truth else (0.5, 99.5))
        for index, (title, ink, images) in enumerate(cells):
            axes = panels[2 * (index // columns) + row, index % columns]
            image = axes.imshow(images[kind], cmap=colours, vmin=low, vmax=high)
            if row == 0:
                axes.set_title(title, fontsize=11, color=ink, loc="left")
        for band in panels[row::2]:
            label = "phase / rad" if kind == "phase" else kind
            figure.colorbar(image, ax=band.tolist(), label=label, shrink=0.9)
    return figure


def _title(arm: Arm, run: FoundRun) -> str:
    """Arm; seed, state and SSIM of amplitude and phase."""
    ssim = (formatted(run.measures[f"ssim_{kind}"], "{:.3f}") for kind in COLOURS)
    about = run.state if run.seed is None or not run.succeeded else f"seed {run.seed}"
    return f"{shorten(arm.name, 28, placeholder='…')}\n{about}, SSIM {' / '.join(ssim)}"


def images_of(run: FoundRun) -> Images | None:
    """Amplitude and phase (rad) of the scanned region, and the truth's where there is one."""
    try:
        arrays = files.archive(run.path / artifacts.RECONSTRUCTION, ("prediction", "region", "target"))
        if not arrays:
            return None
        rows, columns = arrays["region"].astype(int).tolist()
        region = (slice(*rows), slice(*columns))
        object_ = np.asarray(arrays["prediction"][region])
        bounded = object_.ndim == 2 and max(object_.shape) < 16 * min(object_.shape)
        if not bounded or not np.isfinite(object_).all():
            return None
        if "target" not in arrays:
            return {"amplitude": np.abs(object_), "phase": np.angle(object_)}
        how = run.settings.get("evaluation.phase_alignment", "plane")
        aligned = align(object_, arrays["target"][region], phase_alignment=how)
    except (files.Unreadable, KeyError, TypeError, ValueError, IndexError, MemoryError):
        return None
    return {
        "amplitude": aligned.amplitude,
        "phase": aligned.phase_rad,
        "target_amplitude": aligned.target_amplitude,
        "target_phase": aligned.target_phase_rad,
    }
