"""Near-field scans, found by the shadow of the object that moves over the detector with the scan.

A beam that diverges from a focus throws a magnified shadow. If the lit part of the object, as the shadow's
magnification tells it, is larger than the field of view lambda z / p that a detector pixel resolves in the
far field, the patterns are holograms and no far field explains them.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

_LIT = 0.05
_CORRELATED = 0.3
_EXPLAINED = 0.9
_FEWEST_PAIRS = 8
_MOST_PATTERNS = 24


def require_far_field(sample: np.ndarray, positions_m: np.ndarray, field_m: float, where: str) -> None:
    """Raise ValueError where a moving shadow shows that patterns are near field.

    Args:
        sample: counts or amplitudes (k, R, C). positions_m: of these patterns, (k, 2) metres.
        field_m: lambda z / p.
    """
    mean = sample.mean(axis=0)
    lit = mean > _LIT * mean.max()
    contrast = np.where(lit, sample[:_MOST_PATTERNS] / np.maximum(mean, 1e-30) - 1, 0.0)
    far = np.fft.fft2(contrast)
    norms = np.sqrt(np.square(contrast).sum(axis=(-2, -1)))
    half = np.array(mean.shape) // 2
    shifts, steps = [], []
    for i, j in combinations(range(len(contrast)), 2):
        found = np.fft.ifft2(far[j] * far[i].conj()).real
        at = np.unravel_index(int(found.argmax()), found.shape)
        if found[at] > _CORRELATED * norms[i] * norms[j]:
            shifts.append((np.array(at) + half) % found.shape - half)
            steps.append(positions_m[j] - positions_m[i])
    if len(shifts) < _FEWEST_PAIRS:
        return
    moved, by = np.array(shifts, np.float64), np.array(steps)
    pixels_per_m = np.linalg.lstsq(by, moved, rcond=None)[0]
    left = np.square(moved - by @ pixels_per_m).sum() / max(np.square(moved).sum(), 1e-30)
    magnified = float(np.sqrt(abs(np.linalg.det(pixels_per_m))))
    if left > 1 - _EXPLAINED or magnified == 0:
        return
    width_m = float(np.sqrt(lit.sum())) / magnified
    if width_m > field_m:
        raise ValueError(
            f"{where} are near field: the object's shadow moves with the scan by {magnified * 1e-6:.3g}"
            f" detector pixels per um, so that {width_m * 1e6:.3g} um are lit, and a far field shows"
            f" {field_m * 1e6:.3g} um at most; only far-field patterns can be reconstructed"
        )
