"""The reconstructions of all arms as images on common colour scales."""

from __future__ import annotations

import math
from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.image import imsave
from numpy.typing import NDArray

from ptychofno.metrics import align
from ptychofno.report.arms import Arm
from ptychofno.report.files import RunFiles, Unreadable
from ptychofno.report.runs import FoundRun
from ptychofno.report.wording import formatted
from ptychofno.runs import artifacts

Array = NDArray[Any]

_LARGEST_SIDE = 512
COLOURS = {"amplitude": "gray", "phase": "viridis"}


@dataclass(frozen=True)
class Picture:
    """One arm's object: ``images`` by kind as data URIs. ``run`` is None for the truth."""

    arm: Arm | None
    run: FoundRun | None
    images: dict[str, str]

    @property
    def caption(self) -> str:
        return "Truth" if self.arm is None else self.arm.name

    @property
    def mark(self) -> str:
        if self.run is None:
            return "truth"
        return "" if self.run.succeeded else "bad"

    @property
    def about(self) -> str:
        """Seed, state and SSIM of amplitude and phase."""
        if self.run is None:
            return ""
        seed = "" if self.run.seed is None else f"seed {self.run.seed}, "
        state = "" if self.run.succeeded else f"{self.run.state}, "
        ssim = (formatted(self.run.measures.get(f"ssim_{kind}"), "{:.3f}") for kind in COLOURS)
        return f"{seed}{state}SSIM {' / '.join(ssim)}"


@dataclass(frozen=True)
class Gallery:
    """Pictures of one dataset, the truth first where it is known, and the scales they share."""

    dataset_key: str | None
    pictures: tuple[Picture, ...]
    scales: dict[str, tuple[float, float]]
    bars: dict[str, str]

    @property
    def has_truth(self) -> bool:
        return any(picture.run is None for picture in self.pictures)

    def ends(self, kind: str) -> tuple[str, str]:
        """The ends of a scale, to a hundredth of its length."""
        low, high = self.scales[kind]
        digits = 2 - math.floor(math.log10(high - low))
        return f"{round(low, digits) + 0.0:g}", f"{round(high, digits) + 0.0:g}"


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
    return [_gallery(key, found) for key, found in by_dataset.items()]


def _gallery(key: str | None, found: Sequence[tuple[Arm, FoundRun, dict[str, Array]]]) -> Gallery:
    truth = next((images for _, _, images in found if "target_amplitude" in images), None)
    scales = {}
    for kind in COLOURS:
        if truth:
            pixels = truth[f"target_{kind}"]
            low, high = float(pixels.min()), float(pixels.max())
        else:
            pixels = np.concatenate([images[kind].ravel() for _, _, images in found])
            low, high = (float(limit) for limit in np.percentile(pixels, (0.5, 99.5)))
        scales[kind] = (low, high) if high > low else (low - 0.5, high + 0.5)
    pictures = [] if truth is None else [Picture(None, None, _encoded(truth, "target_", scales))]
    pictures += [Picture(arm, run, _encoded(images, "", scales)) for arm, run, images in found]
    ramp = np.linspace(0, 1, 128) * np.ones((4, 1))
    bars = {kind: _data_uri(ramp, COLOURS[kind], 0.0, 1.0) for kind in COLOURS}
    return Gallery(key, tuple(pictures), scales, bars)


def _images(run: FoundRun) -> dict[str, Array] | None:
    """Amplitude and phase (rad) of the scanned region, and the truth's where there is one."""
    try:
        with RunFiles(run.path) as files:
            arrays = files.archive(artifacts.RECONSTRUCTION, ("prediction", "region", "target"))
        if not arrays:
            return None
        prediction, (rows, columns) = arrays["prediction"], arrays["region"].astype(int).tolist()
        region = (slice(*rows), slice(*columns))
        object_ = np.asarray(prediction[region])
        if (
            object_.ndim != 2
            or not 16 * min(object_.shape) > max(object_.shape)
            or not np.isfinite(object_).all()
        ):
            return None
        if "target" not in arrays:
            return {"amplitude": _fewer(np.abs(object_)), "phase": _fewer(np.angle(object_))}
        how = run.settings.get("evaluation.phase_alignment", "plane")
        aligned = align(object_, arrays["target"][region], phase_alignment=how)
    except (Unreadable, KeyError, TypeError, ValueError, IndexError, MemoryError):
        return None
    return {
        "amplitude": _fewer(aligned.amplitude),
        "phase": _fewer(aligned.phase_rad),
        "target_amplitude": _fewer(aligned.target_amplitude),
        "target_phase": _fewer(aligned.target_phase_rad),
    }


def _fewer(image: Array) -> Array:
    """``image`` (H, W) averaged over squares until neither side is above 512."""
    factor = -(-max(image.shape) // _LARGEST_SIDE)
    height, width = (side // factor * factor for side in image.shape)
    squares = image[:height, :width].reshape(height // factor, factor, width // factor, factor)
    return np.asarray(squares.mean(axis=(1, 3)))


def _encoded(images: dict[str, Array], prefix: str, scales: dict[str, tuple[float, float]]) -> dict[str, str]:
    return {kind: _data_uri(images[prefix + kind], COLOURS[kind], *scales[kind]) for kind in COLOURS}


def _data_uri(image: Array, colours: str, low: float, high: float) -> str:
    content = BytesIO()
    imsave(content, image, vmin=low, vmax=high, cmap=colours, format="png")
    return f"data:image/png;base64,{b64encode(content.getvalue()).decode('ascii')}"
