"""What files tell about a scan, before anything is computed from it.

Shapes: n patterns of (R, C) detector pixels, modes of the probe (M, M).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from ptychofno.data.readers.frames import Frames

HC_EV_M = 1.23984198e-6
"""Photon energy times wavelength."""

JOULE_EV = 6.241509e18

UNITS = {"px": 1.0, "m": 1.0, "mm": 1e-3, "um": 1e-6, "nm": 1e-9, "angstrom": 1e-10}
"""Metres per unit of a position; px are object pixels."""


@dataclass(frozen=True)
class Positions:
    """Where patterns were taken."""

    values: np.ndarray
    """(row, col) float64 (n, 2): how the probe moves over the object, along the detector's axes."""
    where: str
    """File and keys, for messages."""
    unit: str | None = None
    """A key of ``UNITS``; None where the file does not say."""
    index: np.ndarray | None = None
    """The number of the pattern each belongs to; None where they are in the order of the patterns."""


@dataclass(frozen=True)
class Modes:
    """An estimate of the probe."""

    values: np.ndarray
    """complex (modes, M, M)"""
    where: str
    pixel_m: float | None = None
    """Size of its pixels where the file says so."""


@dataclass(frozen=True)
class PixelMask:
    """Which detector pixels say something."""

    values: np.ndarray
    """(R, C)"""
    where: str
    means: str | None = None
    """What a value other than 0 says: valid or bad; None where the file does not say."""


@dataclass(frozen=True)
class RawScan:
    """All that is known of a scan, and None for what is not."""

    format: str
    """What the files were taken for, in words."""
    patterns: Frames | None = None
    pattern_index: np.ndarray | None = None
    """The number of each pattern, where the file numbers them."""
    quantity: str | None = None
    """counts or amplitude"""
    zero_frequency: str | None = None
    """centre or corner"""
    positions: Positions | None = None
    probe: Modes | None = None
    mask: PixelMask | None = None
    energy_ev: float | None = None
    distance_m: float | None = None
    detector_pixel_m: float | None = None
    object_pixel_m: float | None = None
    """As the file says it, for the probe's own grid."""
    near_field: str | None = None
    """Where the file says that the patterns are no far field."""

    @property
    def missing(self) -> list[str]:
        """What a reconstruction needs and is not there."""
        return [name for name in ("patterns", "positions") if getattr(self, name) is None]

    def with_(self, other: RawScan) -> RawScan:
        """This scan, and of another file what this one does not tell.

        Patterns of both follow one another where each file holds some of the same size and no more.
        """
        known = {
            field.name: getattr(other, field.name)
            for field in fields(self)
            if field.name != "format" and getattr(self, field.name) is None
        }
        names = list(dict.fromkeys([*self.format.split(" + "), other.format]))
        both = replace(self, **known, format=" + ".join(names))
        if self.patterns and other.patterns and self.patterns.size == other.patterns.size:
            both = replace(
                both, patterns=replace(self.patterns, parts=self.patterns.parts + other.patterns.parts)
            )
        return both


def joined(raw: RawScan) -> RawScan:
    """The patterns that have a position, in the order of positions, where both are numbered.

    Raises ValueError where no number is common.
    """
    if raw.patterns is None or raw.positions is None or raw.positions.index is None:
        return raw
    count = len(raw.patterns)
    numbers = np.arange(count) if raw.pattern_index is None else raw.pattern_index.reshape(-1)
    if len(numbers) != count:
        raise ValueError(f"{raw.patterns.where}: {count} patterns have {len(numbers)} numbers")
    place = {int(number): i for i, number in enumerate(numbers)}
    index = raw.positions.index.reshape(-1)
    if len(index) != len(raw.positions.values):
        raise ValueError(
            f"{raw.positions.where}: {len(raw.positions.values)} positions, {len(index)} numbers"
        )
    kept = [i for i, number in enumerate(index) if int(number) in place]
    if not kept:
        raise ValueError(f"{raw.positions.where}: no position has the number of a pattern")
    return replace(
        raw,
        patterns=raw.patterns.take([place[int(index[i])] for i in kept]),
        positions=replace(raw.positions, values=raw.positions.values[kept], index=None),
        pattern_index=None,
    )


def merged(scans: Sequence[RawScan]) -> RawScan:
    """What several files tell together; the first that tells something is believed."""
    whole = scans[0]
    for other in scans[1:]:
        whole = whole.with_(other)
    return whole
