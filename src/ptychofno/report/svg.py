"""Drawing with SVG: elements, axes, and lines with gaps. Colours are classes that the page's style sets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

_LOG_FROM = 3.0
"""An axis is logarithmic when its values are positive and span more than this factor."""


def element(name: str, *inside: str, **attributes: object) -> str:
    """An element; ``class_`` is its class, ``_`` in other names becomes ``-``. Values are escaped."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_short(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{written}>{''.join(inside)}</{name}>"


def text(words: str, x: float, y: float, class_: str = "", anchor: str = "start", whole: str = "") -> str:
    """A line of text at its baseline; ``whole`` is shown when the pointer rests on it."""
    tip = element("title", escape(whole)) if whole else ""
    return element("text", escape(words) + tip, x=x, y=y, class_=class_ or None, text_anchor=anchor)


def drawing(width: float, height: float, *inside: str, label: str) -> str:
    """A drawing that scales with the page; ``label`` is what it shows, for those who do not see it."""
    box = f"0 0 {width:g} {height:g}"
    return element("svg", *inside, viewBox=box, width=width, height=height, role="img", aria_label=label)


@dataclass(frozen=True)
class Axis:
    """From values, ``low`` to ``high``, to pixels, ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    @classmethod
    def over(cls, values: Iterable[float], start: float, end: float, log: bool = True) -> Axis:
        """An axis that holds all finite ``values`` with some room."""
        found = np.array(list(values), dtype=np.float64)
        found = found[np.isfinite(found)]
        if not found.size:
            return cls(0.0, 1.0, start, end)
        low, high = float(found.min()), float(found.max())
        if log and low > 0 and high > _LOG_FROM * low:
            room = (high / low) ** 0.06
            return cls(low / room, high * room, start, end, logarithmic=True)
        room = 0.08 * (high - low) or 0.05 * abs(high) or 0.5
        return cls(low - room, high + room, start, end)

    def at(self, values: Numbers | float) -> Numbers:
        low, high, found = self.low, self.high, np.asarray(values, dtype=np.float64)
        if self.logarithmic:
            with np.errstate(divide="ignore", invalid="ignore"):
                low, high, found = np.log(low), np.log(high), np.log(found)
        return np.asarray(self.start + (found - low) / (high - low) * (self.end - self.start))

    def ticks(self, most: int = 4) -> list[float]:
        """Round values inside the axis, at most about ``most``."""
        if self.logarithmic:
            for parts in ((1.0, 2.0, 5.0), (1.0, 3.0), (1.0,)):
                found = LogLocator(subs=parts, numticks=64).tick_values(self.low, self.high)
                inside = [float(tick) for tick in found if self.low <= tick <= self.high]
                if len(inside) <= most + 1:
                    break
            if len(inside) > most + 1:
                return inside[:: -(-len(inside) // (most + 1))]
            if len(inside) >= 2:
                return inside
        found = MaxNLocator(most, steps=[1, 2, 5, 10]).tick_values(self.low, self.high)
        return [float(tick) for tick in found if self.low <= tick <= self.high]


def segments(x: Numbers, *ys: Numbers) -> list[slice]:
    """Runs of entries in which ``x`` and all ``ys`` are finite."""
    good = np.isfinite(x) & np.logical_and.reduce([np.isfinite(y) for y in ys])
    edges = np.flatnonzero(np.diff(np.concatenate(([0], good.astype(np.int8), [0]))))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def line(x: Numbers, y: Numbers, class_: str) -> str:
    """A line through pixels; gaps where there is no number, a dot for a lone point."""
    parts = segments(x, y)
    path = "".join(f"M{_points(x[part], y[part])}" for part in parts if part.stop - part.start > 1)
    dots = [
        element("circle", cx=x[part.start], cy=y[part.start], r=2, class_=f"{class_} dot")
        for part in parts
        if part.stop - part.start == 1
    ]
    return (element("path", d=path, class_=class_) if path else "") + "".join(dots)


def band(x: Numbers, low: Numbers, high: Numbers) -> str:
    path = "".join(
        f"M{_points(x[part], low[part])}L{_points(x[part][::-1], high[part][::-1])}Z"
        for part in segments(x, low, high)
    )
    return element("path", d=path, class_="band") if path else ""


def tick_label(value: float) -> str:
    """As short as a person would write it: 0.05, 20, 1e-4."""
    if value and (abs(value) < 1e-3 or abs(value) >= 1e5):
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:g}"


def _points(x: Sequence[float] | Numbers, y: Sequence[float] | Numbers) -> str:
    return "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))


def _short(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
