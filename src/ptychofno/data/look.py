"""A first look at a scan's patterns, of which a sample is read: dead and hot pixels, mask, centre, quantity.

Shapes: k sampled patterns of (R, C) detector pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter

from ptychofno.data.readers.scan import Frames, PixelMask, RawScan
from ptychofno.data.readers.source import first_index, require_scale
from ptychofno.data.settings import MeasuredData, MeasuredDetector

SAMPLE = 48  # so many patterns are looked at
# How clearly something must be brighter around the corner, or the centre, to be refused for it.
CONTRADICTION = 0.05
_HOT = 300  # a pixel this many times as bright as its brightest neighbour, in every pattern, counts nothing
_FEW = 0.1  # share of the detector up to which pixels that a mask tells apart are believed to be the bad ones
_OFF_CENTRE = 0.05  # share of the detector that the centre of mass may be off its centre without being told
_MARKS = (2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1)


@dataclass(frozen=True)
class Look:
    """What a sample of patterns shows."""

    patterns: Frames  # all of them
    detector: MeasuredDetector
    sample: np.ndarray  # float32 (k, R, C), counts or amplitudes, 0 where not valid, zero frequency centred
    mean: np.ndarray  # mean counts, float64 (R, C), 0 where not valid
    valid: np.ndarray  # bool (R, C)
    quantity: str
    corner: bool  # whether the file has the zero frequency at the corner
    centre: tuple[int, int]  # (row, col) of the zero frequency
    notes: tuple[str, ...]  # what was found and decided, a line each


def look(raw: RawScan, data: MeasuredData) -> Look:
    """Look at a sample. Raises ValueError where quantity, mask or zero frequency cannot be told."""
    assert raw.patterns is not None
    where, sample = raw.patterns.where, oriented(raw.patterns.sample(SAMPLE), data.detector)
    quantity = raw.quantity or _quantity(sample, where)
    marks = dead_marks(sample, quantity)
    dead = np.zeros(sample.shape[1:], np.bool_) if marks is None else np.all(marks, axis=0)
    measured = sample if marks is None else np.where(marks, 0, sample)
    peak = float(measured.max())
    require_scale(peak if quantity == "amplitude" else peak**0.5, where)
    values = measured.astype(np.float32)
    light = np.square(values, dtype=np.float64) if quantity == "amplitude" else values.astype(np.float64)
    mean = light.mean(axis=0)
    if not mean.any():
        raise ValueError(f"{where} is dark everywhere; expected diffraction")
    masked = np.zeros_like(dead)
    if raw.mask is not None:
        constant = dead | (light.max(axis=0) == light.min(axis=0))
        masked = ~_valid_of(raw.mask, oriented(raw.mask.values, data.detector), constant)
    unnamed, hot = dead & ~masked, _hot(light, mean) & ~masked & ~dead
    size, notes = masked.size, []
    if masked.any():
        notes.append(f"{masked.sum()} of {size} detector pixels are masked by the file")
    if unnamed.any():
        shown = sample[0][unnamed][0]
        notes.append(f"{unnamed.sum()} of {size} detector pixels are {shown} in every pattern: masked")
    if hot.any():
        notes.append(f"{hot.sum()} hot detector pixels, the first at {first_index(hot)}, are masked")
    valid = ~(masked | dead | hot)
    mean = np.where(valid, mean, 0.0)
    if not mean.any():
        raise ValueError(f"{where} is dark in every valid pixel; expected diffraction")
    corner = _corner(mean, data.layout.zero_frequency, raw.zero_frequency, where)
    if corner:
        values, mean, valid = (np.fft.fftshift(each, axes=(-2, -1)) for each in (values, mean, valid))
    centre = _centre(mean, data.detector, notes)
    values = np.where(valid, values, 0)
    return Look(raw.patterns, data.detector, values, mean, valid, quantity, corner, centre, tuple(notes))


def oriented(frames: np.ndarray, settings: MeasuredDetector) -> np.ndarray:
    """Frames (…, R, C) turned as ``data.detector`` says."""
    turned = frames.swapaxes(-1, -2) if settings.transpose else frames
    return turned[..., :: -1 if settings.flip_rows else 1, :: -1 if settings.flip_cols else 1]


def dead_marks(patterns: np.ndarray, quantity: str) -> np.ndarray | None:
    """Where values are no measurements but mark pixels as dead, bool like ``patterns``; None for nowhere.

    Such marks are NaN, infinite and negative values, the largest of the integer type, and that of 32 or 64
    bits in a wider or floating type (of amplitudes also its root).
    """
    kind = patterns.dtype
    if kind.kind == "b":
        return None
    whole = kind.kind in "iu"
    limit = float(np.iinfo(kind).max if whole else np.finfo(kind).max)
    marks: set[float] = {*_MARKS, *([np.iinfo(kind).max] if whole else [])}
    if quantity == "amplitude" and not whole:
        marks |= {mark**0.5 for mark in marks}
    # Least and largest are NaN where any value is.
    if patterns.min() >= 0 and float(patterns.max()) < min(marks) * (1 - 1e-6):
        return None
    dead = ~np.isfinite(patterns) | (patterns < 0)
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


def _valid_of(mask: PixelMask, values: np.ndarray, constant: np.ndarray) -> np.ndarray:
    """The valid pixels, bool (R, C), from a mask's ``values`` turned as the patterns are.

    Where the file does not say what its mask means, the patterns tell: those that never change (``constant``)
    are bad, and where both kinds change, those that are few. Raises ValueError where this leaves it open.
    """
    if values.shape != constant.shape:
        raise ValueError(
            f"{mask.where} has shape {mask.values.shape}; expected {constant.shape}, that of the patterns"
        )
    means = mask.means or _meaning(values, constant)
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
    finite = sample[np.isfinite(sample)]
    if sample.dtype.kind in "iub" or np.array_equal(finite, np.round(finite)):
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
    """Whether it is at the corner. Raises ValueError where the data contradict what is typed."""
    evidence = centredness(np.sqrt(mean))  # of roots, because one hot pixel could outweigh all counts
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
    weights = (mean.sum(1), mean.sum(0))
    mass = np.array([np.average(np.arange(len(each)), weights=each) for each in weights])
    off, offset = mass - middle, np.array(settings.centre_offset_px)
    shown = f"({off[0]:+.1f}, {off[1]:+.1f}) px"
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
