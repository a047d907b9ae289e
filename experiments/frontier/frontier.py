"""Who reconstructs best at which scan step, dose and object: a network, rounds of overlap, both, LSQ-ML.

    python experiments/frontier/frontier.py OUT.csv [--steps 10 20 32 48] [--photons 1e9 1e5 1e4]
    python experiments/frontier/frontier.py OUT.csv --lsqml        # adds pty-chi's LSQ-ML; needs pty-chi

One thread. Rows that are in OUT.csv already are not made again. Networks are trained on their class and
dose with the default recipe of then (`+arm=recommended trainer.max_epochs=3`, 676 patterns). Their seconds
are prediction and stitching.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ptychofno import build, metrics, physics
from ptychofno.command import line
from ptychofno.config.composition import compose
from ptychofno.config.records import settings
from ptychofno.evaluation import lit_pixels, predict_patches, scanned_region, stitch
from ptychofno.runs.weights import recorded_generator
from ptychofno.train import train

OBJECTS = ("grid_lines", "natural_images", "random_fields")
FIELDS = ("object", "photons", "step_px", "method", "ssim", "phase_mae_rad", "seconds", "patterns_per_s")


def judged(obj: np.ndarray, illumination: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Amplitude SSIM and phase error in rad on the scanned area."""
    region = scanned_region(illumination)
    lit = lit_pixels(illumination)[region]
    found = metrics.compare(obj[region], truth[region], phase_alignment="plane", mask=lit)
    return found["ssim"][0], found["phase_mae_rad"]


def trained(kind: str, photons: str, outputs: Path) -> Path:
    run = outputs / f"{kind}-{photons}"
    typed = [f"data={kind}_small", f"data.nphotons={photons}", "seed=0", "trainer.num_threads=1"]
    recipe = ["+arm=recommended", "trainer.max_epochs=3", "logger=none"]
    line.run(train, [*typed, *recipe, f"run_dir={run}"])
    return run


def reconstructions(kind: str, photons: str, step: int, outputs: Path, lsqml: bool) -> Any:
    """Yield (method, object, illumination, seconds) for one scan."""
    typed = [
        "+arm=recommended",
        f"data={kind}_small",
        f"data.nphotons={photons}",
        f"data.test_step_px={step}",
    ]
    cfg = compose(typed)
    dataset = build.dataset(settings(cfg))
    amplitude, positions = dataset.test.amplitude, dataset.test.positions_px[:, 0]
    assert dataset.test_objects is not None
    shape, probe = dataset.test_objects[0].shape, torch.from_numpy(dataset.probe.copy())
    patterns = torch.from_numpy(amplitude[:, 0].copy())
    if lsqml:
        from lsqml import lsqml as solve

        began = time.perf_counter()
        obj = solve(amplitude[:, 0], positions, dataset.probe, shape, dataset.photon_scale, 30)
        seconds = time.perf_counter() - began
        yield "LSQ-ML 30", obj, stitched_light(dataset, shape), seconds, dataset
        return
    began = time.perf_counter()
    scan = physics.make_scan(patterns, torch.from_numpy(positions.copy()), shape)
    flat, arranged = physics.flat_estimate(scan, probe), time.perf_counter() - began
    light = stitched_light(dataset, shape)
    for rounds in (10, 30, 100):
        began = time.perf_counter()
        found = physics.refine(scan, flat, rounds).estimate.object.numpy()
        yield f"flat + {rounds}", found, light, arranged + time.perf_counter() - began, dataset
    run = trained(kind, photons, outputs)
    network = recorded_generator(build.to_plain(cfg.model), dataset, run / "model.pt", for_its_data=False)
    began = time.perf_counter()
    patches = predict_patches(network, amplitude, batch_size=64)[:, 0]
    start = stitch(patches, positions, dataset.probe, shape=shape)
    predicted = time.perf_counter() - began
    yield "network", start.object, start.illumination, predicted, dataset
    lit = torch.from_numpy(lit_pixels(start.illumination))
    given = physics.Estimate(torch.where(lit, torch.from_numpy(start.object), flat.object), probe)
    for rounds in (1, 3, 10):
        began = time.perf_counter()
        found = physics.refine(scan, given, rounds).estimate.object.numpy()
        seconds = predicted + arranged + time.perf_counter() - began
        yield f"network + {rounds}", found, start.illumination, seconds, dataset


def stitched_light(dataset: Any, shape: tuple[int, int]) -> np.ndarray:
    """The illumination of the test scan, float32 (H, W)."""
    ones = torch.ones(len(dataset.test), *dataset.probe.shape, dtype=torch.complex64)
    positions = dataset.test.positions_px[:, 0]
    return stitch(ones, positions, dataset.probe, shape=shape, sync_rounds=0).illumination


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, nargs="*", default=[10, 20, 32, 48])
    parser.add_argument("--photons", nargs="*", default=["1e9", "1e5", "1e4"])
    parser.add_argument("--objects", nargs="*", default=OBJECTS)
    parser.add_argument("--lsqml", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = list(csv.DictReader(args.out.open())) if args.out.exists() else []
    for kind in args.objects:
        for photons in args.photons:
            for step in args.steps:
                here = {"object": kind, "photons": photons, "step_px": str(step)}
                have = [row["method"] for row in rows if {key: row[key] for key in here} == here]
                if any(method.startswith("LSQ") == args.lsqml for method in have):
                    continue
                runs = args.out.parent / "runs"
                for method, obj, light, seconds, dataset in reconstructions(
                    kind, photons, step, runs, args.lsqml
                ):
                    ssim, phase = judged(obj, light, np.asarray(dataset.test_objects[0]))
                    rate = len(dataset.test) / seconds
                    values = (method, f"{ssim:.4f}", f"{phase:.4f}", f"{seconds:.2f}", f"{rate:.0f}")
                    rows.append(here | dict(zip(FIELDS[3:], values, strict=True)))
                    print(*rows[-1].values(), flush=True)
                with args.out.open("w", newline="") as file:
                    writer = csv.DictWriter(file, FIELDS)
                    writer.writeheader()
                    writer.writerows(rows)


if __name__ == "__main__":
    main()
