"""The pictures of a run: what was reconstructed, and how training went.

Figures are built as objects, never through pyplot, so that drawing leaves no global state.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from ptychofno import metrics as quality
from ptychofno.artifacts import write_with
from ptychofno.drawing import DPI, GRID, INK, MUTED, tidy
from ptychofno.evaluation.evaluate import Evaluation
from ptychofno.evaluation.illumination import lit_pixels

Real = NDArray[Any]
History = Mapping[str, Sequence[float | None]]

_BLUE, _RED, _ORANGE = "#2f6fb3", "#d1495b", "#e09f3e"
_COLOURS = {"amplitude": "gray", "phase": "viridis", "difference": "RdBu_r"}
_UNITS = {"amplitude": "amplitude", "phase": "phase (rad)"}


def draw_reconstruction(path: Path | str, evaluation: Evaluation, title: str) -> None:
    """Amplitude and phase of the scanned region as a PNG file, written in one step.

    With a truth: prediction, target and difference, prediction and target on the target's
    colour scale, aligned as for the metrics, which stand below each row. Without: amplitude and
    phase only, large, on robust scales, with the diffraction error. Dark pixels of what was
    reconstructed stay empty.
    """
    draw = _draw_measured if evaluation.target is None else _draw_compared
    _save(path, draw(evaluation, title))


def draw_curves(path: Path | str, history: History, flat_baseline: float | None, title: str) -> None:
    """Losses, learning rate and gradient norms over epochs as a PNG file, written in one step.

    Args:
        history: one list per key, one entry per epoch; None and NaN leave gaps. An axis is
            logarithmic where its values are positive and span more than a factor of 3. Epochs in which
            the guard intervened are marked.
        flat_baseline: validation loss of the best constant object, drawn as a dashed line.
    """
    figure = _figure(10.0, 6.8)
    _write_title(figure, title)
    area = {"left": 0.115, "right": 0.98}
    top = figure.add_gridspec(1, 1, top=0.87, bottom=0.49, **area)
    below = figure.add_gridspec(1, 2, top=0.345, bottom=0.085, wspace=0.27, **area)

    axes = figure.add_subplot(top[0, 0])
    _plot(axes, history, "train_loss", "training", _BLUE)
    _plot(axes, history, "val_loss", "validation", _RED)
    if flat_baseline is not None and np.isfinite(flat_baseline):
        axes.axhline(flat_baseline, color=MUTED, linestyle=(0, (5, 3)), linewidth=1.4, label="flat object")
    for number, epoch in enumerate(_went_back(history)):
        label = None if number else "the guard went back"
        axes.axvline(epoch, color=_ORANGE, linestyle=":", linewidth=1.4, label=label)
    _finish(axes, "loss")

    axes = figure.add_subplot(below[0, 0])
    _plot(axes, history, "learning_rate", "learning rate", _BLUE)
    _finish(axes, "learning rate")

    axes = figure.add_subplot(below[0, 1])
    _plot(axes, history, "grad_norm_max", "max", _RED)
    _plot(axes, history, "grad_norm_clipped_max", "max, clipped", _ORANGE, linestyle="--")
    _plot(axes, history, "grad_norm_median", "median", _BLUE)
    _finish(axes, "gradient norm")
    _save(path, figure)


def _went_back(history: History) -> list[float]:
    """Epochs in which the count of interventions rose."""
    known, rises = 0.0, []
    for epoch, count in zip(history["epoch"], history.get("interventions", []), strict=False):
        if epoch is not None and count is not None and count > known:
            known = count
            rises.append(epoch)
    return rises


def _draw_compared(evaluation: Evaluation, title: str) -> Figure:
    assert evaluation.target is not None
    region = evaluation.region
    lit = lit_pixels(evaluation.illumination)[region]
    aligned = quality.align(
        evaluation.prediction[region],
        evaluation.target[region],
        phase_alignment=evaluation.phase_alignment,
        mask=lit,
    )
    amplitude_error = aligned.amplitude - aligned.target_amplitude
    rows = {
        "amplitude": (aligned.amplitude, aligned.target_amplitude, amplitude_error),
        "phase": (aligned.phase_rad, aligned.target_phase_rad, aligned.phase_error_rad),
    }
    height, width = aligned.amplitude.shape
    # Inches. Panels and gaps across; head, then panel and metrics line for each row, downwards.
    panel_width, left, head, line = 3.3, 0.5, 1.15, 0.65
    panel_height = panel_width * height / width
    total_width, total_height = 13.1, head + 2 * (panel_height + line)
    figure = _figure(total_width, total_height)
    _write_title(figure, title, f"scanned area {height} × {width} px, aligned in scale and phase")

    def place(x: float, y: float, across: float, down: float) -> Axes:
        box = (x / total_width, 1 - (y + down) / total_height, across / total_width, down / total_height)
        return figure.add_axes(box)

    for row, (kind, images) in enumerate(rows.items()):
        y = head + row * (panel_height + line)
        low, high = _padded(float(images[1][lit].min()), float(images[1][lit].max()))
        spread = max(float(np.percentile(np.abs(images[2][lit]), 99.5)), 1e-6 * (high - low))
        common = (_COLOURS[kind], low, high)
        columns = (
            ("Prediction", left, common),
            ("Target", left + panel_width + 0.12, common),
            ("Difference", left + 2 * panel_width + 1.2, (_COLOURS["difference"], -spread, spread)),
        )
        for column, (name, x, scale) in enumerate(columns):
            axes = place(x, y, panel_width, panel_height)
            known = images[column] if name == "Target" else np.where(lit, images[column], np.nan)
            shown = _show(axes, known, *scale)
            if row == 0:
                axes.set_title(name, fontsize=14, color=INK, pad=7)
            if column == 0:
                axes.set_ylabel(kind.capitalize(), fontsize=14, color=INK, labelpad=8)
                _scale_bar(axes, width)
            else:
                bar = place(x + panel_width + 0.1, y, 0.14, panel_height)
                _colour_bar(figure, shown, bar, _UNITS[kind] if column == 1 else f"Δ {_UNITS[kind]}")
        figure.text(
            left / total_width,
            1 - (y + panel_height + 0.14) / total_height,
            _metrics_line(evaluation.metrics, kind),
            fontsize=13,
            color=MUTED,
            va="top",
        )
    return figure


def _draw_measured(evaluation: Evaluation, title: str) -> Figure:
    region = evaluation.region
    field, illumination = evaluation.prediction[region], evaluation.illumination[region]
    lit = lit_pixels(evaluation.illumination)[region]
    # Scales follow what is known well: towards the dark, averages of few patches run high.
    well_lit = lit & (illumination >= 0.1 * np.median(illumination[lit]))
    phase = np.angle(field)
    if evaluation.phase_alignment == "plane":
        phase = quality.remove_plane(phase, well_lit.astype(np.float64))
    images = {"amplitude": np.abs(field), "phase": phase}
    height, width = field.shape
    panel_width, left, head, foot, bar_room = 6.4, 0.25, 1.12, 0.62, 1.15
    panel_height = panel_width * height / width
    total_width, total_height = left + 2 * (panel_width + bar_room), head + panel_height + foot
    figure = _figure(total_width, total_height)
    _write_title(figure, title, f"scanned area {height} × {width} px")
    for column, (kind, image) in enumerate(images.items()):
        x = left + column * (panel_width + bar_room)
        low, high = _padded(*(float(value) for value in np.percentile(image[well_lit], (0.5, 99.5))))
        box = (x / total_width, foot / total_height, panel_width / total_width, panel_height / total_height)
        axes = figure.add_axes(box)
        shown = _show(axes, np.where(lit, image, np.nan), _COLOURS[kind], low, high)
        axes.set_title(kind.capitalize(), fontsize=14, color=INK, pad=7)
        bar_box = ((x + panel_width + 0.12) / total_width, box[1], 0.16 / total_width, box[3])
        _colour_bar(figure, shown, figure.add_axes(bar_box), _UNITS[kind])
        if column == 0:
            _scale_bar(axes, width)
    names = {
        "": "test",
        "_validation": "validation",
        "_train": "training",
        "_stitched": "test, from the object stitched of the others",
    }
    parts = [
        f"{name} {evaluation.metrics[f'diffraction_error{suffix}']:.4f}"
        for suffix, name in names.items()
        if evaluation.metrics.get(f"diffraction_error{suffix}") is not None
    ]
    text = "relative error of the diffraction amplitude:  " + "    ".join(parts)
    figure.text(left / total_width, 0.4 * foot / total_height, text, fontsize=13, color=MUTED, va="center")
    return figure


def _metrics_line(metrics: Mapping[str, Any], kind: str) -> str:
    """The metrics of one row, in words; entries that have no meaning are left out."""
    if kind == "phase" and metrics.get("phase_vacuous"):
        return "the target's phase is constant: phase metrics have no meaning"
    part = 0 if kind == "amplitude" else 1
    unit = "" if kind == "amplitude" else " rad"
    forms = (
        ("ssim", "SSIM {:.3f}"),
        ("ms_ssim", "MS-SSIM {:.3f}"),
        ("psnr", "PSNR {:.1f} dB"),
        ("mae", "MAE {:.4f}" + unit),
        ("frc50", "FRC 0.5 at {:.3f} px⁻¹"),
        ("frc1over7", "FRC 1/7 at {:.3f} px⁻¹"),
    )
    known = [(form, metrics[name][part]) for name, form in forms if metrics[name][part] is not None]
    return "     ".join(form.format(value) for form, value in known)


class _Title(Text):
    """Text that others chose: drawn as it is, with boxes for what the font lacks."""

    def __init__(self, x: float, y: float, text: str, **style: Any) -> None:
        # Names of files may hold undecodable bytes, which no font takes.
        drawable = text.encode("utf-8", "backslashreplace").decode("utf-8")
        super().__init__(x, y, drawable, parse_math=False, **style)

    def draw(self, renderer: RendererBase) -> None:
        with _without_glyph_warnings():
            super().draw(renderer)

    def get_window_extent(self, renderer: RendererBase | None = None, dpi: float | None = None) -> Bbox:
        with _without_glyph_warnings():
            return super().get_window_extent(renderer, dpi)


@contextmanager
def _without_glyph_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def _figure(width_in: float, height_in: float) -> Figure:
    figure = Figure(figsize=(width_in, height_in), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _save(path: Path | str, figure: Figure) -> None:
    write_with(path, partial(figure.savefig, dpi=DPI, format="png"))


def _write_title(figure: Figure, title: str, subtitle: str = "") -> None:
    height, width = figure.get_figheight(), figure.get_figwidth()
    x = 0.25 / width
    style: dict[str, Any] = {"fontsize": 17, "fontweight": "bold", "color": INK, "va": "top"}
    figure.add_artist(_Title(x, 1 - 0.17 / height, title, **style))
    figure.text(x, 1 - 0.49 / height, subtitle, fontsize=13, color=MUTED, va="top")


def _show(axes: Axes, image: Real, colours: str, low: float, high: float) -> AxesImage:
    shown = axes.imshow(image, cmap=colours, vmin=low, vmax=high, aspect="auto")
    axes.set_facecolor(GRID)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return shown


def _colour_bar(figure: Figure, shown: AxesImage, axes: Axes, label: str) -> None:
    bar = figure.colorbar(shown, cax=axes)
    bar.outline.set_visible(False)
    bar.set_label(label, fontsize=13, color=INK)
    bar.locator = MaxNLocator(5)
    bar.update_ticks()
    axes.tick_params(labelsize=12, color=MUTED, labelcolor=INK, length=3)


def _scale_bar(axes: Axes, width_px: int) -> None:
    """A bar of a round number of pixels, about a fifth of the image, in the lower left corner."""
    unit = 10 ** int(np.floor(np.log10(width_px / 5)))
    length = max(unit * factor for factor in (1, 2, 5) if unit * factor <= max(width_px / 5, unit))
    edge = [withStroke(linewidth=3, foreground="black")]
    start = 0.05 * width_px
    across = axes.get_xaxis_transform()
    line = axes.plot([start, start + length], [0.05, 0.05], color="white", linewidth=3, transform=across)[0]
    line.set(path_effects=[withStroke(linewidth=5, foreground="black")], solid_capstyle="butt")
    label = axes.text(start + length / 2, 0.075, f"{length} px", transform=across, path_effects=edge)
    label.set(color="white", fontsize=11, ha="center")


def _padded(low: float, high: float) -> tuple[float, float]:
    """Limits of a colour scale; a constant gets some room on both sides."""
    if high - low > 1e-6 * max(abs(low), abs(high), 1e-6):
        return low, high
    room = 0.5 * max(abs(low), 1.0)
    return low - room, high + room


def _plot(axes: Axes, history: History, key: str, label: str, colour: str, linestyle: str = "-") -> None:
    epochs = np.asarray(history["epoch"], dtype=np.float64)
    # None becomes NaN, which leaves a gap.
    values = np.asarray(history[key], dtype=np.float64)
    values[~np.isfinite(values)] = np.nan
    marker = "o" if len(epochs) <= 30 else "none"
    line = axes.plot(epochs, values, color=colour, label=label)[0]
    line.set(linestyle=linestyle, linewidth=2, marker=marker, markersize=4)
    if epochs.size:
        axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)


def _finish(axes: Axes, quantity: str) -> None:
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=np.float64) for line in axes.get_lines()])
    finite = values[np.isfinite(values)]
    # A log-likelihood may be negative, and within a factor of 3 a logarithmic axis has no ticks.
    if finite.size and finite.min() > 0 and finite.max() > 3 * finite.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
    elif finite.size and finite.min() == finite.max() > 0:
        axes.set_ylim(0, 2 * finite.max())
    axes.yaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_ylabel(quantity, fontsize=12, color=INK)
    axes.set_xlabel("epoch", fontsize=12, color=INK)
    tidy(axes, 11)
    if len(axes.get_lines()) > 1:
        # Above the axes, where it hides no curve.
        style: dict[str, Any] = {"frameon": False, "fontsize": 11, "labelcolor": INK, "handlelength": 1.6}
        axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), borderaxespad=0.2, ncols=3, **style)
