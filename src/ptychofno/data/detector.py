"""From what a detector wrote to diffraction amplitudes: orientation, mask, centre, crop and bins.

Shapes: n patterns of (R, C) detector pixels, cut to amplitudes of (N, N).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ptychofno.data.look import Look, dead_marks
from ptychofno.data.readers.frames import Frames
from ptychofno.data.readers.source import require_scale
from ptychofno.data.settings import MeasuredDetector

_DARK = 1e-5
"""The share of the median pattern's light up to which a pattern counts as dark: a few stray photons."""

_EXACT = 2**24
"""Below this single precision holds every integer."""

_SMALLEST_CEILING = 1023
_CEILINGS = {2**bits - 1 for bits in range(10, 33)}
"""Values at which detectors of so many bits stop counting."""


@dataclass(frozen=True)
class Window:
    """The part of the detector that is used, and how finely."""

    top: int
    left: int
    """Of its first pixel, zero frequency at the centre; negative where it leaves the detector."""
    side: int
    """In detector pixels."""
    bin: int
    valid: np.ndarray
    """bool (side, side)"""

    @property
    def N(self) -> int:
        """Size of the amplitudes."""
        return self.side // self.bin

    def cut(self, frames: np.ndarray) -> np.ndarray:
        """The window of ``frames`` (…, R, C), 0 outside of the detector, (…, side, side)."""
        top, left = max(self.top, 0), max(self.left, 0)
        inside = frames[..., top : self.top + self.side, left : self.left + self.side]
        if inside.shape[-2:] == (self.side, self.side):
            return inside
        cut = np.zeros((*frames.shape[:-2], self.side, self.side), frames.dtype)
        down, right = top - self.top, left - self.left
        cut[..., down : down + inside.shape[-2], right : right + inside.shape[-1]] = inside
        return cut

    def binned(self, counts: np.ndarray) -> np.ndarray:
        """Sums over the bins of (…, side, side), (…, N, N)."""
        if self.bin == 1:
            return counts
        shape = (*counts.shape[:-2], self.N, self.bin, self.N, self.bin)
        return counts.reshape(shape).sum(axis=(-3, -1))

    def binned_valid(self, valid: np.ndarray) -> np.ndarray:
        """Bins of which all pixels are valid, bool (N, N)."""
        return self.binned((~valid).astype(np.int32)) == 0


