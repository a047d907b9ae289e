"""Every seed of every arm: a table of medians, a line per run, and a dot per run.

    python experiments/seeds.py outputs/plateau --output experiments/plateau --dots off_plateau,ssim_amplitude

Writes seeds.md, runs.csv and dots.png, and courses.png with ``--courses ARM,…``. What the report does not
tell, as it knows epochs only, is read from each step:

- off_plateau: the first optimizer step at which the median training loss of the last 20 was below 0.8 of the
  flat object's;
- fell_back: the first step after that at which it was above 0.9 again;
- fell_back_epoch: the same of the validation loss, in epochs, from below 0.8.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from ptychofno.display.drawing import DPI, INK, MUTED, tidy
from ptychofno.metrics import align, found_shares
from ptychofno.report.arms import group
from ptychofno.report.files import find
from ptychofno.report.runs import FoundRun, read
from ptychofno.runs import artifacts
from ptychofno.runs.stats import FLAT_ABOVE, LEFT_PLATEAU_BELOW, epoch_fell_back

WINDOW = 20
BLUE, RED = "#2f6fb3", "#d1495b"
LABELS = {
    "off_plateau": "steps to leave the plateau",
    "fell_back": "step of the fall back",
    "fell_back_epoch": "epoch of the fall back",
    "loss": "validation loss / flat object's",
    "last_loss": "last validation loss / flat object's",
    "ssim_amplitude": "SSIM amplitude",
    "ssim_phase": "SSIM phase",
    "mae_phase": "phase error / rad",
    "slow_phase": "share of the slow phase that is found",
    "seconds": "training time / s",
    "parameters": "parameters",
    "largest_norm": "largest gradient norm",
    "dead_weights": "weights without gradient at the end",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("directories", metavar="DIRECTORY", nargs="+", type=Path)
    parser.add_argument("--output", metavar="DIR", type=Path, required=True)
    parser.add_argument("--dots", metavar="MEASURE,…", default="off_plateau,ssim_amplitude")
    parser.add_argument("--arms", metavar="ARM,…", help="order of the arms, first to last; else alphabetical")
    parser.add_argument("--courses", metavar="ARM,…", help="whose training loss to draw over steps")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    arms = by_arm(args.directories, args.arms.split(",") if args.arms else [])
    write_runs(arms, args.output / "runs.csv")
    (args.output / "seeds.md").write_text(table(arms))
    draw(
        {name: [measures(run) for run in runs] for name, runs in arms.items()},
        {name: [not run.succeeded for run in runs] for name, runs in arms.items()},
        {key: LABELS[key] for key in args.dots.split(",")},
        args.output / "dots.png",
    )
    if args.courses:
        draw_courses({name: arms[name] for name in args.courses.split(",")}, args.output / "courses.png")


def by_arm(directories: Sequence[Path], order: Sequence[str]) -> dict[str, list[FoundRun]]:
    runs = [read(path) for path in find(directories).runs]
    arms = {arm.name: arm.results for arm in group(runs) if arm.results}
    places = {name: place for place, name in enumerate(order)}
    return {name: arms[name] for name in sorted(arms, key=lambda name: (places.get(name, len(places)), name))}


def measures(run: FoundRun) -> dict[str, float]:
    """What is told of a run; NaN for what did not happen."""
    off, fell = plateau_steps(run)
    fell_epoch = epoch_fell_back(run.epochs, run.curves["val_loss"], run.flat_baseline)
    losses = run.curves["val_loss"] / run.flat_baseline
    finite = losses[np.isfinite(losses)]
    return {
        "off_plateau": off,
        "fell_back": fell,
        "fell_back_epoch": math.nan if fell_epoch is None else float(fell_epoch),
        "loss": float(finite.min()) if finite.size else math.nan,
        "last_loss": float(losses[-1]) if losses.size else math.nan,
        "ssim_amplitude": run.measures["ssim_amplitude"],
        "ssim_phase": run.measures["ssim_phase"],
        "mae_phase": run.measures["mae_phase"],
        "slow_phase": slow_phase(run),
        "seconds": run.measures["training_seconds"],
        "parameters": run.parameters,
        "largest_norm": run.measures["grad_norm_max"],
        "dead_weights": _last(run, "dead_weights"),
    }


def slow_phase(run: FoundRun) -> float:
    """How much of the true phase's structures above 50 px is found; NaN for a run without a truth."""
    try:
        with np.load(run.path / artifacts.RECONSTRUCTION, allow_pickle=False) as arrays:
            if "target" not in arrays:
                return math.nan
            region = tuple(slice(*ends) for ends in arrays["region"].tolist())
            fields = align(arrays["prediction"][region], arrays["target"][region])
    except OSError:
        return math.nan
    return found_shares(fields.phase_rad, fields.target_phase_rad, [(0.0, 0.02)])[0]


