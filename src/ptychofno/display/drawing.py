"""How every figure looks, and how it comes to be a file.

Figures are built as objects, never through pyplot, so that drawing leaves no global state.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import NDArray

from ptychofno.runs.artifacts import write_with

DPI = 150
INK, MUTED, GRID = "#1f2430", "#667085", "#e4e7ec"
BLUE, RED, ORANGE = "#2f6fb3", "#d1495b", "#e09f3e"
SERIES = (BLUE, RED, ORANGE, "#3d8b5f", "#7a5ba6", "#4aa3a8", "#8c5a3c", "#667085")
"""Of several curves in one figure."""
_LOG_FROM = 3.0


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty white page."""
    figure = Figure(figsize=(width_in, height_in), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save_figure(path: Path | str, figure: Figure) -> None:
    """Write a PNG file in one step, packed quickly rather than well."""
    with to_the_letter(figure):
        write_with(path, partial(figure.savefig, dpi=DPI, format="png", pil_kwargs={"compress_level": 1}))


def write_title(figure: Figure, title: str, subtitle: str = "") -> None:
    """A title in the upper left corner, of any characters, and a line below it."""
    width, height = figure.get_size_inches()
    x = 0.25 / width
    figure.text(x, 1 - 0.17 / height, title, va="top", fontsize=17, fontweight="bold", color=INK)
    figure.text(x, 1 - 0.49 / height, subtitle, va="top", fontsize=13, color=MUTED)


def axes_at(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes in inches, from the upper left corner of the page."""
    across, down = figure.get_size_inches()
    return figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))


def tidy(axes: Axes, labelsize: float) -> None:
    """A light grid behind the curves, and no frame where there is no scale."""
    axes.tick_params(labelsize=labelsize, color=MUTED, labelcolor=INK)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)


def set_scale(axes: Axes, values: NDArray[Any], along: str = "y") -> None:
    """Logarithmic where all finite ``values`` are positive and span more than a factor of 3.

    A log-likelihood may be negative, and within a factor of 3 a logarithmic axis has no ticks.
    """
    finite = values[np.isfinite(values)]
    axis = axes.yaxis if along == "y" else axes.xaxis
    if finite.size and finite.min() > 0 and finite.max() > _LOG_FROM * finite.min():
        axes.set(**{f"{along}scale": "log"})
        # Over many powers of ten only these have ticks.
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if finite.max() < 1e3 * finite.min() else (1,)))
        axis.set_minor_locator(NullLocator())
    elif finite.size and finite.min() == finite.max() > 0:
        axes.set(**{f"{along}lim": (0, 2 * finite.max())})
    axis.set_major_formatter("{x:g}")


@contextmanager
def to_the_letter(figure: Figure) -> Iterator[None]:
    """Saved within, text is no formula. Names that others chose may hold what no font takes or has."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_text(text.get_text().encode("utf-8", "backslashreplace").decode("utf-8"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield
