"""From what files tell of a scan to what a dataset is made of: one path for every format.

Shapes: n patterns of (R, C) detector pixels become amplitudes of (N, N); m modes of the probe.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ptychofno.data import sampling
from ptychofno.data.detector import Window, window
from ptychofno.data.look import SAMPLE, Look, look
from ptychofno.data.near_field import require_far_field
from ptychofno.data.readers import open_scan
from ptychofno.data.readers.frames import Frames
from ptychofno.data.readers.scan import UNITS, Positions, RawScan
from ptychofno.data.settings import MeasuredData, MeasuredLayout

_LITTLE = 0.05
"""Share of the light that a window may lose."""


@dataclass(frozen=True)
class Prepared:
    """A scan whose patterns are still in their file, all else ready."""

    patterns: Frames
    look: Look
    window: Window
    mean_amplitude: np.ndarray  # of the mean pattern, float64 (N, N)
    positions_px: np.ndarray  # (row, col) of every pattern, float64 (n, 2), the smallest 0
    modes: np.ndarray | None  # the probe of the files, complex64 (m, N, N); None where they have none
    geometry: sampling.Geometry
    object_pixel_m: float | None
    notes: tuple[str, ...]  # what was found and decided, a line each


def prepare(raw: RawScan, data: MeasuredData) -> Prepared:
    """Look at a sample of the patterns, choose their window, and bring positions and probe onto its pixels.

    Raises ValueError with one line for whatever makes no scan.
    """
    _check(raw, data)
    assert raw.patterns is not None and raw.positions is not None
    patterns, where, typed = raw.patterns, raw.patterns.where, data.geometry
    seen = look(raw, data)
    natural = sampling.natural_size(raw.probe, seen.mean, seen.centre)
    chosen = window(seen, data.N, natural, data.detector.bin, where)
    notes = [*seen.notes, *_window_notes(seen, chosen)]
    mean = np.sqrt(chosen.binned(chosen.cut(seen.mean)))
    known = sampling.Geometry(
        typed.energy_ev or raw.energy_ev,
        typed.distance_m or raw.distance_m,
        typed.detector_pixel_m or raw.detector_pixel_m,
    )
    grid, modes = float(min(seen.mean.shape)), None
    if raw.probe is not None:
        modes, grid = sampling.sampled(raw.probe, chosen, int(grid), mean, known.field_m, notes)
        sampling.check_probe(modes, raw.probe.where)
    pixel_m = None if raw.object_pixel_m is None else raw.object_pixel_m * grid / chosen.side
    if known.field_m is not None:
        pixel_m = known.field_m / chosen.side
    positions = _turned(raw.positions, data.layout)
    positions_px = sampling.in_pixels(positions, known, pixel_m, chosen.side / grid, chosen.N, notes)
    if positions.unit not in (None, "px") and known.field_m is not None:
        metres = positions.values[patterns.sampled(SAMPLE)] * UNITS[positions.unit]
        require_far_field(seen.sample, metres, known.field_m, where)
    return Prepared(patterns, seen, chosen, mean, positions_px, modes, known, pixel_m, tuple(notes))


def bins_for(data: MeasuredData, N: int) -> int:
    """How many detector pixels to bin for patterns of N x N: 1, unless cropping to them loses light.

    Binning keeps the light and narrows the field of view, in which the probe has to fit. Raises ValueError
    for files that cannot be read.
    """
    with open_scan(data.path, data.also, data.layout) as raw:
        if raw.missing or raw.patterns is None or raw.probe is None:
            return 1
        seen = look(raw, data)
    cropped = window(seen, N, N, 1, raw.patterns.where)
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


def _turned(positions: Positions, layout: MeasuredLayout) -> Positions:
    """Positions with the axes of the scan as ``data.layout`` turns them."""
    values = positions.values[:, ::-1] if layout.swap_axes else positions.values
    return replace(positions, values=values * np.where([layout.negate_rows, layout.negate_cols], -1, 1))


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
