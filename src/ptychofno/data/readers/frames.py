"""Diffraction patterns that stay in their file until some of them are asked for.

Shapes: n patterns of (R, C) detector pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ptychofno.data.readers.source import Lazy, Source, complex_fields

_BLOCK_BYTES = 2**25
"""About so much is read at a time."""


@dataclass(frozen=True)
class Frames:
    """A stack of patterns, in one array or in several that follow one another."""

    parts: tuple[Lazy, ...]
    """Each (…, R, C), or (R, C, n) where ``last``; what is before R and C counts patterns."""
    where: str
    """File and key, for messages."""
    swapped: bool = False
    """Whether rows and columns stand the other way in the file."""
    last: bool = False
    """Whether patterns are counted along the last axis."""
    chosen: tuple[int, ...] | None = None
    """Which patterns of the file, in which order; None for all."""

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

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the scan where the file tells them."""
        shape = self.parts[0].shape
        lead = [side for side in shape[:-2] if side > 1]
        return (lead[0], lead[1]) if len(lead) == 2 and not self.last and self.chosen is None else None

    def __len__(self) -> int:
        return len(self.chosen) if self.chosen is not None else sum(map(self._count, self.parts))

    def _count(self, part: Lazy) -> int:
        return part.shape[-1] if self.last else int(np.prod(part.shape[:-2], dtype=object))

    @property
    def block(self) -> int:
        """How many patterns to read at a time."""
        return max(1, _BLOCK_BYTES // max(1, self.size[0] * self.size[1] * self.dtype.itemsize))

    def take(self, indices: Sequence[int]) -> Frames:
        """These patterns, in this order."""
        known = range(len(self)) if self.chosen is None else self.chosen
        picked = tuple(int(known[index]) for index in indices)
        return replace(self, chosen=None if picked == tuple(range(self._total())) else picked)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Patterns ``start`` to ``stop``, (k, R, C), of the file's type."""
        if self.chosen is None:
            return self._run(start, min(stop, len(self)))
        wanted = np.asarray(self.chosen[start:stop])
        runs = np.split(wanted, np.flatnonzero(np.diff(wanted) != 1) + 1)
        return np.concatenate([self._run(int(run[0]), int(run[-1]) + 1) for run in runs])

    def sample(self, most: int) -> np.ndarray:
        """At most so many patterns, evenly spaced, (k, R, C)."""
        wanted = np.unique(np.linspace(0, len(self) - 1, min(most, len(self))).round().astype(int))
        if len(wanted) == len(self):
            return self.read(0, len(self))
        return np.concatenate([self.read(int(i), int(i) + 1) for i in wanted])

    def _total(self) -> int:
        return sum(map(self._count, self.parts))

    def _run(self, start: int, stop: int) -> np.ndarray:
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
        lead = [axis for axis, side in enumerate(part.shape[:-2]) if side > 1]
        if len(part.shape) == 2:
            return np.asarray(part[()])[None]
        if len(lead) <= 1:  # other axes in front hold one entry
            axis = lead[0] if lead else 0
            index = tuple(slice(start, stop) if i == axis else 0 for i in range(len(part.shape) - 2))
            return np.asarray(part[index])
        cols = int(np.prod(part.shape[lead[1] : -2]))
        before = (0,) * lead[0]
        rows = np.asarray(part[(*before, slice(start // cols, -(-stop // cols)))])
        flat = rows.reshape(-1, *part.shape[-2:])
        skipped = start // cols * cols
        return flat[start - skipped : stop - skipped]


def frames(source: Source, key: str, setting: str, count: int | None = None) -> Frames:
    """The patterns under ``key``, unread.

    Args:
        count: how many positions there are; tells whether patterns are counted along the last axis.

    Raises ValueError for an array that holds no patterns.
    """
    array = source.numeric(key, setting)
    where = f"{source.label}: patterns '{key}'"
    if array.dtype.kind == "c" or complex_fields(array.dtype) is not None:
        raise ValueError(f"{source.label}: '{key}' is {array.dtype}; expected real counts or amplitudes")
    lead = [side for side in array.shape[:-2] if side > 1]
    if len(array.shape) < 2 or len(lead) > 2 or min(array.shape[-2:]) < 1:
        raise ValueError(f"{where} have shape {array.shape}; expected (n, N, N) or (rows, columns, N, N)")
    last = len(array.shape) == 3 and _counted_last(array.shape, count)
    return Frames((array,), f"{source.label}: '{key}'", swapped=source.swapped, last=last)


def _counted_last(shape: tuple[int, ...], count: int | None) -> bool:
    """Whether (R, C, n) rather than (n, R, C): as many positions say so, or the only square pair of sides."""
    if count is not None and count in (shape[0], shape[2]) and shape[0] != shape[2]:
        return count == shape[2]
    return shape[0] == shape[1] != shape[2]