def _last(run: FoundRun, key: str) -> float:
    """The last entry of a key of history.json that the report does not read."""
    values = json.loads((run.path / artifacts.HISTORY).read_text()).get(key) or [None]
    return math.nan if values[-1] is None else float(values[-1])


def plateau_steps(run: FoundRun) -> tuple[float, float]:
    """(off_plateau, fell_back) in optimizer steps, from 1."""
    smooth = course(run)
    off = np.flatnonzero(smooth < LEFT_PLATEAU_BELOW)
    if not off.size:
        return math.nan, math.nan
    fell = np.flatnonzero(smooth[off[0] :] > FLAT_ABOVE)
    return float(off[0] + WINDOW), float(off[0] + fell[0] + WINDOW) if fell.size else math.nan


def course(run: FoundRun) -> np.ndarray:
    """Median of the training loss of the last ``WINDOW`` steps, relative to the flat object's."""
    with (run.path / artifacts.GRAD_NORMS).open(newline="") as file:
        loss = np.array([float(row["loss"] or "nan") for row in csv.DictReader(file)])
    if len(loss) < WINDOW:
        return np.empty(0)
    windows = np.lib.stride_tricks.sliding_window_view(loss, WINDOW)
    return np.median(windows, axis=1) / run.flat_baseline


def write_runs(arms: Mapping[str, Sequence[FoundRun]], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("arm", "seed", "state", *LABELS))
        for name, runs in arms.items():
            for run in runs:
                values = (("" if math.isnan(v) else f"{v:.6g}") for v in measures(run).values())
                writer.writerow((name, run.seed, run.state, *values))


