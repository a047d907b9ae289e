"""A first look at a scan's patterns, of which a sample is read: dead and hot pixels, mask, centre, quantity.

Shapes: k sampled patterns of (R, C) detector pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter

from ptychofno.data.readers.scan import PixelMask, RawScan
from ptychofno.data.readers.source import require_scale
from ptychofno.data.settings import MeasuredDetector

SAMPLE = 48
"""So many patterns are looked at."""

CONTRADICTION = 0.05
"""How clearly something must be brighter around the corner, or the centre, to be refused for it."""

_HOT = 300
"""A pixel this many times as bright as its brightest neighbour, in every pattern, counts nothing."""

_FEW = 0.1
"""Share of the detector up to which pixels that a mask tells apart are believed to be the bad ones."""

_OFF_CENTRE = 0.05
"""Share of the detector that the centre of mass may be off its centre without being told."""


@dataclass(frozen=True)
class Look:
    """What a sample of patterns shows."""

    sample: np.ndarray
    """float32 (k, R, C), counts or amplitudes, 0 where not valid, zero frequency at the centre."""
    mean: np.ndarray
    """Mean counts, float64 (R, C), 0 where not valid."""
    valid: np.ndarray
    """bool (R, C)"""
    quantity: str
    corner: bool
    """Whether the file has the zero frequency at the corner."""
    centre: tuple[int, int]
    """(row, col) of the zero frequency."""
    notes: tuple[str, ...]
    """What was found and decided, a line each."""


def look(raw: RawScan, settings: MeasuredDetector, zero_frequency: str | None, oriented: np.ndarray) -> Look:
    """Look at a sample of patterns.

    Args:
        zero_frequency: where it stands as the user says; None leaves it to the data, then to the format.
        oriented: the sample, (k, R, C), of the file's type and turned as ``data.detector`` says.

    Raises ValueError for patterns whose quantity, mask or zero frequency cannot be told.
    """
    assert raw.patterns is not None
    where, notes = raw.patterns.where, []
    quantity = raw.quantity or _quantity(oriented, where)
    marks = dead_marks(oriented, quantity)
    dead = np.zeros(oriented.shape[1:], np.bool_) if marks is None else np.all(marks, axis=0)
    measured = oriented if marks is None else np.where(marks, 0, oriented)
    peak = float(measured.max())
    require_scale(peak if quantity == "amplitude" else peak**0.5, where)
    values = measured.astype(np.float32)
    light = np.square(values, dtype=np.float64) if quantity == "amplitude" else values.astype(np.float64)
    mean = light.mean(axis=0)
    if not mean.any():
        raise ValueError(f"{where} is dark everywhere; expected diffraction")
    masked = np.zeros_like(dead) if raw.mask is None else ~valid_of(raw.mask, settings, dead, light)
    if masked.any():
        notes.append(f"{masked.sum()} of {masked.size} detector pixels are masked by the file")
    if (only := dead & ~masked).any():
        shown = oriented[0][only][0]
        notes.append(f"{only.sum()} of {only.size} detector pixels are {shown} in every pattern: masked")
    hot = _hot(light, mean) & ~masked & ~dead
    if hot.any():
        notes.append(f"{hot.sum()} hot detector pixels, the first at {_first(hot)}, are masked")
    valid = ~(masked | dead | hot)
    mean = np.where(valid, mean, 0.0)
    if not mean.any():
        raise ValueError(f"{where} is dark in every valid pixel; expected diffraction")
    corner = _corner(mean, zero_frequency, raw.zero_frequency, where)
    if corner:
        values, mean, valid = (np.fft.fftshift(each, axes=(-2, -1)) for each in (values, mean, valid))
    centre = _centre(mean, settings, notes)
    return Look(np.where(valid, values, 0), mean, valid, quantity, corner, centre, tuple(notes))


def dead_marks(patterns: np.ndarray, quantity: str) -> np.ndarray | None:
    """Where values are no measurements but mark pixels as dead, bool like ``patterns``; None for nowhere.

    Such marks are NaN, infinite and negative values, the largest of the integer type, and that of 32 or 64
    bits in a wider or floating type (of amplitudes also its root).
    """
    kind = patterns.dtype
    marks: set[float] = {2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1}
    if kind.kind in "iu":
        limit: float = np.iinfo(kind).max
        marks.add(limit)
    elif kind.kind == "b":
        return None
    else:
        limit = float(np.finfo(kind).max)
        marks |= {mark**0.5 for mark in marks if quantity == "amplitude"}
    largest, smallest = patterns.max(), patterns.min()  # both are NaN where any value is
    near = min(marks) * (1 - 1e-6)
    if smallest >= 0 and float(largest) < near:
        return None
    dead = ~np.isfinite(patterns) | (patterns < 0) if kind.kind == "f" else patterns < 0
    for mark in marks:
        if mark <= limit:
            dead |= patterns == kind.type(mark)
    return dead if dead.any() else None


def centredness(image: np.ndarray) -> float:
    """How far the light of ``image``, not negative, gathers around its centre, 1, or a corner, -1.

    From its mean city-block distance in units of the sides: a half for an even illumination, less for light
    around the centre (a disc, or a ring as well), more for light around the corner.
    """
    rows, cols = (np.abs(np.arange(side) - side // 2) / side for side in image.shape)
    return 1 - 2 * float(np.average(rows[:, None] + cols, weights=image))


def valid_of(mask: PixelMask, settings: MeasuredDetector, dead: np.ndarray, light: np.ndarray) -> np.ndarray:
    """The valid pixels, bool (R, C), turned as the patterns are.

    Where the file does not say what its mask means, the patterns tell: pixels that never change are bad, and
    where both kinds change, those that are few. Raises ValueError where this leaves it open.

    Args: ``dead`` (R, C) pixels that hold no measurement; ``light`` counts (k, R, C).
    """
    values = mask.values != 0
    if settings.transpose:
        values = values.T
    values = values[:: -1 if settings.flip_rows else 1, :: -1 if settings.flip_cols else 1]
    if values.shape != dead.shape:
        raise ValueError(
            f"{mask.where} has shape {mask.values.shape}; expected {dead.shape}, that of the patterns"
        )
    means = mask.means or _meaning(values, dead | (light.max(axis=0) == light.min(axis=0)))
    if means is None:
        raise ValueError(
            f"{mask.where} is not 0 in {values.sum()} of {values.size} pixels, valid or bad ones"
            "; expected data.layout.mask_means=valid or bad"
        )
    valid = ~values if means == "bad" else values
    if not valid.any():
        raise ValueError(f"{mask.where} is {'1' if means == 'bad' else '0'} everywhere; no pixel is valid")
    return valid


def _meaning(values: np.ndarray, constant: np.ndarray) -> str | None:
    """What a mask's ``values`` say of a pixel, valid or bad; None where nothing tells."""
    share = float(values.mean())
    if share in (0, 1):
        return "valid" if share else "bad"
    ones, zeros = bool(constant[values].all()), bool(constant[~values].all())
    if ones != zeros:
        return "bad" if ones else "valid"
    if min(share, 1 - share) > _FEW:
        return None
    return "bad" if share < 0.5 else "valid"


