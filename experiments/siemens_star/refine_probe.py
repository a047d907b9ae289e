"""Refine the probe estimate of a measured scan.

    python experiments/siemens_star/refine_probe.py SCAN.npz OUT.npz

The extended ptychographic iterative engine (Maiden and Rodenburg 2009) on the training patterns
only, at positions rounded to pixels; only its probe is kept. No ground truth, no held-out pattern.
"""

from __future__ import annotations

import sys

import numpy as np
import torch

from ptychofno import physics
from ptychofno.build import dataset
from ptychofno.config import compose, settings

ITERATIONS, PROBE_FROM, PROBE_STEP = 40, 5, 0.5


def refine(amplitude: torch.Tensor, corners: np.ndarray, probe: torch.Tensor) -> torch.Tensor:
    """The refined probe (N, N); amplitude (n, N, N), corners (n, 2) in whole pixels."""
    N = probe.shape[-1]
    rows, cols = corners.max(axis=0) + N
    obj = torch.ones(rows, cols, dtype=torch.complex64)
    order = np.random.default_rng(0)
    for iteration in range(ITERATIONS):
        misfit = 0.0
        for index in order.permutation(len(amplitude)):
            row, col = corners[index]
            patch = obj[row : row + N, col : col + N].clone()
            field = physics.far_field(probe * patch)
            misfit += float((field.abs() - amplitude[index]).abs().sum())
            change = physics.inverse_far_field(amplitude[index] * torch.sgn(field)) - probe * patch
            obj[row : row + N, col : col + N] += probe.conj() * change / probe.abs().square().max()
            if iteration >= PROBE_FROM:
                probe = probe + PROBE_STEP * patch.conj() * change / patch.abs().square().max()
        print(
            f"iteration {iteration + 1}: relative amplitude error {misfit / float(amplitude.sum()):.4f}",
            flush=True,
        )
    return probe


def main(scan: str, out: str) -> None:
    data = dataset(settings(compose(["data=measured", f"data.path={scan}"])))
    corners = np.rint(data.train.positions_px[:, 0]).astype(int)
    amplitude = torch.from_numpy(data.train.amplitude[:, 0].copy())
    probe = refine(amplitude, corners, torch.from_numpy(data.probe.copy()))
    np.savez(out, probe=probe.numpy())


if __name__ == "__main__":
    main(*sys.argv[1:])
