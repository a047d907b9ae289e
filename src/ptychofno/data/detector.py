"""From what a detector wrote to diffraction amplitudes: mask, crop and bins.

Shapes: n patterns of (R, C) detector pixels, cut to amplitudes of (N, N).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from ptychofno.data.look import Look, dead_marks, oriented
from ptychofno.data.readers.source import first_index, require_scale

# The share of the median pattern's light up to which a pattern counts as dark: a few stray photons.
_DARK = 1e-5
_EXACT = 2**24  # below this single precision holds every integer
_SMALLEST_CEILING = 1023
_CEILINGS = {2**bits - 1 for bits in range(10, 33)}  # values at which detectors of so many bits stop counting


def cut(frames: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    """The square of ``frames`` (…, R, C) that begins there, (…, side, side), 0 outside of them."""
    inside = frames[..., max(top, 0) : top + side, max(left, 0) : left + side]
    if inside.shape[-2:] == (side, side):
        return inside
    before = (max(-top, 0), max(-left, 0))
    after = (side - have - start for have, start in zip(inside.shape[-2:], before, strict=True))
    return np.pad(inside, [(0, 0)] * (frames.ndim - 2) + list(zip(before, after, strict=True)))


@dataclass(frozen=True)
class Window:
    """The part of the detector that is used, and how finely; zero frequency at the centre."""

    top: int  # of its first pixel; negative where it leaves the detector
    left: int
    side: int  # in detector pixels
    bin: int
    valid: np.ndarray  # bool (side, side)

    @property
    def N(self) -> int:
        """Size of the amplitudes."""
        return self.side // self.bin

    def cut(self, frames: np.ndarray) -> np.ndarray:
        """The window of ``frames`` (…, R, C), 0 outside of the detector, (…, side, side)."""
        return cut(frames, self.top, self.left, self.side)

    def binned(self, counts: np.ndarray) -> np.ndarray:
        """Sums over the bins of (…, side, side), (…, N, N)."""
        if self.bin == 1:
            return counts
        shape = (*counts.shape[:-2], self.N, self.bin, self.N, self.bin)
        return counts.reshape(shape).sum(axis=(-3, -1))

    def binned_valid(self, valid: np.ndarray) -> np.ndarray:
        """Bins of which all pixels are valid, bool (N, N)."""
        return self.binned((~valid).astype(np.int32)) == 0


def window(look: Look, N: int | None, natural: int, bins: int) -> Window:
    """N x N bins, or ``natural`` pixels, around the zero frequency. Raises ValueError where these lack."""
    where, N = look.patterns.where, N or natural // bins // 2 * 2
    side, (rows, cols) = N * bins, look.mean.shape
    if N < 8:
        raise ValueError(
            f"{where}: data.detector.bin={bins} leaves {N} of {rows} x {cols} pixels; expected 8"
        )
    if side > 2 * max(rows, cols):
        raise ValueError(
            f"data.N={N}{f' with data.detector.bin={bins}' if bins > 1 else ''}: {where} have {rows} x {cols}"
            f" pixels; expected data.N={min(rows, cols) // bins // 2 * 2} or null"
        )
    row, col = look.centre
    found = Window(row - side // 2, col - side // 2, side, bins, look.valid)
    found = replace(found, valid=found.cut(look.valid))
    if not found.valid.any():
        raise ValueError(f"{where}: no valid pixel within data.N={N} of the centre ({row}, {col})")
    return found


def amplitudes(
    look: Look, window: Window, place: np.ndarray, each_block: Callable[[int, int], None]
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """All patterns with light as amplitudes X, read once: float32 (n, N, N), 0 where not valid.

    Also the mask, None where all is valid, and the numbers of the dark frames that are left out, as of a
    closed shutter. Pattern i goes to ``place[i]``; ``each_block`` is told how many of how many are read.
    Raises ValueError with the index of a pixel that is no measurement.
    """
    frames, count, saturation = look.patterns, len(look.patterns), look.detector.saturation
    if saturation is not None and look.quantity == "amplitude":
        saturation **= 0.5
    found = np.empty((count, window.N, window.N), np.float32)
    energy, saturated = np.zeros(count), np.zeros(window.valid.shape, np.bool_)
    refusals = _Refusals(look, window)
    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(frames.read, 0, frames.block)
        for start in range(0, count, frames.block):
            raw = ahead.result()
            ahead = reader.submit(frames.read, start + frames.block, start + 2 * frames.block)
            values = window.cut(_centred(raw, look))
            if not window.valid.all():
                values = np.where(window.valid, values, values.dtype.type(0))
            refusals.check_dead(values, start)
            if saturation is not None:
                saturated |= (values >= saturation).any(axis=0)
            elif look.quantity == "counts":
                refusals.watch_ceiling(values, start)
            amplitude = _amplitude(values, window, look.quantity)
            energy[start : start + len(raw)] = np.einsum("nij,nij->n", amplitude, amplitude, dtype=np.float64)
            found[place[start : start + len(raw)]] = amplitude
            each_block(start + len(raw), count)
    refusals.check_ceiling()
    valid = window.binned_valid(window.valid & ~saturated)
    if saturated.any():
        found[:, ~valid] = 0
        if not found.any():
            raise ValueError(f"data.detector.saturation: reached by every lit pixel of {frames.where}")
    dark = np.flatnonzero(energy <= _DARK * np.median(energy))
    if dark.size:
        lit = np.delete(np.arange(count), place[dark])
        for target, source in enumerate(lit):  # in place: there may be no room for two
            found[target] = found[source]
        found = found[: len(lit)]
    require_scale(float(found.max()), frames.where)
    return found, None if valid.all() else valid.astype(np.float32), dark


def _centred(frames: np.ndarray, look: Look) -> np.ndarray:
    turned = oriented(frames, look.detector)
    return np.fft.fftshift(turned, axes=(-2, -1)) if look.corner else turned


def _amplitude(values: np.ndarray, window: Window, quantity: str) -> np.ndarray:
    """The root of the counts in each bin, float32."""
    if quantity == "amplitude":
        if window.bin == 1:
            return values.astype(np.float32)
        values = np.square(values, dtype=np.float32)
    if window.bin > 1:
        values = window.binned(values.astype(np.float64 if values.dtype.itemsize > 4 else np.float32))
    # numpy takes the root of small integers, and of half floats, in half precision.
    small = values.dtype.kind in "iu" and values.dtype.itemsize <= 4 and int(values.max(initial=0)) < _EXACT
    wide = np.float32 if small else np.result_type(values, np.float32)
    return np.sqrt(values, dtype=wide).astype(np.float32, copy=False)


class _Refusals:
    """What is no measurement among the values (n, side, side) of a window, told by its place in the file."""

    def __init__(self, look: Look, window: Window) -> None:
        self._where, self._quantity = look.patterns.where, look.quantity
        # (row, col) in the file of each pixel of the window
        self._rows, self._cols = window.cut(_centred(np.indices(look.patterns.size), look))
        self._largest, self._times, self._first = 0.0, 0, ""

    def _place(self, marked: np.ndarray, start: int) -> str:
        pattern, row, col = first_index(marked)
        return f"[{pattern + start}, {self._rows[row, col]}, {self._cols[row, col]}]"

    def check_dead(self, values: np.ndarray, start: int) -> None:
        """Raise ValueError for a value that marks its pixel as dead in some patterns only."""
        dead = dead_marks(values, self._quantity)
        if dead is not None:
            raise ValueError(
                f"{self._where}{self._place(dead, start)} is {values[dead][0]}; expected finite"
                f" {self._quantity} >= 0 ({int(dead.sum())} of {dead.size} are not, or mark dead pixels: name"
                " an array of the valid ones in data.layout.mask_key, or mask saturated ones by"
                " data.detector.saturation)"
            )

    def watch_ceiling(self, values: np.ndarray, start: int) -> None:
        """Count how often the largest value of all stands there, if detectors stop counting at it."""
        largest = float(values.max(initial=0))
        if largest < max(self._largest, _SMALLEST_CEILING):
            return
        if largest > self._largest:
            self._largest, self._times = largest, 0
        if largest in _CEILINGS:
            reached = values == largest
            self._first = self._first if self._times else self._place(reached, start)
            self._times += int(reached.sum())

    def check_ceiling(self) -> None:
        """Raise ValueError for saturated counts."""
        if self._largest in _CEILINGS and self._times > 2:
            ceiling = int(self._largest)
            raise ValueError(
                f"{self._where}: {self._times} values, the first at {self._first}, are {ceiling}, where a"
                f" detector stops counting; data.detector.saturation={ceiling} masks these pixels,"
                f" {ceiling + 1} says that they are counts"
            )