def _quantity(sample: np.ndarray, where: str) -> str:
    """Whole numbers are counts. Raises ValueError for others."""
    if sample.dtype.kind in "iub":
        return "counts"
    finite = sample[np.isfinite(sample)]
    if np.array_equal(finite, np.round(finite)):
        return "counts"
    raise ValueError(f"{where} holds fractions; expected data.layout.quantity=counts, or amplitude")


def _hot(light: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Single pixels that outshine their neighbours in all of some patterns, bool (R, C)."""
    if len(light) < 3:
        return np.zeros(mean.shape, np.bool_)
    around = np.ones((3, 3), np.bool_)
    around[1, 1] = False
    brightest = maximum_filter(mean, footprint=around, mode="nearest")
    return (mean > _HOT * (brightest + 1)) & (light.min(axis=0) > _HOT)


def _corner(mean: np.ndarray, typed: str | None, of_format: str | None, where: str) -> bool:
    """Whether the zero frequency stands at the corner.

    From roots, because one hot pixel could outweigh all counts. Raises ValueError when the patterns are
    clearly brighter around the other place than typed.
    """
    evidence = centredness(np.sqrt(mean))
    if typed is not None and evidence * (1 if typed == "centre" else -1) < -CONTRADICTION:
        other = "corner" if typed == "centre" else "centre"
        raise ValueError(
            f"data.layout.zero_frequency={typed} contradicts the data: {where} is brightest around"
            f" the {other}; choose {other}"
        )
    if typed is None and abs(evidence) > CONTRADICTION:
        return evidence < 0
    return (typed or of_format) == "corner"


def _centre(mean: np.ndarray, settings: MeasuredDetector, notes: list[str]) -> tuple[int, int]:
    """(row, col) of the zero frequency: the middle of the array or the centre of mass, and an offset."""
    middle = np.array([side // 2 for side in mean.shape])
    axes = [np.arange(side) for side in mean.shape]
    mass = np.array([np.average(axes[0], weights=mean.sum(1)), np.average(axes[1], weights=mean.sum(0))])
    off = mass - middle
    shown = f"({off[0]:+.1f}, {off[1]:+.1f}) px"
    offset = np.array(settings.centre_offset_px)
    if settings.centre == "mass":
        notes.append(f"centred on the centre of mass, {shown} off the middle of the detector")
        middle = np.round(mass).astype(int)
    elif not offset.any() and (np.abs(off) > _OFF_CENTRE * np.array(mean.shape)).any():
        notes.append(
            f"the centre of mass is {shown} off the middle of the detector: data.detector.centre=mass centres"
            " on it, data.detector.centre_offset_px=[…] on any place"
        )
    row, col = (middle + offset).tolist()
    if not (0 <= row < mean.shape[0] and 0 <= col < mean.shape[1]):
        raise ValueError(
            f"data.detector.centre_offset_px={offset.tolist()}: leaves the detector of {mean.shape} pixels"
        )
    return row, col


def _first(mask: np.ndarray) -> str:
    return str([int(i) for i in np.unravel_index(int(mask.argmax()), mask.shape)])
