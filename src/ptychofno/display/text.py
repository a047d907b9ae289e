"""Plain text for terminals, logs and pages."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

NONE = "–"
"""What stands where there is no value."""
_GAP = 2


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


def print_fitting(
    console: Console,
    rows: Sequence[Mapping[str, str]],
    first: Iterable[str],
    *,
    wrapped: str = "",
    styles: Sequence[str] = (),
) -> list[str]:
    """A table of the columns that hold anything and fit, those of ``first`` before the others.

    Args:
        wrapped: a column that is there in any width. styles: of the rows.

    Returns the columns that did not fit.
    """
    from rich.table import Table
    from rich.text import Text

    held = [key for key in rows[0] if any(row[key] not in ("", NONE) for row in rows)]
    room = console.width
    kept = set()
    for key in sorted(held, key=[*first, *held].index):
        width = max(len(key), *(len(row[key]) for row in rows)) + _GAP
        if width <= room or key == wrapped:
            kept.add(key)
            room -= width
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="dim")
    columns = [key for key in held if key in kept]
    for key in columns:
        table.add_column(Text(key), no_wrap=key != wrapped, overflow="fold")
    for row, style in zip(rows, styles or [""] * len(rows), strict=True):
        table.add_row(*(Text(row[key], style=style) for key in columns))
    console.print(table)
    return [key for key in held if key not in kept]


def counted(number: int, noun: str) -> str:
    """``1 epoch``, ``2 epochs``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 7 s`` or ``1 h 12 min``."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{seconds:.1f} s" if seconds < 10 else f"{rest} s"
    hours, minutes_left = divmod(minutes, 60)
    return f"{minutes} min {rest} s" if hours == 0 else f"{hours} h {minutes_left} min"


def one_line(value: Any, longest: int = 120) -> str:
    """One line of printable text: no control, format or private characters, no more than ``longest``."""
    text = str(value) if isinstance(value, (str, int, float)) else type(value).__name__
    text = " ".join(text[: 4 * longest].split())
    text = "".join(char for char in text if unicodedata.category(char)[0] != "C")
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def formatted(value: float, form: str = "{:.4g}") -> str:
    """A number, or a dash where there is none."""
    return form.format(value) if math.isfinite(value) else NONE


def percent(share: float) -> str:
    return formatted(100 * share, "{:.0f} %")


def listed(words: Iterable[Any]) -> str:
    """``a``, ``a and b``, or ``a, b and c``."""
    *first, last = map(str, words)
    return f"{', '.join(first)} and {last}" if first else last
