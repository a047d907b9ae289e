"""Figures of matplotlib as SVG inside the page, in the page's colours and with text that stays text."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from html import escape
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.text import Text

from ptychofno.display.drawing import BLUE, GRID, INK, MUTED, RED, without_glyph_warnings

_OF_THE_PAGE = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--line)",
    BLUE: "var(--accent)",
    RED: "var(--bad)",
}
"""These colours follow the page from light to dark."""
_NOT_DRAWN = re.compile(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", re.S)
_TEXT_AS_TEXT: Any = {"svg.fonttype": "none", "svg.hashsalt": "ptychofno"}


def page_figure(width_px: float, height_px: float) -> Figure:
    """A figure of which one point is one pixel of the page."""
    return Figure(figsize=(width_px / 72, height_px / 72), dpi=72)


def inline_svg(figure: Figure, label: str, tips: Mapping[str, str] | None = None) -> str:
    """An SVG element without any link, script, style sheet or name, the same bytes for the same figure.

    Args:
        label: what the figure shows, for those who do not see it.
        tips: by the ``gid`` of an artist what is shown where the pointer rests on it.
    """
    for artist in figure.findobj():
        artist.set_clip_on(False)  # a clip would be a reference
        if isinstance(artist, Text):
            artist.set_parse_math(False)
    content = io.StringIO()
    with rc_context(_TEXT_AS_TEXT), without_glyph_warnings():
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    # All text is escaped, so that these patterns match what matplotlib wrote and nothing else.
    drawing = _NOT_DRAWN.sub("", content.getvalue())
    width, height = (72 * side for side in figure.get_size_inches())
    head = f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    head += f' role="img" aria-label="{escape(label)}">'
    drawing = head + drawing[drawing.index(">", drawing.index("<svg")) + 1 :]
    drawing = re.sub(r'style="[^"]*"', lambda style: _in_page_colours(style[0]), drawing)
    drawing = re.sub(r'<g id="[^"]*"/>', "", drawing)
    return re.sub(r'<g id="([^"]*)">', lambda group: _with_tip((tips or {}).get(group[1])), drawing)


def _in_page_colours(style: str) -> str:
    for colour, variable in _OF_THE_PAGE.items():
        style = style.replace(colour, variable)
    return style


def _with_tip(tip: str | None) -> str:
    return "<g>" if tip is None else f"<g><title>{escape(tip)}</title>"
