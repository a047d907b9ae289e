"""Diffraction patterns that stay in their file until some of them are asked for.

Shapes: n patterns of (R, C) detector pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ptychofno.data.readers.source import Lazy, Source, is_complex

_BLOCK_BYTES = 2**25
"""About so much is read at a time."""


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

    def sampled(self, most: int) -> np.ndarray:
        """The numbers of at most so many patterns, evenly spaced."""
        return np.unique(np.linspace(0, len(self) - 1, min(most, len(self))).round().astype(int))

    def sample(self, most: int) -> np.ndarray:
        """These patterns, (k, R, C)."""
        wanted = self.sampled(most)
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