def window(look: Look, N: int | None, natural: int, settings: MeasuredDetector, where: str) -> Window:
    """The window that ``data.N`` and ``data.detector`` ask for around the zero frequency.

    Args:
        natural: the size that patterns have where ``data.N`` is null.

    Raises ValueError for a window that the detector cannot fill.
    """
    bins = settings.bin
    N = N or natural // bins // 2 * 2
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
    found = Window(row - side // 2, col - side // 2, side, bins, np.ones((side, side), np.bool_))
    valid = found.cut(look.valid)
    if not valid.any():
        raise ValueError(f"{where}: no valid pixel within data.N={N} of the centre ({row}, {col})")
    return Window(found.top, found.left, side, bins, valid)


def oriented(frames: np.ndarray, settings: MeasuredDetector) -> np.ndarray:
    """Frames (…, R, C) turned as ``data.detector`` says."""
    if settings.transpose:
        frames = frames.swapaxes(-1, -2)
    if settings.flip_rows:
        frames = frames[..., ::-1, :]
    return frames[..., ::-1] if settings.flip_cols else frames


def amplitudes(
    frames: Frames,
    look: Look,
    window: Window,
    settings: MeasuredDetector,
    place: np.ndarray,
    each_block: Callable[[int, int], None],
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """All patterns with light as amplitudes X, read once: float32 (n, N, N), 0 where not valid.

    Also the mask, None where all is valid, and the numbers of the dark frames that are left out, as of a
    closed shutter.

    Args:
        place: where in the result each pattern goes.
        each_block: is told how many of how many patterns are read.

    Raises ValueError with the index of a pixel that is no measurement.
    """
    count = len(frames)
    found = np.empty((count, window.N, window.N), np.float32)
    energy, saturated = np.zeros(count), np.zeros(window.valid.shape, np.bool_)
    pixels = _pixels(look, window, frames.size, settings)
    ceiling = _Ceiling(settings.saturation, look.quantity, frames.where, pixels)
    starts = range(0, count, frames.block)
    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(frames.read, 0, frames.block)
        for start in starts:
            raw = ahead.result()
            ahead = reader.submit(frames.read, start + frames.block, start + 2 * frames.block)
            block = _centred(oriented(raw, settings), look.corner)
            cut = window.cut(block)
            values = np.where(window.valid, cut, cut.dtype.type(0)) if not window.valid.all() else cut
            check_pixels(values, None, look.quantity, frames.where, start, pixels)
            saturated |= ceiling.reached(values, start)
            amplitude = _amplitude(values, window, look.quantity)
            energy[start : start + len(raw)] = np.einsum("nij,nij->n", amplitude, amplitude, dtype=np.float64)
            found[place[start : start + len(raw)]] = amplitude
            each_block(start + len(raw), count)
    ceiling.require_none(saturated)
    valid = window.binned_valid(window.valid & ~saturated)
    if saturated.any():
        found[:, ~valid] = 0
    dark = np.flatnonzero(energy <= _DARK * np.median(energy))
    if dark.size:
        lit = np.delete(np.arange(count), place[dark])
        for target, source in enumerate(lit):  # in place: there may be no room for two
            found[target] = found[source]
        found = found[: len(lit)]
    require_scale(float(found.max()), frames.where)
    return found, None if valid.all() else valid.astype(np.float32), dark


def _pixels(look: Look, window: Window, size: tuple[int, int], settings: MeasuredDetector) -> np.ndarray:
    """(row, col) in the file of each pixel of the window, int64 (side, side, 2)."""
    turned = oriented(np.stack(np.meshgrid(*map(np.arange, size), indexing="ij")), settings)
    return np.moveaxis(window.cut(_centred(turned, look.corner)), 0, -1)


def _centred(frames: np.ndarray, corner: bool) -> np.ndarray:
    return np.fft.fftshift(frames, axes=(-2, -1)) if corner else frames


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


class _Ceiling:
    """Where a detector stopped counting: at a typed value, or at the largest one if that is such a value."""

    def __init__(self, saturation: float | None, quantity: str, where: str, pixels: np.ndarray) -> None:
        self._given = None if saturation is None or quantity == "counts" else saturation**0.5
        self._given = saturation if quantity == "counts" else self._given
        self._quantity, self._where, self._pixels = quantity, where, pixels
        self._largest, self._times, self._first = 0.0, 0, ""

    def reached(self, values: np.ndarray, start: int) -> np.ndarray | bool:
        """Pixels (side, side) that some pattern saturates, where a value is typed."""
        if self._given is not None:
            return (values >= self._given).any(axis=0)
        largest = float(values.max(initial=0))
        if largest < max(self._largest, _SMALLEST_CEILING) or self._quantity != "counts":
            return False
        if largest > self._largest:
            self._largest, self._times = largest, 0
        if largest in _CEILINGS:
            at = values == largest
            if not self._times:
                self._first = _place(at, start, self._pixels)
            self._times += int(at.sum())
        return False

    def require_none(self, saturated: np.ndarray) -> None:
        """Raise ValueError for saturated counts that are not masked, or a mask that leaves nothing."""
        if saturated.all():
            raise ValueError(f"data.detector.saturation: reached by every pixel of {self._where}")
        if self._largest in _CEILINGS and self._times > 2:
            ceiling = int(self._largest)
            raise ValueError(
                f"{self._where}: {self._times} values, the first at {self._first}, are {ceiling}, where a"
                f" detector stops counting; data.detector.saturation={ceiling} masks these pixels,"
                f" {ceiling + 1} says that they are counts"
            )


def check_pixels(
    patterns: np.ndarray,
    valid: np.ndarray | None,
    quantity: str,
    where: str,
    start: int = 0,
    pixels: np.ndarray | None = None,
) -> None:
    """Raise ValueError for a valid pixel whose value is no measurement but marks it as dead.

    Args:
        patterns: real (n, N, N). valid: bool, broadcastable to them; None where all pixels are.
        quantity: counts or amplitude. where: file and key. start: number of the first pattern.
        pixels: (row, col) in the file of each pixel, (N, N, 2); None for the same.
    """
    dead = dead_marks(patterns, quantity)
    if dead is not None and valid is not None:
        dead &= valid
    if dead is not None and dead.any():
        raise ValueError(
            f"{where}{_place(dead, start, pixels)} is {patterns[dead][0]}; expected finite {quantity} >= 0"
            f" ({int(dead.sum())} of {dead.size} are not, or mark dead pixels: name an array of the valid"
            " ones in data.layout.mask_key, or mask saturated ones by data.detector.saturation)"
        )


def _place(mask: np.ndarray, start: int, pixels: np.ndarray | None) -> str:
    """The first true entry of (n, N, N) as an index into the file, such as ``[3, 17, 5]``."""
    pattern, row, col = (int(i) for i in np.unravel_index(int(mask.argmax()), mask.shape))
    if pixels is not None:
        row, col = pixels[row, col].tolist()
    return str([pattern + start, row, col])
