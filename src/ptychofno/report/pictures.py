"""The reconstructions of all arms as images on common colour scales."""

from __future__ import annotations

import math
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from matplotlib.image import imsave
from numpy.typing import NDArray

from ptychofno.display.text import formatted
from ptychofno.metrics import align
from ptychofno.report import files
from ptychofno.report.arms import Arm
from ptychofno.report.runs import FoundRun
from ptychofno.runs import artifacts

Array = NDArray[Any]

COLOURS = {"amplitude": "gray", "phase": "viridis"}
_LARGEST_SIDE_PX = 512


class Picture(NamedTuple):
    """One object: what it is called and said of it, and by kind its images as data URIs."""

    caption: str
    about: str
    mark: str
    images: dict[str, str]


class Gallery(NamedTuple):
    """Pictures of one dataset, the truth first where it is known, and the scales they share."""

    pictures: list[Picture]
    has_truth: bool
    scales: dict[str, tuple[str, str]]
    """By kind the ends of the colour scale, to a hundredth of its length."""
    bars: dict[str, str]


def galleries(arms: Sequence[Arm]) -> list[Gallery]:
    """For every dataset the arms in their order, each by the run nearest its median loss on the commonest.

    Amplitudes are scaled and phases turned and flattened onto the truth, as for the metrics; the truth
    sets the colour scales. Without a truth the scales hold 99 % of all pixels.
    """
    every = Counter(run.dataset_key for arm in arms for run in arm.results)
    by_dataset: dict[str | None, list[tuple[Arm, FoundRun, dict[str, Array]]]] = {}
    for arm in arms:
        for run in sorted(arm.typical(), key=lambda run: -every[run.dataset_key]):
            if images := _images(run):
                by_dataset.setdefault(run.dataset_key, []).append((arm, run, images))
                break
    return [_gallery(found) for found in by_dataset.values()]


def _gallery(found: Sequence[tuple[Arm, FoundRun, dict[str, Array]]]) -> Gallery:
    truth = next((images for _, _, images in found if "target_amplitude" in images), None)
    limits = {}
    for kind in COLOURS:
        shown = [truth[f"target_{kind}"]] if truth else [images[kind] for _, _, images in found]
        pixels = np.concatenate([image.ravel() for image in shown])
        low, high = np.percentile(pixels, (0, 100) if truth else (0.5, 99.5)).tolist()
        limits[kind] = (low, high) if high > low else (low - 0.5, high + 0.5)
    pictures = [Picture("Truth", "", "truth", _encoded(truth, "target_", limits))] if truth else []
    for arm, run, images in found:
        mark = "" if run.succeeded else "bad"
        pictures.append(Picture(arm.name, _about(run), mark, _encoded(images, "", limits)))
    ramp = np.linspace(0, 1, 128) * np.ones((4, 1))
    bars = {kind: _data_uri(ramp, colours, 0.0, 1.0) for kind, colours in COLOURS.items()}
    scales = {}
    for kind, (low, high) in limits.items():
        digits = 2 - math.floor(math.log10(high - low))
        scales[kind] = f"{round(low, digits) + 0.0:g}", f"{round(high, digits) + 0.0:g}"
    return Gallery(pictures, truth is not None, scales, bars)


def _about(run: FoundRun) -> str:
    seed = "" if run.seed is None else f"seed {run.seed}, "
    state = "" if run.succeeded else f"{run.state}, "
    ssim = (formatted(run.measures[f"ssim_{kind}"], "{:.3f}") for kind in COLOURS)
    return f"{seed}{state}SSIM {' / '.join(ssim)}"


def _images(run: FoundRun) -> dict[str, Array] | None:
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
            return {"amplitude": _fewer(np.abs(object_)), "phase": _fewer(np.angle(object_))}
        how = run.settings.get("evaluation.phase_alignment", "plane")
        aligned = align(object_, arrays["target"][region], phase_alignment=how)
    except (files.Unreadable, KeyError, TypeError, ValueError, IndexError, MemoryError):
        return None
    return {
        "amplitude": _fewer(aligned.amplitude),
        "phase": _fewer(aligned.phase_rad),
        "target_amplitude": _fewer(aligned.target_amplitude),
        "target_phase": _fewer(aligned.target_phase_rad),
    }


def _fewer(image: Array) -> Array:
    """``image`` (H, W) averaged over squares until neither side is above 512."""
    factor = -(-max(image.shape) // _LARGEST_SIDE_PX)
    height, width = (side // factor * factor for side in image.shape)
    squares = image[:height, :width].reshape(height // factor, factor, width // factor, factor)
    return np.asarray(squares.mean(axis=(1, 3)))


def _encoded(
    images: Mapping[str, Array], prefix: str, limits: Mapping[str, tuple[float, float]]
) -> dict[str, str]:
    return {
        kind: _data_uri(images[prefix + kind], colours, *limits[kind]) for kind, colours in COLOURS.items()
    }


def _data_uri(image: Array, colours: str, low: float, high: float) -> str:
    content = BytesIO()
    imsave(content, image, vmin=low, vmax=high, cmap=colours, format="png")
    return f"data:image/png;base64,{b64encode(content.getvalue()).decode('ascii')}"