def table(arms: Mapping[str, Sequence[FoundRun]]) -> str:
    """Markdown; medians over all runs with a result, in brackets the least and the largest."""
    heads = (
        "arm",
        "flat or diverged",
        "steps to leave the plateau",
        "fell back: training, validation",
        "loss / flat",
    )
    heads += ("SSIM amplitude", "SSIM phase", "phase error / rad", "slow phase found")
    heads += ("weights without gradient",)
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, runs in arms.items():
        found = [measures(run) for run in runs]
        failed = sum(not run.succeeded for run in runs)
        fell = [sum(not math.isnan(one[key]) for one in found) for key in ("fell_back", "fell_back_epoch")]
        cells = [
            name,
            f"{failed} of {len(runs)}",
            _range([one["off_plateau"] for one in found], "{:.0f}"),
            f"{fell[0]}, {fell[1]} of {len(runs)}",
            _range([one["loss"] for one in found], "{:.3f}"),
            _range([one["ssim_amplitude"] for one in found], "{:.3f}"),
            _range([one["ssim_phase"] for one in found], "{:.3f}"),
            _range([one["mae_phase"] for one in found], "{:.3f}"),
            _range([one["slow_phase"] for one in found], "{:.2f}"),
            _range([one["dead_weights"] for one in found], "{:.2f}"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _range(values: Sequence[float], form: str) -> str:
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return "–"
    median, low, high = (form.format(f(known)) for f in (np.median, np.min, np.max))
    missing = f", {len(values) - len(known)} never" if len(known) < len(values) else ""
    return f"{median} ({low}–{high}{missing})"


def draw(
    found: Mapping[str, Sequence[Mapping[str, float]]],
    failed: Mapping[str, Sequence[bool]],
    quantities: Mapping[str, str],
    path: Path,
    title: str = "A dot per seed, a bar at their median; red: ended flat or diverged",
) -> None:
    """A row per arm, a panel per quantity, a dot per run; what has none stands at the right edge in red.

    Args:
        found: the values of every run, by arm. failed: whether it failed. quantities: their labels.
    """
    names = list(found)
    figure = Figure(figsize=(2.2 + 3.4 * len(quantities), 1.1 + 0.27 * len(names)), layout="constrained")
    panels = figure.subplots(1, len(quantities), sharey=True, squeeze=False)[0]
    for panel, (quantity, label) in zip(panels, quantities.items(), strict=True):
        values = {name: np.array([one[quantity] for one in ones]) for name, ones in found.items()}
        everything = np.concatenate(list(values.values()))
        wide = quantity in ("off_plateau", "fell_back", "largest_norm", "seconds", "parameters")
        for row, name in enumerate(names):
            known = values[name][np.isfinite(values[name])]
            flags = zip(failed[name], values[name], strict=True)
            colours = [RED if bad else BLUE for bad, value in flags if np.isfinite(value)]
            jitter = 0.18 * np.linspace(-1, 1, len(known)) if len(known) > 1 else np.zeros(len(known))
            panel.scatter(known, row + jitter, s=16, c=colours, alpha=0.85, linewidths=0)
            if known.size:
                panel.plot([np.median(known)] * 2, [row - 0.32, row + 0.32], color=INK, linewidth=1.4)
            never = len(values[name]) - len(known)
            if never:
                panel.annotate(
                    f"{never} never",
                    (1.0, row),
                    xycoords=("axes fraction", "data"),
                    ha="right",
                    va="center",
                    fontsize=8,
                    color=RED,
                )
        if wide and np.isfinite(everything).any():
            panel.set_xscale("log")
            panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            panel.xaxis.set_major_formatter("{x:g}")
            panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set_xlabel(label, fontsize=9, color=INK)
        tidy(panel, 8)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    figure.suptitle("\n".join(wrap(title, 34 * len(quantities) + 20)), fontsize=9, color=MUTED)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=DPI, facecolor="white")


def draw_courses(arms: Mapping[str, Sequence[FoundRun]], path: Path) -> None:
    """A panel per arm, a line per seed; the first arm's in grey behind all others."""
    columns = min(4, len(arms))
    rows = -(-len(arms) // columns)
    figure = Figure(figsize=(3.0 * columns, 2.3 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for panel in panels.flat[len(arms) :]:
        panel.set_axis_off()
    first = next(iter(arms.values()))
    for panel, (name, runs) in zip(panels.flat, arms.items(), strict=False):
        for run in first:
            _draw_course(panel, run, "#d0d5dd")
        for run in runs:
            _draw_course(panel, run, BLUE if run.succeeded else RED)
        panel.axhline(1, color=INK, linewidth=0.7, linestyle=":")
        panel.axhline(LEFT_PLATEAU_BELOW, color=INK, linewidth=0.7, linestyle=(0, (4, 2)))
        panel.set_ylim(0.2, 1.3)
        panel.set_title(name, fontsize=9, color=INK)
        tidy(panel, 8)
    for panel in panels.flat[max(0, len(arms) - columns) : len(arms)]:
        panel.tick_params(labelbottom=True)
        panel.set_xlabel("optimizer step", fontsize=9, color=INK)
    for panel in panels[:, 0]:
        panel.set_ylabel("loss / flat object's", fontsize=9, color=INK)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=DPI, facecolor="white")


def _draw_course(panel: Axes, run: FoundRun, colour: str) -> None:
    smooth = course(run)
    panel.plot(np.arange(len(smooth)) + WINDOW, smooth, color=colour, linewidth=0.9)


if __name__ == "__main__":
    main()
