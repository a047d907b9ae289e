"""What does a reconstruction spend where, and does it scale? Seconds and memory of its parts.

    python experiments/seconds/shares.py shares.csv outputs/default/default-seed0 --threads 2

Objects of lines of growing size, scanned every 10 px. The network sees what the rounds begin from.
"""

from __future__ import annotations

import argparse
import csv
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from ptychofno import build, physics
from ptychofno.config.composition import compose
from ptychofno.config.records import settings
from ptychofno.evaluation.illumination import weight_of
from ptychofno.evaluation.infer import predict
from ptychofno.evaluation.stitch import NEARLY_SETTLED_RAD, stitch
from ptychofno.runs import artifacts
from ptychofno.runs.weights import recorded_generator

COLUMNS = ("patterns", "part", "seconds", "cpu_seconds", "peak_mib")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sides", type=int, nargs="+", default=[33, 100, 316], help="patterns a side")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows: list[dict[str, Any]] = []
    for side in args.sides:
        size = 64 + 10 * (side - 1)
        typed = [f"data.size={size}", f"data.nlines={400 * size // 392}", "data.train_step_px=100"]
        dataset = build.dataset(settings(compose(typed)))
        for part, seconds, cpu in parts(dataset, args.run):
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
            values = (side**2, part, f"{seconds:.2f}", f"{cpu:.2f}", f"{peak:.0f}")
            rows.append(dict(zip(COLUMNS, values, strict=True)))
            print(rows[-1], flush=True)
    with args.table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def parts(dataset: Any, run: Path) -> Any:
    """Yield (part, seconds, CPU seconds)."""
    found: dict[str, Any] = {}

    def timed(name: str, function: Callable[[], Any]) -> tuple[str, float, float]:
        began, began_cpu = time.perf_counter(), time.process_time()
        found[name] = function()
        return name, time.perf_counter() - began, time.process_time() - began_cpu

    model = yaml.safe_load((run / artifacts.CONFIG).read_text(encoding="utf-8"))["model"]
    network = recorded_generator(model, dataset, run / artifacts.MODEL, for_its_data=False)
    shape, probe = dataset.test_objects[0].shape, torch.from_numpy(dataset.probe.copy())
    yield timed("prediction", lambda: predict(network, dataset, batch_size=64, device="cpu", sparse=True))
    seen = found["prediction"]
    weight, places = weight_of(dataset.probe), seen.samples.positions_px[:, 0]
    yield timed(
        "stitching",
        lambda: stitch(seen.patches[:, 0], places, weight, shape=shape, settled_rad=NEARLY_SETTLED_RAD),
    )
    amplitude = torch.from_numpy(np.array(dataset.test.amplitude[:, 0]))
    positions = torch.from_numpy(np.array(dataset.test.positions_px[:, 0]))
    yield timed("arranging the scan", lambda: physics.make_scan(amplitude, positions, shape))
    scan = found["arranging the scan"]
    start = physics.Estimate(torch.from_numpy(found["stitching"].object), probe)
    yield timed("five rounds", lambda: physics.refine(scan, start, 5, tolerance=0.0))


if __name__ == "__main__":
    main()
