"""How many seconds until an unseen object is right? Whole commands, each from an empty cache.

    python experiments/seconds/seconds.py seconds.csv figure.png --threads 2

Start-up, simulation, training, rounds of overlap, metrics and pictures are all in the seconds. Of LSQ-ML,
which is left out where pty-chi is not installed, they are those of the solver alone. Rows that are in the
table already are kept, so that a second call does what is missing.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

TRAIN, FLAT = "ptychofno.train", "ptychofno.reconstruct flat"
RECIPES = {
    "flat, 3 rounds": (FLAT, "refine.rounds=3"),
    "flat, 7 rounds": (FLAT, "refine.rounds=7"),
    "flat, 15 rounds": (FLAT, "refine.rounds=15"),
    "flat, 30 rounds": (FLAT, "refine.rounds=30"),
    "default": (TRAIN, ""),
    "default, 15 rounds": (TRAIN, "refine.rounds=15"),
    "default, 3 epochs": (TRAIN, "trainer.max_epochs=3 refine.rounds=15"),
    "default, 10 epochs": (TRAIN, "trainer.max_epochs=10 refine.rounds=15"),
    "full size, 1 epoch": (TRAIN, "data=grid_lines refine.rounds=15"),
    "20 epochs, no rounds": (TRAIN, "+arm=recommended"),
    "published control, 5 epochs": (TRAIN, "+arm=control trainer.max_epochs=5 refine=none"),
}
LSQML = "LSQ-ML, 30 epochs"
APART = {"full size, 1 epoch": (-12, 16), "default, 3 epochs": (-30, -14)}
"""Where names stand that would run into others, in points from their marks."""
COLUMNS = ("name", "seconds", "cpu_seconds", "ssim_amplitude", "ssim_phase", "phase_mae_rad", "threads")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("figure", type=Path, nargs="?")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    rows = read(args.table)
    for name in [name for name in (*RECIPES, LSQML) if name not in {row["name"] for row in rows}]:
        if name == LSQML and find_spec("ptychi") is None:
            print(f"{name}: left out, pip install ptychi")
            continue
        found = lsqml(args.threads) if name == LSQML else measured(*RECIPES[name], args.threads)
        rows.append({"name": name, "threads": args.threads, **found})
        print(rows[-1], flush=True)
        with args.table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
    if args.figure:
        draw(rows, args.figure)


def read(table: Path) -> list[dict[str, object]]:
    if not table.exists():
        return []
    with table.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def measured(command: str, words: str, threads: int) -> dict[str, object]:
    """One command with its own cache and directory; its seconds, and how good its object is."""
    with tempfile.TemporaryDirectory() as folder:
        settings = [f"data.cache_dir={folder}/cache", f"trainer.num_threads={threads}", *words.split()]
        settings += (
            [f"run_dir={folder}/run", "logger=none"] if command == TRAIN else ["--output", f"{folder}/out"]
        )
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        said = subprocess.run(
            [sys.executable, "-m", *command.split(), *settings],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        ).stdout
        seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        path = re.findall(r"\S*metrics\.json", said)[-1]
        metrics = json.loads(Path(path).read_text())
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return told(seconds, spent, metrics)


def told(seconds: float, cpu_seconds: float, metrics: dict[str, Any]) -> dict[str, object]:
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "ssim_amplitude": round(metrics["ssim"][0], 5),
        "ssim_phase": round(metrics["ssim"][1], 5),
        "phase_mae_rad": round(metrics["phase_mae_rad"], 5),
    }


def lsqml(threads: int) -> dict[str, object]:
    """pty-chi's solver on the default test scan, from a flat object and with the known probe."""
    import torch

    from ptychofno import build, metrics
    from ptychofno.config.composition import compose
    from ptychofno.config.records import settings
    from ptychofno.evaluation import lit_pixels, scanned_region
    from ptychofno.evaluation.illumination import overlap_illumination

    sys.path.append(str(Path(__file__).parents[1] / "frontier"))
    from lsqml import lsqml as solve

    torch.set_num_threads(threads)
    dataset = build.dataset(settings(compose()))
    assert dataset.test_objects is not None
    truth, positions = np.array(dataset.test_objects[0]), np.array(dataset.test.positions_px[:, 0])
    amplitude, probe = np.array(dataset.test.amplitude[:, 0]), np.array(dataset.probe)
    began, before = time.monotonic(), time.process_time()
    found = solve(amplitude, positions, probe, truth.shape, dataset.photon_scale, 30)
    seconds, spent = time.monotonic() - began, time.process_time() - before
    light = overlap_illumination(positions, probe, truth.shape)
    region = scanned_region(light)
    judged = metrics.compare(found[region], truth[region], mask=lit_pixels(light)[region])
    return told(seconds, spent, judged)


def draw(rows: list[dict[str, object]], path: Path) -> None:
    from ptychofno.display.drawing import BLUE, INK, MUTED, RED, new_figure, save_figure, tidy, write_title

    figure = new_figure(9.0, 5.4)
    write_title(figure, "What do more seconds buy?", "phase error of an unseen object, from an empty cache")
    axes = figure.add_axes((0.1, 0.13, 0.86, 0.66))
    kinds = {"flat": (BLUE, "s", "rounds alone"), "default": (RED, "o", "network, then rounds")}
    for row in rows:
        colour, marker, label = kinds.get(str(row["name"]).split(",")[0], (MUTED, "D", "other recipes"))
        place = float(str(row["seconds"])), float(str(row["phase_mae_rad"]))
        axes.plot(*place, color=colour, marker=marker, linestyle="none", label=label)
        offset = APART.get(str(row["name"]), (5, 4))
        axes.annotate(str(row["name"]), place, offset, textcoords="offset points", fontsize=9, color=INK)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(6, 700)
    axes.set_ylim(4e-4, 0.05)
    axes.set_xticks([10, 20, 50, 100, 200, 500], ["10", "20", "50", "100", "200", "500"])
    axes.set_yticks([0.001, 0.003, 0.01, 0.03], ["0.001", "0.003", "0.01", "0.03"])
    axes.minorticks_off()
    axes.set_xlabel("seconds of the whole command", fontsize=12, color=INK)
    axes.set_ylabel("phase error, rad", fontsize=12, color=INK)
    tidy(axes, 11)
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    axes.legend(once.values(), once.keys(), frameon=False, fontsize=10, labelcolor=INK, loc="center right")
    save_figure(path, figure)


if __name__ == "__main__":
    main()
