"""How sharp must a network's patch be for rounds of error reduction to bring the rest?

    python experiments/larger_patterns/blurred.py blurred.csv figure.png

The true object is blurred, cut into patches, and each patch goes through rounds of error reduction with its
own pattern, as it would behind a network. What they come to is stitched and compared with the truth.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from ptychofno import build, metrics, physics
from ptychofno.config.composition import compose
from ptychofno.config.records import settings
from ptychofno.data import PtychoDataset
from ptychofno.display import drawing
from ptychofno.evaluation import lit_pixels, scanned_region, stitch

COLUMNS = ("N", "defocus_rad", "blur_px", "rounds", "ssim_amplitude", "ssim_phase", "phase_mae_rad")
CASES = ((64, 5), (128, 5), (128, 10), (128, 20))
BLURS = (2.0, 4.0, 8.0, 16.0)
ROUNDS = (0, 2, 4, 16)
EPSILON = 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("figure", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for size, defocus in CASES:
        for row in measured(size, defocus):
            rows.append(dict(zip(COLUMNS, row, strict=True)))
            print(rows[-1], flush=True)
    with args.table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    draw(rows, args.figure)


def measured(size: int, defocus: float) -> Iterator[tuple[Any, ...]]:
    words = [f"data.N={size}", f"data.test_step_px={5 * size // 32}", f"probe.defocus_rad={defocus}"]
    few = ["data.train_step_px=40", "data.validation_step_px=40"]
    dataset = build.dataset(settings(compose(["data=grid_lines", *words, *few])))
    assert dataset.test_objects is not None
    truth, places = dataset.test_objects[0], dataset.test.positions_px[:, 0]
    positions = torch.tensor(np.array(places))
    probe, amplitude = (torch.tensor(np.array(a)) for a in (dataset.probe, dataset.test.amplitude[:, 0]))
    for blur in BLURS:
        blurred = gaussian_filter(truth.real, blur) + 1j * gaussian_filter(truth.imag, blur)
        patches = physics.extract_patches(torch.from_numpy(blurred.astype(np.complex64)), positions, size)
        done = 0
        for rounds in ROUNDS:
            patches = physics.error_reduction(patches, amplitude, probe, EPSILON, rounds - done)
            done = rounds
            yield size, defocus, blur, rounds, *compared(patches, dataset)


def compared(patches: torch.Tensor, dataset: PtychoDataset) -> tuple[str, ...]:
    """SSIM of amplitude and phase, and the phase error, of the stitched object."""
    assert dataset.test_objects is not None
    truth = dataset.test_objects[0]
    found = stitch(patches, dataset.test.positions_px[:, 0], dataset.probe, shape=truth.shape)
    region = scanned_region(found.illumination)
    lit = lit_pixels(found.illumination)[region]
    quality = metrics.compare(found.object[region], truth[region], mask=lit)
    return tuple(f"{value:.4f}" for value in (*quality["ssim"], quality["phase_mae_rad"]))


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    figure = drawing.new_figure(8.0, 4.6)
    drawing.write_title(figure, "How sharp must a network's patch be?", "After two rounds behind it")
    axes = figure.add_axes((0.11, 0.15, 0.6, 0.62))
    for colour, (size, defocus) in zip(drawing.SERIES, CASES, strict=False):
        of_case = [row for row in rows if (row["N"], row["defocus_rad"], row["rounds"]) == (size, defocus, 2)]
        values = [float(row["ssim_amplitude"]) for row in of_case]
        label = f"N = {size}, {defocus} rad"
        axes.plot([row["blur_px"] for row in of_case], values, "o-", color=colour, label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(BLURS, [f"{blur:g}" for blur in BLURS])
    axes.set_xlabel("blur of the patch before the rounds, px", color=drawing.INK)
    axes.set_ylabel("SSIM of the amplitude", color=drawing.INK)
    drawing.tidy(axes, 11)
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, fontsize=11, title="defocus")
    drawing.save_figure(path, figure)


if __name__ == "__main__":
    main()
