"""A simulated dataset: objects scanned on a raster, with photon noise.

Shapes: k objects of (H, H) pixels, m scan positions, n samples of C = gridsize**2 patches, N patch size.
Samples share positions; a position is measured once.
Every random draw belongs to a named stream of ``data.seed``, so that changing one split leaves
the objects and the noise sequence of the others as they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy import ndimage

from ptychofno import physics
from ptychofno.data.dataset import PtychoDataset, Split, amplitude_moments
from ptychofno.data.objects import Purpose, SimulatedData, Transmission

_CHUNK_PX = 2**19
"""Diffraction pixels per chunk. Also the unit of a photon-noise stream: changing it changes the data."""

_PHOTON_STREAMS = 3
"""The objects for a purpose come from the random stream of its number, their photons from that plus this."""


@dataclass(frozen=True)
class _Raster:
    """Where every object of a purpose is illuminated."""

    positions_px: np.ndarray
    """int64 (m, 2), each once, row-major"""
    samples: np.ndarray
    """int64 (n, C), the positions of each sample, as an index"""


@dataclass(frozen=True)
class _Scan:
    """Objects and where they are illuminated, before any diffraction."""

    purpose: Purpose
    objects: np.ndarray
    """complex64 (k, H, H)"""
    raster: _Raster


def check_scan(data: SimulatedData) -> None:
    """Raise ValueError, naming the setting, where no raster of patches fits the object."""
    reach = (data.gridsize - 1) * data.offset_px
    needed = data.N + reach
    if data.size < needed:
        extent = f"patches of data.N={data.N} px"
        if reach:
            extent += f" with data.gridsize={data.gridsize}, data.offset_px={data.offset_px}"
        raise ValueError(f"data.size={data.size} cannot hold {extent}; choose data.size >= {needed}")


def simulate(data: SimulatedData, probe: np.ndarray, key: str) -> PtychoDataset:
    """Simulate all the splits of a dataset in memory.

    Args:
        data: the settings.
        probe: illumination, complex64 (N, N), or (M, N, N) of M modes.
        key: identifies the result, see ``dataset_key``.

    Raises ValueError where the settings leave no room for a scan, make no object, or leave no
    photon in the patterns of a split.
    """
    check_scan(data)
    train_raster = _raster(data, data.train_step_px)
    train_drawn = _draw(data, Purpose.TRAIN, data.nimgs_train)
    divisor = _mean_patch_maximum([drawn.amplitude for drawn in train_drawn], train_raster, data.N)

    def scan(purpose: Purpose, drawn: list[Transmission], raster: _Raster) -> _Scan:
        return _Scan(purpose, np.stack([_normalised(one, divisor) for one in drawn]), raster)

    train_scan = scan(Purpose.TRAIN, train_drawn, train_raster)
    validation_raster = _raster(data, data.validation_step_px)
    validation_scan = scan(Purpose.VALIDATION, _draw(data, Purpose.VALIDATION, 1), validation_raster)
    test_raster = _raster(data, data.test_step_px)
    test_scan = scan(Purpose.TEST, _draw(data, Purpose.TEST, data.nimgs_test), test_raster)

    scale = physics.photon_scale(_mean_exit_intensity(train_scan, probe), data.nphotons)
    with _worker_threads() as pool:
        measure = partial(_measure, probe=torch.from_numpy(probe), scale=scale, seed=data.seed, pool=pool)
        train, validation, test = measure(train_scan), measure(validation_scan), measure(test_scan)
    for name, split in (("training", train), ("validation", validation), ("test", test)):
        if not split.amplitude.any():
            raise ValueError(
                f"data.nphotons={data.nphotons:g} leaves no photon in any {name} pattern; choose more"
            )
    mean, mean_square = amplitude_moments(train.amplitude)
    return PtychoDataset(
        name=data.name,
        key=key,
        probe=probe,
        photon_scale=scale,
        mean_amplitude=mean,
        rms_amplitude=mean_square**0.5,
        train=train,
        validation=validation,
        test=test,
        validation_objects=validation_scan.objects,
        test_objects=test_scan.objects,
    )


# --- objects ---------------------------------------------------------------------------------


def _draw(data: SimulatedData, purpose: Purpose, count: int) -> list[Transmission]:
    return [data.draw(purpose, index, _generator(data.seed, purpose, index)) for index in range(count)]


def _mean_patch_maximum(amplitudes: Sequence[np.ndarray], raster: _Raster, N: int) -> float:
    """Mean over all scanned patches of the largest value in the patch; amplitudes (H, H)."""
    rows, cols = raster.positions_px.T
    # The window of the filter is centred; its origin moves it to start at the pixel itself.
    maxima = [ndimage.maximum_filter(each, size=N, origin=-(N // 2))[rows, cols] for each in amplitudes]
    return float(np.mean(maxima))


def _normalised(drawn: Transmission, divisor: float) -> np.ndarray:
    """The object, complex64 (H, H), its amplitude divided by ``divisor``."""
    return (drawn.amplitude / divisor * np.exp(1j * drawn.phase_rad)).astype(np.complex64)


# --- scan ------------------------------------------------------------------------------------


def _sample_positions(data: SimulatedData, step_px: int) -> np.ndarray:
    """Raster positions of the C neighbouring patches of every sample, int64 (n, C, 2).

    The patches of a sample stand ``offset_px`` apart, row-major from its first one.
    """
    reach = (data.gridsize - 1) * data.offset_px
    first = physics.raster_positions(data.size, data.N, step_px, reach).numpy()
    steps = np.arange(data.gridsize) * data.offset_px
    neighbours = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    return first[:, None, :] + neighbours


def _raster(data: SimulatedData, step_px: int) -> _Raster:
    sampled = _sample_positions(data, step_px)
    positions_px, samples = np.unique(sampled.reshape(-1, 2), axis=0, return_inverse=True)
    return _Raster(positions_px, samples.reshape(sampled.shape[:2]))


def _mean_exit_intensity(scan: _Scan, probe: np.ndarray) -> float:
    """sum |P O|^2 per patch and over all modes, averaged over the scan.

    For all positions at once this is the correlation of |O|^2 with |P|^2.
    """
    rows, cols = scan.raster.positions_px.T
    shape = scan.objects.shape[1:]
    illumination = (np.abs(probe.astype(np.complex128)) ** 2).reshape(-1, *probe.shape[-2:]).sum(axis=0)
    illumination_spectrum = np.fft.rfft2(illumination, s=shape).conj()
    intensities = []
    for obj in scan.objects:
        spectrum = np.fft.rfft2(np.abs(obj.astype(np.complex128)) ** 2)
        intensities.append(np.fft.irfft2(spectrum * illumination_spectrum, s=shape)[rows, cols])
    return float(np.mean(intensities))


# --- diffraction and photons -----------------------------------------------------------------


def _measure(scan: _Scan, *, probe: torch.Tensor, scale: float, seed: int, pool: ThreadPoolExecutor) -> Split:
    """Diffract every patch and count photons, X = sqrt(Poisson(s^2 A^2)) / s, once at each position."""
    positions_px, samples = torch.from_numpy(scan.raster.positions_px), scan.raster.samples
    N, count = probe.shape[-1], len(scan.objects)
    amplitude = np.empty((count, len(positions_px), N, N), np.float32)
    chunk = max(1, _CHUNK_PX // (N * N))

    def fill(object_index: int, chunk_index: int) -> None:
        here = slice(chunk_index * chunk, (chunk_index + 1) * chunk)
        obj = torch.from_numpy(scan.objects[object_index])
        patches = physics.extract_patches(obj, positions_px[here], N)
        expected = physics.diffraction_amplitude(patches, probe).numpy().astype(np.float64)
        counts = _generator(seed, _PHOTON_STREAMS + scan.purpose, object_index, chunk_index).poisson(
            np.square(scale * expected)
        )
        amplitude[object_index, here] = np.sqrt(counts) / scale

    jobs = [(obj, index) for obj in range(count) for index in range(-(-len(positions_px) // chunk))]
    for _ in pool.map(fill, *zip(*jobs, strict=True)):
        pass
    return Split(
        amplitude=amplitude[:, samples].reshape(-1, samples.shape[1], N, N),
        positions_px=np.tile(scan.raster.positions_px[samples].astype(np.float64), (count, 1, 1)),
        object_index=np.repeat(np.arange(count, dtype=np.int64), len(samples)),
    )


@contextmanager
def _worker_threads() -> Iterator[ThreadPoolExecutor]:
    """As many workers as torch has threads, each computing on one thread.

    One thread per chunk keeps both cores busy in the photon counting, and makes a chunk's bits
    independent of how many threads there are: torch splits an array over threads, and the
    vectorised and the remaining elements of each part may round differently.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)


def _generator(seed: int, stream: int, *index: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(int(stream), *index)))
