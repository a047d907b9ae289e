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
from ptychofno.runs.weights import of_model

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
    trained = of_model(model)
    if trained is None or not isinstance(data, MeasuredData):
        return {}
    names = {change.partition("=")[0] for change in typed}
    wanted = {"data.N": trained["size"], "data.gridsize": math.isqrt(trained["patches"])}
    if "data.detector.bin" not in names:
        wanted["data.detector.bin"] = bins_for(data, trained["size"])
    return {name: value for name, value in wanted.items() if name not in names}


def differences(model: Path, values: Mapping[str, Any], dataset: PtychoDataset) -> list[str]:
    """What of a dataset is far from what a network was trained on, a line each.

    Args:
        values: recorded settings of the run that trained it.
    """
    trained, N = of_model(model), dataset.N
    if trained is None:
        return []
    found = []
    if (probe := trained.get("probe")) is not None and probe.shape[-1] == N:
        overlap = probe_overlap(probe.numpy().reshape(-1, N, N)[0], dataset.probe.reshape(-1, N, N)[0])
        if overlap < _UNLIKE:
            found.append(
                f"the probe overlaps by {overlap:.2f} of 1 with the one the network was trained with"
            )
    dose = values.get("data", {}).get("nphotons")
    photons = (dataset.rms_amplitude * N * dataset.photon_scale) ** 2
    if isinstance(dose, int | float) and not 1 / _FACTOR < photons / dose < _FACTOR:
        found.append(
            f"the patterns have {photons:.2g} photons in the mean, those of training had {dose:.2g}:"
            " the network has not seen such noise"
        )
    if (brightest := trained.get("brightest")) is not None and tuple(brightest.shape) == (N, N):
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
