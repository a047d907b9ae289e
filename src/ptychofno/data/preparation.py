"""From what files tell of a scan to what a dataset is made of: one path for every format.

Shapes: n patterns of (R, C) detector pixels become amplitudes of (N, N); m modes of the probe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ptychofno.data import sampling
from ptychofno.data.detector import Window, amplitudes, oriented, window
from ptychofno.data.look import SAMPLE, Look, look
from ptychofno.data.near_field import require_far_field
from ptychofno.data.readers import open_scan
from ptychofno.data.readers.frames import Frames
from ptychofno.data.readers.scan import UNITS, RawScan
from ptychofno.data.settings import MeasuredData, MeasuredLayout

_LITTLE = 0.05
"""Share of the light that a window may lose."""


@dataclass(frozen=True)
class Prepared:
    """A scan whose patterns are still in their file, all else ready."""

    data: MeasuredData
    patterns: Frames
    look: Look
    window: Window
    positions_px: np.ndarray
    """(row, col) of every pattern, float64 (n, 2), the smallest 0."""
    modes: np.ndarray | None
    """The probe of the files, complex64 (m, N, N); None where they have none."""
    geometry: sampling.Geometry
    object_pixel_m: float | None
    notes: tuple[str, ...]
    """What was found and decided, a line each."""

    @property
    def mean_amplitude(self) -> np.ndarray:
        """Amplitude of the mean pattern, float64 (N, N)."""
        return _mean_amplitude(self.look, self.window)

    def amplitudes(
        self, place: np.ndarray, each_block: Callable[[int, int], None]
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """See ``detector.amplitudes``."""
        return amplitudes(self.patterns, self.look, self.window, self.data.detector, place, each_block)


def prepare(raw: RawScan, data: MeasuredData) -> Prepared:
    """Look at a sample of the patterns, choose their window, and bring positions and probe onto its pixels.

    Raises ValueError with one line for whatever makes no scan.
    """
    if raw.missing:
        raise ValueError(_what_is_missing(raw, data.path))
    if raw.near_field is not None:
        raise ValueError(
            f"data.path={data.path}: '{raw.near_field}' says that the patterns are near field; only"
            " far-field patterns can be reconstructed"
        )
    assert raw.patterns is not None and raw.positions is not None
    patterns, where = raw.patterns, raw.patterns.where
    _check_count(raw, data)
    seen = look(
        raw, data.detector, data.layout.zero_frequency, oriented(patterns.sample(SAMPLE), data.detector)
    )
    detector = min(seen.mean.shape)
    natural = sampling.natural_size(raw.probe, seen.mean.shape, seen.mean, seen.centre)
    chosen = window(seen, data.N, natural, data.detector, where)
    notes = [*seen.notes, *_window_notes(seen, chosen)]
    known = sampling.geometry(raw, data.geometry)
    grid, modes = float(detector), None
    if raw.probe is not None:
        placed = sampling.sampled(raw.probe, chosen, detector, _mean_amplitude(seen, chosen), known.field_m)
        sampling.check_probe(placed.modes, raw.probe.where)
        grid, modes = placed.grid, placed.modes
        notes += [placed.note] if placed.note else []
    pixel_m = sampling.object_pixel_m(known, raw, chosen, grid)
    positions = _turned(raw, data.layout)
    positions_px = sampling.in_pixels(positions, known, pixel_m, chosen.side / grid, chosen.N, notes)
    if positions.unit in UNITS and positions.unit != "px" and known.field_m is not None:
        index = np.unique(np.linspace(0, len(patterns) - 1, len(seen.sample)).round().astype(int))
        metres = positions.values[index] * UNITS[positions.unit]
        require_far_field(seen.sample, seen.sample.mean(axis=0), metres, known.field_m, where)
    return Prepared(
        data,
        patterns,
        seen,
        chosen,
        positions_px,
        modes,
        known,
        pixel_m,
        tuple(notes),
    )


def bins_for(data: MeasuredData, N: int) -> int:
    """How many detector pixels to bin for patterns of N x N: 1, unless cropping to them loses light.

    Binning keeps the light and narrows the field of view, in which the probe has to fit. Raises ValueError
    for files that cannot be read.
    """
    with open_scan(data.path, data.also, data.layout) as raw:
        if raw.missing or raw.patterns is None or raw.probe is None:
            return 1
        sample = oriented(raw.patterns.sample(SAMPLE), data.detector)
        seen = look(raw, data.detector, data.layout.zero_frequency, sample)
    cropped = window(seen, N, N, replace(data.detector, bin=1), raw.patterns.where)
    bins = min(seen.mean.shape) // N
    if bins < 2 or cropped.cut(seen.mean).sum() > (1 - _LITTLE) * seen.mean.sum():
        return 1
    power = np.square(np.abs(raw.probe.values)).sum(axis=0)
    inner = sampling.fitted(power, power.shape[-1] // bins)
    return bins if inner.sum() > (1 - _LITTLE) * power.sum() else 1


def _mean_amplitude(seen: Look, chosen: Window) -> np.ndarray:
    return np.sqrt(chosen.binned(chosen.cut(seen.mean)))


def _turned(raw: RawScan, layout: MeasuredLayout) -> sampling.Positions:
    """Positions with the axes of the scan as ``data.layout`` turns them."""
    assert raw.positions is not None
    values = raw.positions.values
    if layout.swap_axes:
        values = values[:, ::-1]
    values = values * np.where([layout.negate_rows, layout.negate_cols], -1, 1)
    return sampling.Positions(values, raw.positions.where, raw.positions.unit)


def _what_is_missing(raw: RawScan, path: str) -> str:
    there = [
        f"{name} of {'x'.join(map(str, shape))}"
        for name, shape in (
            ("patterns", (len(raw.patterns), *raw.patterns.size) if raw.patterns else None),
            ("positions", raw.positions.values.shape if raw.positions else None),
            ("a probe", raw.probe.values.shape if raw.probe else None),
            ("a mask", raw.mask.values.shape if raw.mask else None),
        )
        if shape is not None
    ]
    keys = [f"data.layout.{name}_keys" for name in raw.missing]
    return (
        f"data.path={path}: no {' and no '.join(raw.missing)} (found {', '.join(there) or 'nothing'}); name a"
        f" further file in data.also=[FILE], or the keys in {' and '.join(keys)}"
    )


def _check_count(raw: RawScan, data: MeasuredData) -> None:
    """Raise ValueError where patterns are too few, or not as many as positions."""
    assert raw.patterns is not None and raw.positions is not None
    count, positions = len(raw.patterns), raw.positions
    if len(positions.values) != count:
        raise ValueError(
            f"{positions.where} has shape {positions.values.shape}; expected ({count}, 2), one per pattern"
        )
    every, C = data.held_out_every, data.gridsize**2
    needed = max(3, every // 2 + 1) + (C - 1) * every
    if count < needed:
        more = f" with data.gridsize={data.gridsize}" if C > 1 else ""
        raise ValueError(
            f"{raw.patterns.where}: patterns are {count}; data.held_out_every={every}{more} needs {needed}"
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
