"""What files tell about a scan, before anything is computed from it.

Shapes: n patterns of (R, C) detector pixels, modes of the probe (M, M).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from ptychofno.data.readers.source import Lazy, Source, is_complex

HC_EV_M = 1.23984198e-6  # photon energy times wavelength
# Metres per unit of a position; px are object pixels.
UNITS = {"px": 1.0, "m": 1.0, "mm": 1e-3, "um": 1e-6, "nm": 1e-9, "angstrom": 1e-10}


_BLOCK_BYTES = 2**25  # about so much is read at a time


@dataclass(frozen=True)
class Frames:
    """A stack of patterns, in one array or in several that follow one another."""

    parts: tuple[Lazy, ...]
    """Each (…, R, C), or (R, C, n) where ``last``; what is before R and C counts patterns."""
    where: str  # file and key, for messages
    swapped: bool = False  # whether rows and columns stand the other way in the file
    last: bool = False  # whether patterns are counted along the last axis
    chosen: tuple[int, ...] | None = None  # which patterns of the file, in which order; None for all

    @property
    def size(self) -> tuple[int, int]:
        """(R, C)"""
        shape = self.parts[0].shape
        rows, cols = shape[:2] if self.last else shape[-2:]
        return (cols, rows) if self.swapped else (rows, cols)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the pixels, as they are in the file."""
        return self.parts[0].dtype

    def __len__(self) -> int:
        return self._total() if self.chosen is None else len(self.chosen)

    @property
    def block(self) -> int:
        """How many patterns to read at a time."""
        return max(1, _BLOCK_BYTES // max(1, math.prod(self.size) * self.dtype.itemsize))

    def counted(self, positions: int | None) -> Frames:
        """With patterns along the last axis, where as many positions say so, or the only square of sides."""
        shape = self.parts[0].shape
        if len(shape) != 3:
            return self
        last = shape[0] == shape[1] != shape[2]
        if positions in (shape[0], shape[2]) and shape[0] != shape[2]:
            last = positions == shape[2]
        return replace(self, last=last)

    def take(self, indices: Sequence[int]) -> Frames:
        """These patterns of a whole stack, in this order."""
        picked = tuple(indices)
        return replace(self, chosen=None if picked == tuple(range(self._total())) else picked)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Patterns ``start`` to ``stop``, (k, R, C), of the file's type."""
        if self.chosen is None:
            return self._consecutive(start, stop)
        wanted = np.asarray(self.chosen[start:stop])
        runs = np.split(wanted, np.flatnonzero(np.diff(wanted) != 1) + 1)
        return np.concatenate([self._consecutive(int(run[0]), int(run[-1]) + 1) for run in runs])

    def spread(self, most: int) -> np.ndarray:
        """The numbers of at most so many patterns, evenly spaced."""
        return np.unique(np.linspace(0, len(self) - 1, min(most, len(self))).round().astype(int))

    def sample(self, most: int) -> np.ndarray:
        """These patterns, (k, R, C)."""
        wanted = self.spread(most)
        if len(wanted) == len(self):
            return self.read(0, len(self))
        return np.concatenate([self.read(int(i), int(i) + 1) for i in wanted])

    def _total(self) -> int:
        return sum(map(self._count, self.parts))

    def _count(self, part: Lazy) -> int:
        return part.shape[-1] if self.last else math.prod(part.shape[:-2])

    def _consecutive(self, start: int, stop: int) -> np.ndarray:
        """Consecutive patterns of the file."""
        found, offset = [], 0
        for part in self.parts:
            count = self._count(part)
            first, end = max(start - offset, 0), min(stop - offset, count)
            if first < end:
                found.append(self._of_part(part, first, end))
            offset += count
        frames = found[0] if len(found) == 1 else np.concatenate(found)
        return frames.swapaxes(1, 2) if self.swapped else frames

    def _of_part(self, part: Lazy, start: int, stop: int) -> np.ndarray:
        if self.last:
            return np.moveaxis(np.asarray(part[:, :, start:stop]), -1, 0)
        lead = part.shape[:-2]
        if not lead:
            return np.asarray(part[()])[None]
        # Whole entries of the first axis that has several are read; each holds so many patterns.
        axis = next((i for i, side in enumerate(lead) if side > 1), len(lead) - 1)
        held = math.prod(lead[axis + 1 :])
        entries = slice(start // held, -(-stop // held))
        flat = np.asarray(part[(*(0,) * axis, entries)]).reshape(-1, *part.shape[-2:])
        skipped = start // held * held
        return flat[start - skipped : stop - skipped]


@dataclass(frozen=True)
class Positions:
    """Where patterns were taken."""

    values: np.ndarray
    """(row, col) float64 (n, 2): how the probe moves over the object, along the detector's axes."""
    where: str  # file and keys, for messages
    unit: str | None = None  # a key of ``UNITS``; None where the file does not say
    index: np.ndarray | None = None
    """The number of the pattern each belongs to; None where they are in the order of the patterns."""


@dataclass(frozen=True)
class Modes:
    """An estimate of the probe."""

    values: np.ndarray  # complex (modes, M, M)
    where: str
    pixel_m: float | None = None  # size of its pixels where the file says so


@dataclass(frozen=True)
class PixelMask:
    """Which detector pixels say something."""

    values: np.ndarray  # bool (R, C)
    where: str
    means: str | None = None  # what true says: valid or bad; None where the file does not say


@dataclass(frozen=True)
class RawScan:
    """All that is known of a scan, and None for what is not."""

    format: str  # what the files were taken for, in words
    patterns: Frames | None = None
    pattern_index: np.ndarray | None = None  # the number of each pattern, where the file numbers them
    quantity: str | None = None  # counts or amplitude
    zero_frequency: str | None = None  # centre or corner
    positions: Positions | None = None
    probe: Modes | None = None
    mask: PixelMask | None = None
    energy_ev: float | None = None
    distance_m: float | None = None
    detector_pixel_m: float | None = None
    object_pixel_m: float | None = None  # as the file says it, for the probe's own grid
    near_field: str | None = None  # where the file says that the patterns are no far field

    @property
    def missing(self) -> list[str]:
        """What a reconstruction needs and is not there."""
        return [name for name in ("patterns", "positions") if getattr(self, name) is None]


def frames(source: Source, keys: Sequence[str]) -> Frames:
    """The patterns under ``keys``, one after the other, unread. Raises ValueError for others."""
    parts = []
    for key in keys:
        array = source.numbers(key)
        if is_complex(array.dtype):
            raise ValueError(f"{source.label}: '{key}' is {array.dtype}; expected real counts or amplitudes")
        lead = [side for side in array.shape[:-2] if side > 1]
        if len(array.shape) < 2 or len(lead) > 2 or min(array.shape) < 1:
            raise ValueError(
                f"{source.label}: patterns '{key}' have shape {array.shape}; expected (n, N, N) or (rows,"
                " columns, N, N)"
            )
        parts.append(array)
    return Frames(tuple(parts), f"{source.label}: '{keys[0]}'", swapped=source.swapped).counted(None)


def merged(scans: Sequence[RawScan]) -> RawScan:
    """What several files tell together: what the first of them tells, and patterns of one size in turn."""
    known: dict[str, Any] = {}
    for name in (field.name for field in fields(RawScan)):
        told = (value for scan in scans if (value := getattr(scan, name)) is not None)
        known[name] = next(told, None)
    whole = RawScan(**known | {"format": " + ".join(dict.fromkeys(scan.format for scan in scans))})
    stacks = [scan.patterns for scan in scans if scan.patterns is not None]
    if not stacks:
        return whole
    parts = (stack.parts for stack in stacks if stack.size == stacks[0].size)
    patterns = replace(stacks[0], parts=sum(parts, ()))
    count = None if whole.positions is None else len(whole.positions.values)
    return replace(whole, patterns=patterns.counted(count))


def joined(raw: RawScan) -> RawScan:
    """The patterns that have a position, in the order of positions, where these are numbered."""
    if raw.patterns is None or raw.positions is None or raw.positions.index is None:
        return raw
    count, positions = len(raw.patterns), raw.positions
    numbers = list(range(count)) if raw.pattern_index is None else raw.pattern_index.reshape(-1).tolist()
    index = raw.positions.index.reshape(-1).tolist()
    if len(numbers) != count or len(index) != len(positions.values):
        raise ValueError(
            f"{positions.where}: {len(positions.values)} positions have {len(index)} numbers, {count}"
            f" patterns {len(numbers)}; expected a number for each"
        )
    place = {number: i for i, number in enumerate(numbers)}
    kept = [i for i, number in enumerate(index) if number in place]
    if not kept:
        raise ValueError(f"{positions.where}: no position has the number of a pattern")
    return replace(
        raw,
        patterns=raw.patterns.take([place[index[i]] for i in kept]),
        positions=replace(positions, values=positions.values[kept], index=None),
        pattern_index=None,
    )
