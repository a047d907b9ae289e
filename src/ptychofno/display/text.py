"""Plain text for terminals and logs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def make_console() -> Console:
    """Standard output as it is: names are printed to the letter, whatever they hold."""
    import rich.console

    from ptychofno.config.errors import leave_unread

    class Console(rich.console.Console):
        def on_broken_pipe(self) -> None:
            leave_unread()
            raise BrokenPipeError  # rich would end the process with 1

    return Console(highlight=False, markup=False, emoji=False)


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
