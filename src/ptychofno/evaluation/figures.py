"""What was reconstructed, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ptychofno import metrics as quality
from ptychofno.display.drawing import GRID, INK, MUTED, axes_at, new_figure, save_figure, write_title
from ptychofno.evaluation.illumination import lit_pixels

if TYPE_CHECKING:
    from ptychofno.evaluation.evaluate import Evaluation

Real = NDArray[Any]

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
    save_figure(path, draw(evaluation, title))


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
    across, left, head, line = 3.3, 0.5, 1.15, 0.65
    down = across * height / width
    figure = new_figure(13.1, head + 2 * (down + line))
    write_title(figure, title, f"scanned area {height} × {width} px, aligned in scale and phase")
    for row, (kind, images) in enumerate(rows.items()):
        y = head + row * (down + line)
        low, high = _padded(float(images[1][lit].min()), float(images[1][lit].max()))
        spread = max(float(np.percentile(np.abs(images[2][lit]), 99.5)), 1e-6 * (high - low))
        common, difference = (_COLOURS[kind], low, high), (_COLOURS["difference"], -spread, spread)
        columns = (
            ("Prediction", left, common, ""),
            ("Target", left + across + 0.12, common, _UNITS[kind]),
            ("Difference", left + 2 * across + 1.2, difference, f"Δ {_UNITS[kind]}"),
        )
        for (name, x, scale, label), image in zip(columns, images, strict=True):
            axes = axes_at(figure, x, y, across, down)
            drawn = _show(axes, image if name == "Target" else np.where(lit, image, np.nan), *scale)
            if row == 0:
                axes.set_title(name, fontsize=14, color=INK, pad=7)
            if label:
                _colour_bar(figure, drawn, axes_at(figure, x + across + 0.1, y, 0.14, down), label)
            else:
                axes.set_ylabel(kind.capitalize(), fontsize=14, color=INK, labelpad=8)
                _scale_bar(axes, width)
        _write_line(figure, left, y + down + 0.14, _metrics_line(evaluation.metrics, kind), va="top")
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
    across, left, head, foot, bar_room = 6.4, 0.25, 1.12, 0.62, 1.15
    down = across * height / width
    figure = new_figure(left + 2 * (across + bar_room), head + down + foot)
    write_title(figure, title, f"scanned area {height} × {width} px")
    for column, (kind, image) in enumerate(images.items()):
        x = left + column * (across + bar_room)
        low, high = _padded(*(float(value) for value in np.percentile(image[well_lit], (0.5, 99.5))))
        axes = axes_at(figure, x, head, across, down)
        drawn = _show(axes, np.where(lit, image, np.nan), _COLOURS[kind], low, high)
        axes.set_title(kind.capitalize(), fontsize=14, color=INK, pad=7)
        _colour_bar(figure, drawn, axes_at(figure, x + across + 0.12, head, 0.16, down), _UNITS[kind])
        if column == 0:
            _scale_bar(axes, width, evaluation.object_pixel_m)
    names = {
        "diffraction_error_stitched": "error of held-out patterns, from the object of all others:",
        "flat": "flat object:",
        "diffraction_error": "from their own patches:",
    }
    known = {name: evaluation.metrics.get(name) for name in names}
    text = "    ".join(f"{names[name]} {value:.4g}" for name, value in known.items() if value is not None)
    _write_line(figure, left, head + down + 0.6 * foot, text, va="center")
    return figure


def _write_line(figure: Figure, left: float, top: float, text: str, va: str) -> None:
    """A line of text at inches from the upper left corner."""
    width, height = figure.get_size_inches()
    figure.text(left / width, 1 - top / height, text, fontsize=13, color=MUTED, va=va)


def _metrics_line(metrics: Mapping[str, Any], kind: str) -> str:
    """The metrics of one row, in words; entries that have no meaning are left out."""
    if kind == "phase" and metrics.get("phase_vacuous"):
        return "the target's phase is constant: phase metrics have no meaning"
    part = 0 if kind == "amplitude" else 1
    unit = "" if kind == "amplitude" else " rad"
    forms = (
        ("ssim", "SSIM {:.4f}"),
        ("ms_ssim", "MS-SSIM {:.4f}"),
        ("psnr", "PSNR {:.1f} dB"),
        ("mae", "MAE {:.4g}" + unit),
        ("frc50", "FRC 0.5 at {:.3f} px⁻¹"),
        ("frc1over7", "FRC 1/7 at {:.3f} px⁻¹"),
    )
    known = [(form, metrics[name][part]) for name, form in forms if metrics[name][part] is not None]
    return "     ".join(form.format(value) for form, value in known)


def _show(axes: Axes, image: Real, colours: str, low: float, high: float) -> AxesImage:
    drawn = axes.imshow(image, cmap=colours, vmin=low, vmax=high, aspect="auto")
    axes.set_facecolor(GRID)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return drawn


def _colour_bar(figure: Figure, drawn: AxesImage, axes: Axes, label: str) -> None:
    bar = figure.colorbar(drawn, cax=axes)
    bar.outline.set_visible(False)
    bar.set_label(label, fontsize=13, color=INK)
    bar.locator = MaxNLocator(5)
    bar.update_ticks()
    axes.tick_params(labelsize=12, color=MUTED, labelcolor=INK, length=3)


def _scale_bar(axes: Axes, width_px: int, pixel_m: float | None = None) -> None:
    """A bar of a round length, about a fifth of the image, in the lower left corner; in nm where known."""
    scale, unit = (1.0, "px") if pixel_m is None else (pixel_m * 1e9, "nm")
    width = width_px * scale
    power = 10.0 ** np.floor(np.log10(width / 5))
    round_length = max(power * factor for factor in (1, 2, 5) if power * factor <= width / 5)
    length = round_length / scale
    edge = [withStroke(linewidth=3, foreground="black")]
    start = 0.05 * width_px
    across = axes.get_xaxis_transform()
    line = axes.plot([start, start + length], [0.05, 0.05], color="white", linewidth=3, transform=across)[0]
    line.set(path_effects=[withStroke(linewidth=5, foreground="black")], solid_capstyle="butt")
    label = axes.text(
        start + length / 2, 0.075, f"{round_length:g} {unit}", transform=across, path_effects=edge
    )
    label.set(color="white", fontsize=11, ha="center")


def _padded(low: float, high: float) -> tuple[float, float]:
    """Limits of a colour scale; a constant gets some room on both sides."""
    if high - low > 1e-6 * max(abs(low), abs(high), 1e-6):
        return low, high
    room = 0.5 * max(abs(low), 1.0)
    return low - room, high + room
