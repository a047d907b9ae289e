"""A trained network on another scan: what brings the scan to its size, how far it is from training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ptychofno.data.dataset import PtychoDataset
from ptychofno.data.preparation import bins_for
from ptychofno.data.settings import MeasuredData
from ptychofno.runs.tensors import load_tensors
from ptychofno.runs.weights import trained_shape

_UNLIKE = 0.5
"""Overlap of two probes, from 0 to 1, below which a network has hardly seen the like."""

_FACTOR = 10.0
"""Ratio of photons per pattern from which on a network has seen another noise."""

_OUTSIDE = 0.05
"""Share of the amplitude brighter than in training from which on it is told by itself."""

_PATTERNS = 512
"""So many are looked at for that."""


def settings_for(data: Any, model: Path, typed: Sequence[str]) -> dict[str, int]:
    """The settings, of those that are not typed, that bring a measured scan to a network's size.

    Raises ValueError for files that cannot be read.
    """
    shape = trained_shape(model)
    if shape is None or not isinstance(data, MeasuredData):
        return {}
    patches, size = shape
    wanted = {"data.N": size, "data.gridsize": math.isqrt(patches)}
    if not any(change.startswith("data.detector.bin=") for change in typed):
        wanted["data.detector.bin"] = bins_for(data, size)
    names = {change.partition("=")[0] for change in typed}
    return {name: value for name, value in wanted.items() if name not in names}


def differences(model: Path, values: Mapping[str, Any], dataset: PtychoDataset) -> list[str]:
    """What of a dataset is far from what a network was trained on, a line each.

    Args:
        values: recorded settings of the run that trained it.
    """
    try:
        bundle = load_tensors(model)
    except Exception:
        return []
    found = []
    probe = bundle.get("probe")
    if probe is not None and probe.shape[-1] == dataset.N:
        strongest = (p.reshape(-1, dataset.N, dataset.N)[0] for p in (probe.numpy(), dataset.probe))
        overlap = probe_overlap(*strongest)
        if overlap < _UNLIKE:
            found.append(
                f"the probe overlaps by {overlap:.2f} of 1 with the one the network was trained with"
            )
    trained = values.get("data", {}).get("nphotons")
    N, scale = dataset.N, dataset.photon_scale
    photons = (dataset.rms_amplitude * N * scale) ** 2
    if isinstance(trained, int | float) and not 1 / _FACTOR < photons / trained < _FACTOR:
        found.append(
            f"the patterns have {photons:.2g} photons in the mean, those of training had {trained:.2g}:"
            " the network has not seen such noise"
        )
    brightest = bundle.get("brightest")
    if brightest is not None and tuple(brightest.shape) == (N, N):
        share = share_outside(dataset, brightest.numpy())
        if found or share > _OUTSIDE:
            found.append(
                f"{share:.1%} of the amplitude lies in pixels brighter than they ever were in training"
            )
    return found


def share_outside(dataset: PtychoDataset, brightest: np.ndarray) -> float:
    """The share of the amplitude above ``brightest`` (N, N), root mean squares of each dataset being 1."""
    amplitude = dataset.train.amplitude
    some = np.asarray(amplitude[:: max(1, len(amplitude) // _PATTERNS)])
    outside = some > brightest * (dataset.rms_amplitude * 1.001)  # not those that were rounded
    return float(some[outside].sum(dtype=np.float64) / some.sum(dtype=np.float64))


def probe_overlap(first: np.ndarray, second: np.ndarray) -> float:
    """|<P, Q>| of two probes (N, N) of power 1, the largest over shifts: 1 for the same one."""
    cross = np.fft.ifft2(np.fft.fft2(first) * np.fft.fft2(second).conj())
    return float(np.abs(cross).max() / (np.linalg.norm(first) * np.linalg.norm(second) + 1e-30))
