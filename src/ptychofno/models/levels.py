"""The levels of a U: channels and pixels from full resolution down."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Level:
    """One level of a U: its channels, its pixels, and whether the way down from it halves them."""

    channels: int
    size: int
    halves: bool


def plan_levels(depth: int, width: int, cap: int | None, size: int) -> list[Level]:
    """Channels double from level to level up to ``cap``; pixels halve down to 2.

    A level of one pixel has neither a spectrum nor an instance to normalise, and an odd one does not
    return to its size on the way up; from there on levels keep their size.
    """
    levels = []
    for index in range(depth):
        channels = width * 2**index if cap is None else min(width * 2**index, cap)
        halves = size % 2 == 0 and size >= 4 and index < depth - 1
        levels.append(Level(channels, size, halves))
        size = size // 2 if halves else size
    return levels
