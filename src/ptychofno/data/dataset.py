"""What a dataset is: diffraction amplitudes, where they were taken, and the probe.

Shapes: n samples, C = gridsize**2 neighbouring patches per sample, N pattern size, (H, W) object.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_MOMENT_CHUNK = 256


@dataclass(frozen=True)
class Split:
    """The samples of one purpose: training, validation or test."""

    amplitude: np.ndarray  # measured X, float32 (n, C, N, N), zero frequency at the centre (N // 2, N // 2)
    positions_px: np.ndarray  # (row, col) of each patch's top-left pixel, object pixels, float64 (n, C, 2)
    object_index: np.ndarray  # which object of the split the sample scans, int64 (n,)

    def __len__(self) -> int:
        return len(self.amplitude)


@dataclass(frozen=True)
class PtychoDataset:
    """Everything training and evaluation know of a scan; the arrays may be read-only memory maps."""

    name: str
    key: str
    probe: np.ndarray  # illumination P, complex64 (N, N), or (M, N, N) of M modes that do not interfere
    photon_scale: float  # s, so that counts = s**2 * X**2
    mean_amplitude: float  # mean of X over the training split
    rms_amplitude: float  # sqrt(mean X**2) over the training split
    train: Split
    validation: Split
    test: Split
    validation_objects: np.ndarray | None = None  # its truth, complex64 (1, H, W); None for measured data
    test_objects: np.ndarray | None = None  # its truth, complex64 (k, H, W); None for measured data
    valid: np.ndarray | None = None  # float32 (N, N), 1 where a detector pixel is valid; None where all are
    given_probe: np.ndarray | None = None  # what ``probe`` was refined from; None where it was not
    object_pixel_m: float | None = None  # size of an object pixel; None where nothing tells it
    energy_ev: float | None = None  # of the photons, where it is known
    distance_m: float | None = None  # from the object to the detector, where it is known
    counts: bool = True  # whether s**2 * X**2 are counts; not of amplitudes in a unit of their own
    dropped: tuple[int, ...] = ()  # numbers of the file's patterns that are dark and left out
    notes: tuple[str, ...] = ()  # what was decided when the scan was read, a line each

    @property
    def N(self) -> int:
        """Pattern and patch size in pixels."""
        return self.probe.shape[-1]

    @property
    def channels(self) -> int:
        """C, patches per sample."""
        return self.train.amplitude.shape[1]

    @property
    def gridsize(self) -> int:
        """g, with C = g * g."""
        return math.isqrt(self.channels)

    def scan(self) -> Split:
        """What is stitched into an object: the test split of a simulation; all patterns of a measured scan,
        those for training, validation and test in turn (copied into memory)."""
        if self.test_objects is not None:
            return self.test
        splits = (self.train, self.validation, self.test)
        parts = ("amplitude", "positions_px", "object_index")
        return Split(*(np.concatenate([getattr(split, part) for split in splits]) for part in parts))


def scan_positions(dataset: PtychoDataset) -> np.ndarray:
    """Positions (n, C, 2) of ``scan()``, which would copy the patterns of a measured one."""
    measured = (dataset.train, dataset.validation, dataset.test)
    splits = measured if dataset.test_objects is None else (dataset.test,)
    return np.concatenate([split.positions_px for split in splits])


def pattern_numbers(dataset: PtychoDataset, held_out_every: int) -> np.ndarray:
    """The number in its file of each pattern of a measured ``scan()``, int64 (n,)."""
    splits = (dataset.train, dataset.validation, dataset.test)
    order = ordered(sum(map(len, splits)) + len(dataset.dropped), held_out_every)
    return order[~np.isin(order, dataset.dropped)]


def ordered(count: int, held_out_every: int) -> np.ndarray:
    """The numbers of all patterns of a measured scan, those for training, validation and test in turn."""
    return np.argsort(split_of(count, held_out_every), kind="stable")


def split_of(count: int, held_out_every: int) -> np.ndarray:
    """Of each pattern of a measured scan its split: 0 training, 1 validation, 2 test."""
    index = np.arange(count) % held_out_every
    return np.where(index == 0, 1, np.where(index == held_out_every // 2, 2, 0))


def amplitude_moments(amplitude: np.ndarray) -> tuple[float, float]:
    """(mean X, mean X**2) of an array (n, …), summed in double precision."""
    total = squares = 0.0
    for start in range(0, len(amplitude), _MOMENT_CHUNK):
        chunk = amplitude[start : start + _MOMENT_CHUNK].astype(np.float64)
        total += float(chunk.sum())
        # Not a dot product: BLAS splits it over threads, and the last bits would follow their number.
        squares += float(np.square(chunk).sum())
    return total / amplitude.size, squares / amplitude.size
