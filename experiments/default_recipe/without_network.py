"""How good is the first guess by itself, without a network, and what becomes of slow phase?

    python experiments/default_recipe/without_network.py --iterations 0 4 16 64 outputs/default/default-seed0

Judges the back-projected guess of the test patterns of the default dataset, after rounds of error reduction,
and the runs that are given, and prints a table: metrics, and how much of the true phase is found at which
spatial frequency (cross-spectrum of reconstruction and truth over the truth's power, Hann window).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ptychofno import build, physics
from ptychofno.config.composition import compose
from ptychofno.config.records import settings
from ptychofno.evaluation import judge
from ptychofno.evaluation.illumination import lit_pixels
from ptychofno.metrics import align, compare, found_shares
from ptychofno.runs import artifacts

BANDS = ((0.0, 0.01), (0.01, 0.02), (0.02, 0.04), (0.04, 0.08), (0.08, 0.16), (0.16, 0.3))


class Guess(nn.Module):
    """The guess in place of a generator: (B, C, N, N) to (B, N, N, C, 2)."""

    def __init__(self, probe: Tensor, iterations: int) -> None:
        super().__init__()
        self.probe, self.iterations = probe, iterations

    def forward(self, amplitude: Tensor) -> Tensor:
        guess = physics.back_projection(amplitude, self.probe, 1e-3)
        guess = physics.error_reduction(guess, amplitude, self.probe, 1e-3, self.iterations)
        return torch.view_as_real(guess.movedim(1, -1).contiguous())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("runs", metavar="RUN_DIR", nargs="*", type=Path)
    parser.add_argument("--iterations", type=int, nargs="*", default=[0, 4, 16, 64])
    args = parser.parse_args()
    heads = ("", "error", "SSIM amplitude", "SSIM phase", "SSIM phase (2π)", "phase error / rad")
    heads += tuple(f"{low:g}–{high:g}" for low, high in BANDS)
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    plan = settings(compose())
    dataset = build.dataset(plan) if args.iterations else None
    for iterations in args.iterations:
        assert dataset is not None
        guess = Guess(torch.from_numpy(dataset.probe.copy()), iterations)
        found = judge(guess, dataset, plan, "cpu")
        assert found.target is not None
        region = found.region
        row(f"guess, {iterations} rounds", found.metrics, found.prediction[region], found.target[region])
    for run in args.runs:
        with np.load(run / artifacts.RECONSTRUCTION, allow_pickle=False) as arrays:
            region = tuple(slice(*ends) for ends in arrays["region"].tolist())
            prediction, target = arrays["prediction"][region], arrays["target"][region]
            lit = lit_pixels(arrays["illumination"])[region]
        metrics = artifacts.read_json(run / artifacts.METRICS) | compare(prediction, target, mask=lit)
        row(run.name, metrics, prediction, target)


def row(name: str, metrics: dict[str, Any], prediction: np.ndarray, target: np.ndarray) -> None:
    amplitude, phase = metrics["ssim"]
    cells = [f"{metrics['diffraction_error']:.4f}", f"{amplitude:.3f}", f"{phase:.3f}"]
    cells += [f"{metrics[key]:.3f}" for key in ("ssim_phase_2pi", "phase_mae_rad")]
    fields = align(prediction, target)
    cells += [f"{share:.2f}" for share in found_shares(fields.phase_rad, fields.target_phase_rad, BANDS)]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
