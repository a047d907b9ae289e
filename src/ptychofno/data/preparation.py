"""From what files tell of a scan to what a dataset is made of: one path for every format.

Shapes: n patterns of (R, C) detector pixels become amplitudes of (N, N); m modes of the probe.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from ptychofno.data import sampling
from ptychofno.data.detector import Window, window
from ptychofno.data.look import SAMPLE, Look, look
from ptychofno.data.readers import open_scan
from ptychofno.data.readers.scan import UNITS, RawScan
from ptychofno.data.settings import MeasuredData

_LITTLE = 0.05  # share of the light that a window may lose
_LIT, _CORRELATED, _EXPLAINED = 0.05, 0.3, 0.9
# Of the search for a near field: shares of light, of a perfect correlation and of the motion; numbers.
_FEWEST_PAIRS, _MOST_PATTERNS = 8, 24


@dataclass(frozen=True)
class Prepared:
    """A scan whose patterns are still in their file, all else ready."""

    look: Look
    window: Window
    mean_amplitude: np.ndarray  # of the mean pattern, float64 (N, N)
    positions_px: np.ndarray  # (row, col) of every pattern, float64 (n, 2), the smallest 0
    modes: np.ndarray | None  # the probe of the files, complex64 (m, N, N); None where they have none
    geometry: sampling.Geometry
    object_pixel_m: float | None
    notes: tuple[str, ...]  # what was found and decided, a line each


def prepare(raw: RawScan, data: MeasuredData) -> Prepared:
    """Choose the window of the patterns, and bring positions and probe onto its pixels. Raises ValueError."""
    _check(raw, data)
    assert raw.patterns is not None and raw.positions is not None
    typed = data.geometry
    seen = look(raw, data)
    natural = sampling.natural_size(raw.probe, seen.mean, seen.centre)
    chosen = window(seen, data.N, natural, data.detector.bin)
    notes = [*seen.notes, *_window_notes(seen, chosen)]
    mean = np.sqrt(chosen.binned(chosen.cut(seen.mean)))
    known = sampling.Geometry(
        typed.energy_ev or raw.energy_ev,
        typed.distance_m or raw.distance_m,
        typed.detector_pixel_m or raw.detector_pixel_m,
    )
    grid, modes = float(min(seen.mean.shape)), None
    if raw.probe is not None:
        modes, grid = sampling.placed_probe(raw.probe, chosen, int(grid), mean, known.field_m, notes)
        sampling.check_probe(modes, raw.probe.where)
    pixel_m = None if raw.object_pixel_m is None else raw.object_pixel_m * grid / chosen.side
    if known.field_m is not None:
        pixel_m = known.field_m / chosen.side
    turned = raw.positions.values[:, :: -1 if data.layout.swap_axes else 1]
    signs = np.where([data.layout.negate_rows, data.layout.negate_cols], -1, 1)
    positions = replace(raw.positions, values=turned * signs)
    positions_px = sampling.in_pixels(positions, known, pixel_m, chosen.side / grid, chosen.N, notes)
    if positions.unit not in (None, "px") and known.field_m is not None:
        metres = positions.values[raw.patterns.spread(SAMPLE)] * UNITS[positions.unit]
        _require_far_field(seen.sample, metres, known.field_m, raw.patterns.where)
    return Prepared(seen, chosen, mean, positions_px, modes, known, pixel_m, tuple(notes))


def bins_for(data: MeasuredData, N: int) -> int:
    """How many detector pixels to bin for patterns of N x N: 1, unless cropping to them loses light and the
    probe fits into the narrower field of view. Raises ValueError for files that cannot be read."""
    with open_scan(data.path, data.also, data.layout) as raw:
        if raw.missing or raw.patterns is None or raw.probe is None:
            return 1
        seen = look(raw, data)
    cropped = window(seen, N, N, 1)
    bins = min(seen.mean.shape) // N
    if bins < 2 or cropped.cut(seen.mean).sum() > (1 - _LITTLE) * seen.mean.sum():
        return 1
    power = np.square(np.abs(raw.probe.values)).sum(axis=0)
    inner = sampling.fitted(power, power.shape[-1] // bins)
    return bins if inner.sum() > (1 - _LITTLE) * power.sum() else 1


def _check(raw: RawScan, data: MeasuredData) -> None:
    """Raise ValueError for what is missing, near field, too few patterns, or not as many as positions."""
    patterns, positions, path = raw.patterns, raw.positions, data.path
    if patterns is None or positions is None:
        shapes = {
            "patterns": (len(patterns), *patterns.size) if patterns else None,
            "positions": positions.values.shape if positions else None,
            "a probe": raw.probe.values.shape if raw.probe else None,
            "a mask": raw.mask.values.shape if raw.mask else None,
        }
        there = [f"{name} of {'x'.join(map(str, shape))}" for name, shape in shapes.items() if shape]
        keys = " and ".join(f"data.layout.{name}_keys" for name in raw.missing)
        raise ValueError(
            f"data.path={path}: no {' and no '.join(raw.missing)} (found {', '.join(there) or 'nothing'});"
            f" name a further file in data.also=[FILE], or the keys in {keys}"
        )
    if raw.near_field is not None:
        raise ValueError(
            f"data.path={path}: '{raw.near_field}' says that the patterns are near field; only"
            " far-field patterns can be reconstructed"
        )
    count, every, C = len(patterns), data.held_out_every, data.gridsize**2
    if len(positions.values) != count:
        raise ValueError(
            f"{positions.where} has shape {positions.values.shape}; expected ({count}, 2), one per pattern"
        )
    needed = max(3, every // 2 + 1) + (C - 1) * every
    if count < needed:
        more = f" with data.gridsize={data.gridsize}" if C > 1 else ""
        raise ValueError(
            f"{patterns.where}: patterns are {count}; data.held_out_every={every}{more} needs {needed}"
            " or more"
        )


def _window_notes(seen: Look, chosen: Window) -> list[str]:
    """What the window leaves out."""
    rows, cols = seen.mean.shape
    notes = []
    if (rows, cols) != (chosen.N, chosen.N):
        share = 1 - float(chosen.cut(seen.mean).sum() / seen.mean.sum())
        said = f"patterns of {rows} x {cols} are cropped to {chosen.side} x {chosen.side}"
        said += f" and binned to {chosen.N} x {chosen.N}" if chosen.bin > 1 else ""
        notes.append(f"{said}, which leaves out {share:.1%} of their light")
    if chosen.side > min(rows, cols):
        notes.append("pixels beyond the detector are masked")
    return notes


def _require_far_field(sample: np.ndarray, positions_m: np.ndarray, field_m: float, where: str) -> None:
    """Raise ValueError where a shadow of the object, which moves with the scan, shows a near field.

    A beam that diverges from a focus throws it, magnified. If the lit part of the object, as the shadow's
    magnification tells it, is larger than the field of view lambda z / p that a far-field pixel resolves,
    the patterns are holograms and no far field explains them. ``sample`` (k, R, C) at ``positions_m`` (k, 2).
    """
    mean = sample.mean(axis=0)
    lit = mean > _LIT * mean.max()
    contrast = np.where(lit, sample[:_MOST_PATTERNS] / np.maximum(mean, 1e-30) - 1, 0.0)
    far = np.fft.fft2(contrast)
    norms = np.sqrt(np.square(contrast).sum(axis=(-2, -1)))
    half = np.array(mean.shape) // 2
    shifts, steps = [], []
    for i, j in combinations(range(len(contrast)), 2):
        found = np.fft.ifft2(far[j] * far[i].conj()).real
        at = np.unravel_index(int(found.argmax()), found.shape)
        if found[at] > _CORRELATED * norms[i] * norms[j]:
            shifts.append((np.array(at) + half) % found.shape - half)
            steps.append(positions_m[j] - positions_m[i])
    if len(shifts) < _FEWEST_PAIRS:
        return
    moved, by = np.array(shifts, np.float64), np.array(steps)
    pixels_per_m = np.linalg.lstsq(by, moved, rcond=None)[0]
    left = np.square(moved - by @ pixels_per_m).sum() / max(np.square(moved).sum(), 1e-30)
    magnified = float(np.sqrt(abs(np.linalg.det(pixels_per_m))))
    if left > 1 - _EXPLAINED or magnified == 0:
        return
    width_m = float(np.sqrt(lit.sum())) / magnified
    if width_m > field_m:
        raise ValueError(
            f"{where} are near field: the object's shadow moves with the scan by {magnified * 1e-6:.3g}"
            f" detector pixels per um, so that {width_m * 1e6:.3g} um are lit, and a far field shows"
            f" {field_m * 1e6:.3g} um at most; only far-field patterns can be reconstructed"
        )
