"""Plain text for terminals and logs."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """The cells padded to the width of their column, those of the last column excepted."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        [*(cell.ljust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)), row[-1]]
        for row in rows
    ]


def printable(text: str) -> str:
    """What a terminal would obey rather than show, spelt out."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
