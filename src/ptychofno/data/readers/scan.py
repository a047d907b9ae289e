"""What files tell about a scan, before anything is computed from it.

Shapes: n patterns of (R, C) detector pixels, modes of the probe (M, M).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from ptychofno.data.readers.frames import Frames

HC_EV_M = 1.23984198e-6
"""Photon energy times wavelength."""

UNITS = {"px": 1.0, "m": 1.0, "mm": 1e-3, "um": 1e-6, "nm": 1e-9, "angstrom": 1e-10}
"""Metres per unit of a position; px are object pixels."""


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


def merged(scans: Sequence[RawScan]) -> RawScan:
    """What several files tell together; the first that tells something is believed.

    Patterns of one size in several files follow one another.
    """
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
    """The patterns that have a position, in the order of positions, where these are numbered.

    Raises ValueError where no number is common.
    """
    if raw.patterns is None or raw.positions is None or raw.positions.index is None:
        return raw
    count, positions = len(raw.patterns), raw.positions
    numbers = np.arange(count) if raw.pattern_index is None else raw.pattern_index.reshape(-1)
    index = raw.positions.index.reshape(-1)
    for where, things, found in (
        (raw.patterns.where, f"{count} patterns", len(numbers) == count),
        (positions.where, f"{len(positions.values)} positions", len(index) == len(positions.values)),
    ):
        if not found:
            raise ValueError(f"{where}: the numbers of {things} are not as many")
    place = {int(number): i for i, number in enumerate(numbers)}
    kept = [i for i, number in enumerate(index) if int(number) in place]
    if not kept:
        raise ValueError(f"{positions.where}: no position has the number of a pattern")
    return replace(
        raw,
        patterns=raw.patterns.take([place[int(index[i])] for i in kept]),
        positions=replace(positions, values=positions.values[kept], index=None),
        pattern_index=None,
    )
