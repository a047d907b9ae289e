"""A probe to begin with where the files of a scan have none.

Shapes: n patterns of (N, N), one probe (N, N).
"""

from __future__ import annotations

import numpy as np
import torch

from ptychofno import physics
from ptychofno.data.dataset import Split

_PATTERNS = 64
_ROUNDS = 8
_SPREADS = (0.0, 0.1, -0.1, 0.2, -0.2, 0.35, -0.35)
"""Defocus that is tried: a quadratic phase that spreads the beam over such a share of the field."""


def probe_from_patterns(
    train: Split, mean_amplitude: np.ndarray, valid: np.ndarray | None
) -> tuple[np.ndarray, str]:
    """A probe whose far field has the mean pattern's modulus, complex64 (N, N), and a line that says so.

    The mean pattern is about the far field of the probe, whose phase is unknown. A beam out of focus has a
    quadratic one: several are tried, and the one is taken from which a few rounds explain the patterns in
    the middle of the scan best.
    """
    amplitude, positions = torch.from_numpy(train.amplitude[:, 0]), torch.from_numpy(train.positions_px[:, 0])
    middle = positions.median(dim=0).values
    near = (positions - middle).square().sum(1).argsort()[:_PATTERNS]
    places = positions[near] - positions[near].amin(dim=0)
    N = mean_amplitude.shape[-1]
    height, width = (places.amax(dim=0).ceil().int() + N).tolist()
    mask = None if valid is None else torch.from_numpy(valid)
    scan = physics.make_scan(amplitude[near], places, (height, width), mask)
    left = {}
    for spread in _SPREADS:
        start = _defocused(mean_amplitude, spread)
        estimate = physics.flat_estimate(scan, torch.from_numpy(start))
        left[spread] = physics.refine(scan, estimate, _ROUNDS, probe_from=1, tolerance=-1.0).misfit[-1]
    best = min(left, key=lambda spread: left[spread])
    note = "the files have no probe: begun from the mean pattern, to be refined with the object"
    return _defocused(mean_amplitude, best), note


def _defocused(far_amplitude: np.ndarray, spread: float) -> np.ndarray:
    """The inverse transform of a far field with a quadratic phase, complex64 (N, N)."""
    N = far_amplitude.shape[-1]
    q = np.arange(N) - N // 2
    square = q[:, None] ** 2 + q[None, :] ** 2
    width = np.sqrt(np.average(square, weights=np.square(far_amplitude)) + 1e-9)
    # The slope of the phase, in rad per frequency, times N / 2 pi is how far the light goes in the beam.
    phase = np.pi * spread * square / max(width, 1.0)
    far = far_amplitude * np.exp(1j * phase)
    near = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(far)))
    return near.astype(np.complex64)
