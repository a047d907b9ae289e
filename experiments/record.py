"""Keep what a study showed, without its runs: report, curves as a table, and two figures.

    python experiments/record.py outputs/stage_a --output experiments/stage_a

Writes report.html and report.csv as ``python -m ptychofno.report`` does; curves.csv, one line per run and
epoch; curves.png, one panel per arm; and reconstructions.png, every arm's run of median loss beside the
truth.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ptychofno.metrics import align
from ptychofno.report.__main__ import report
from ptychofno.report.arms import Arm
from ptychofno.report.runs import FoundRun
from ptychofno.report.study import Study, load
from ptychofno.runs import artifacts

COLUMNS = ("epoch", "step", "train_loss", "val_loss", "val_ssim", "learning_rate", "grad_norm_median")
COLUMNS += ("grad_norm_max", "grad_norm_clipped_max", "clipped_fraction", "pred_amp_std", "seconds")
INK, MUTED, BLUE, RED = "#1f2430", "#98a2b3", "#2f6fb3", "#d1495b"
CROP_PX = 160
Images = Sequence[np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("directories", metavar="DIRECTORY", nargs="+", type=Path, help="a study, or runs")
    parser.add_argument("--output", metavar="DIR", type=Path, required=True)
    parser.add_argument("--control", metavar="ARM")
    parser.add_argument("--anyway", action="store_true")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    report(args.directories, args.output, args.control, args.anyway)
    study = load(args.directories, args.control, args.anyway)
    write_curves(study, args.output / "curves.csv")
    draw_curves(study, args.output / "curves.png")
    draw_reconstructions(study, args.output / "reconstructions.png")


def write_curves(study: Study, path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("arm", "seed", *COLUMNS))
        for arm in study.arms:
            for run in arm.runs:
                history = json.loads((run.path / artifacts.HISTORY).read_text())
                blank = [None] * len(history["epoch"])
                for entry in zip(*(history.get(key, blank) for key in COLUMNS), strict=True):
                    writer.writerow((arm.name, run.seed, *(_short(value) for value in entry)))


def draw_curves(study: Study, path: Path) -> None:
    """Validation loss relative to the flat object's, and SSIM of the validation object, arm by arm."""
    arms = [arm for arm in study.arms if arm.results]
    columns = min(4, len(arms))
    rows = -(-len(arms) // columns)
    figure = Figure(figsize=(3.1 * columns, 2.5 * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for panel in panels.flat[len(arms) :]:
        panel.set_axis_off()
    for panel, arm in zip(panels.flat, arms, strict=False):
        if study.control is not None:
            _median(panel, study.control, color=MUTED, linestyle=(0, (4, 2)))
        for run in arm.results:
            loss = run.curves["val_loss"] / run.flat_baseline
            panel.plot(run.epochs, loss, color=BLUE, linewidth=1.0, alpha=0.8)
            panel.plot(run.epochs, run.curves["val_ssim"], color=RED, linewidth=1.0, alpha=0.8)
        ssim = np.median([run.measures["ssim_amplitude"] for run in arm.results])
        crashed = f", {arm.crashed} of {len(arm.results)} crashed" if arm.crashed else ""
        panel.set_title(f"{arm.name}\nmedian SSIM {ssim:.3f}{crashed}", fontsize=9, color=INK)
        panel.axhline(1, color=INK, linewidth=0.6, linestyle=":")
        panel.set_ylim(0, 1.15)
        panel.tick_params(labelsize=8)
        panel.grid(color="#e4e7ec", linewidth=0.5)
    for panel in panels[:, 0]:
        panel.set_ylabel("loss / flat object's, SSIM", fontsize=8)
    for panel in panels[-1]:
        panel.set_xlabel("epoch", fontsize=8)
    dashed = f"; dashed: loss of {study.control.name}, median" if study.control is not None else ""
    title = (
        "Blue: validation loss relative to the flat object's; red: amplitude SSIM of the validation object;"
        f" a line per seed{dashed}"
    )
    figure.suptitle("\n".join(wrap(title, 32 * columns)), fontsize=9, color=INK)
    _save(figure, path)


def draw_reconstructions(study: Study, path: Path) -> None:
    """The centre of the test object: truth, then every arm's run of median loss, on the truth's scales.

    Where arms have test objects of their own, each truth stands before the arms it is the truth of.
    """
    cells: list[tuple[str, Images, Images]] = []
    truths: list[Images] = []
    for arm in study.arms:
        for run in arm.typical()[:1]:
            found = _aligned(run)
            if found is None:
                continue
            prediction, target = found
            truth = next((one for one in truths if _same(one, target)), None)
            if truth is None:
                truth = target
                truths.append(truth)
                cells.append(("truth", truth, truth))
            cells.append((f"{arm.name}\nSSIM {run.measures['ssim_amplitude']:.3f}", prediction, truth))
    if not cells:
        return
    columns = min(6, len(cells))
    bands = -(-len(cells) // columns)
    figure = Figure(figsize=(1.9 * columns, 4.2 * bands), layout="constrained")
    panels = figure.subplots(2 * bands, columns, squeeze=False)
    for panel in panels.flat:
        panel.set_axis_off()
    for index, (title, images, truth) in enumerate(cells):
        band, column = divmod(index, columns)
        for kind, (image, reference) in enumerate(zip(images, truth, strict=True)):
            panel = panels[2 * band + kind, column]
            panel.imshow(
                image,
                cmap=("gray", "viridis")[kind],
                vmin=float(reference.min()),
                vmax=float(reference.max()),
            )
            if kind == 0:
                panel.set_title(title, fontsize=9, color=INK)
    figure.suptitle(
        f"Amplitude (grey) and phase (colour), central {CROP_PX} px of the test object", fontsize=9, color=INK
    )
    _save(figure, path)


def _same(one: Images, other: Images) -> bool:
    """Whether two truths are one object; the mean that is taken off a phase depends on the run's mask."""
    return all(
        np.shape(a) == np.shape(b) and np.allclose(a, b, atol=0.05) for a, b in zip(one, other, strict=True)
    )


def _median(panel: object, arm: Arm, **style: object) -> None:
    curves = [run.curves["val_loss"] / run.flat_baseline for run in arm.results]
    length = min(map(len, curves), default=0)
    if length:
        panel.plot(  # type: ignore[attr-defined]
            arm.results[0].epochs[:length], np.median([c[:length] for c in curves], axis=0), **style
        )


def _aligned(run: FoundRun) -> tuple[Images, Images] | None:
    """([amplitude, phase] of the prediction, of the target), cropped; None without a reconstruction."""
    file = run.path / artifacts.RECONSTRUCTION
    if not file.exists():
        return None
    with np.load(file, allow_pickle=False) as arrays:
        rows, columns = arrays["region"].tolist()
        region = (slice(*rows), slice(*columns))
        if "target" not in arrays:
            return None
        fields = align(arrays["prediction"][region], arrays["target"][region])
    top, left = ((side - CROP_PX) // 2 for side in fields.amplitude.shape)
    crop = (slice(max(top, 0), max(top, 0) + CROP_PX), slice(max(left, 0), max(left, 0) + CROP_PX))
    prediction = [fields.amplitude[crop], fields.phase_rad[crop]]
    return prediction, [fields.target_amplitude[crop], fields.target_phase_rad[crop]]


def _short(value: float | None) -> object:
    return "" if value is None else value if isinstance(value, int) else f"{value:.6g}"


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=110, facecolor="white")


if __name__ == "__main__":
    main()
