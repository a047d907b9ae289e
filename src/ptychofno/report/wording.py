"""How names and numbers are written, so that no text of a run is taken for anything but text."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable
from typing import Any

NONE = "–"


def one_line(value: Any, longest: int = 120) -> str:
    """One line of printable text: no control, format or private characters, no more than ``longest``."""
    text = str(value) if isinstance(value, (str, int, float)) else type(value).__name__
    text = " ".join(text[: 4 * longest].split())
    text = "".join(char for char in text if unicodedata.category(char)[0] != "C")
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def formatted(value: float | None, form: str = "{:.4g}") -> str:
    """A number, or a dash where there is none."""
    return NONE if value is None or not math.isfinite(value) else form.format(value)


def percent(share: float) -> str:
    return formatted(100 * share, "{:.0f} %")


def listed(words: Iterable[Any]) -> str:
    """``a``, ``a and b``, or ``a, b and c``."""
    *first, last = [str(word) for word in words] or [NONE]
    return f"{', '.join(first)} and {last}" if first else last


def in_markdown(text: str) -> str:
    """``text`` for a paragraph or cell of Markdown: nothing in it marks up, links or breaks the table."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{char}" if char in "\\`*[]|!#~$" else char for char in escaped)


def in_spreadsheet(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula; numbers stay numbers, NaN an empty cell."""
    if isinstance(value, float) and not math.isfinite(value):
        return ""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value
