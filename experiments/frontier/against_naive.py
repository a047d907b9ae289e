"""Rounds of overlap against rPIE one pattern at a time: python experiments/frontier/against_naive.py

Flat start, known probe, step 10 px, 1e9 photons, one thread. Prints SSIM of the amplitude, phase error in rad
and seconds of 30 rounds of the plain loop, and of rounds of overlap.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from frontier import OBJECTS, judged, stitched_light

from ptychofno import build, physics
from ptychofno.config.composition import compose
from ptychofno.config.records import settings


def one_by_one(
    scan: physics.Scan, probe: torch.Tensor, rounds: int, regularisation: float = 0.1
) -> torch.Tensor:
    """rPIE (Maiden, Johnson and Li 2017), pattern after pattern in random order."""
    obj = physics.flat_estimate(scan, probe).object.clone()
    power, size = probe.abs().square(), probe.shape[-1]
    step = probe.conj() / ((1 - regularisation) * power + regularisation * power.max())
    order = torch.Generator().manual_seed(0)
    for _ in range(rounds):
        for index in torch.randperm(len(scan.amplitude), generator=order).tolist():
            row, col = scan.corners[index].tolist()
            patch = obj[row : row + size, col : col + size]
            field = torch.fft.fft2(probe * patch, norm="ortho")
            lacking = field * (scan.amplitude[index] / field.abs().clamp_min(1e-12) - 1)
            patch += step * torch.fft.ifft2(lacking, norm="ortho")
    return obj


def show(
    kind: str, method: str, obj: torch.Tensor, light: np.ndarray, truth: np.ndarray, seconds: float
) -> None:
    ssim, phase = judged(obj.numpy(), light, truth)
    print(f"{kind:15} {method:12} {ssim:.4f} {phase:.4f} rad {seconds:6.2f} s", flush=True)


def main() -> None:
    torch.set_num_threads(1)
    for kind in OBJECTS:
        dataset = build.dataset(settings(compose([f"data={kind}_small"])))
        assert dataset.test_objects is not None
        truth, probe = dataset.test_objects[0], torch.from_numpy(dataset.probe.copy())
        light = stitched_light(dataset, truth.shape)
        positions = torch.from_numpy(dataset.test.positions_px[:, 0].copy())
        began = time.perf_counter()
        scan = physics.make_scan(
            torch.from_numpy(dataset.test.amplitude[:, 0].copy()), positions, truth.shape
        )
        arranged = time.perf_counter() - began

        began = time.perf_counter()
        naive = one_by_one(scan, probe, 30)
        show(kind, "one by one 30", naive, light, truth, time.perf_counter() - began)
        for rounds in (3, 5, 8, 10, 12, 15):
            began = time.perf_counter()
            found = physics.refine(scan, physics.flat_estimate(scan, probe), rounds).estimate.object
            show(kind, f"rounds {rounds}", found, light, truth, arranged + time.perf_counter() - began)


if __name__ == "__main__":
    main()
