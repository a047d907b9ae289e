"""A simulated dataset: objects scanned on a raster, with photon noise.

Shapes: k objects of (H, H) pixels, m positions, each measured once, n samples of C = gridsize**2 patches.
Every random draw has its stream of ``data.seed``: to change one split leaves the others as they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor as Pool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ptychofno import physics
from ptychofno.data.dataset import PtychoDataset, Split, amplitude_moments
from ptychofno.data.objects import Purpose, SimulatedData, Transmission

# Diffraction pixels per chunk. Also the unit of a photon-noise stream: changing it changes the data.
_CHUNK_PX = 2**19

# The objects for a purpose come from the random stream of its number, their photons from that plus this.
_PHOTON_STREAMS = 3


@dataclass(frozen=True)
class _Raster:
    """Where every object of a purpose is illuminated."""

    positions_px: np.ndarray  # int64 (m, 2), each once, row-major
    samples: np.ndarray  # int64 (n, C), the positions of each sample, as an index


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
    """Simulate all the splits of a dataset with a probe (N, N) or (M, N, N), complex64.

    Raises ValueError where the settings leave no room for a scan, make no object, or leave no photon.
    """
    check_scan(data)
    steps = (data.train_step_px, data.validation_step_px, data.test_step_px)
    rasters = {purpose: _raster(data, step_px) for purpose, step_px in zip(Purpose, steps, strict=True)}
    counts = (data.nimgs_train, 1, data.nimgs_test)
    drawn = {purpose: _draw(data, purpose, count) for purpose, count in zip(Purpose, counts, strict=True)}
    divisor = _mean_patch_maximum(drawn[Purpose.TRAIN], rasters[Purpose.TRAIN], data.N)
    objects = {purpose: _objects(each, divisor) for purpose, each in drawn.items()}
    intensity = _mean_exit_intensity(objects[Purpose.TRAIN], rasters[Purpose.TRAIN], probe)
    scale = physics.photon_scale(intensity, data.nphotons)
    measure = partial(_measure, probe=torch.from_numpy(probe), scale=scale, seed=data.seed)
    splits = {}
    with _worker_threads() as pool:
        for purpose in Purpose:
            splits[purpose] = measure(purpose, objects[purpose], rasters[purpose], pool=pool)
            if not splits[purpose].amplitude.any():
                split = purpose.name.lower()
                raise ValueError(
                    f"data.nphotons={data.nphotons:g} leaves no photon in the {split} split; choose more"
                )
    mean, mean_square = amplitude_moments(splits[Purpose.TRAIN].amplitude)
    return PtychoDataset(
        name=data.name,
        key=key,
        probe=probe,
        photon_scale=scale,
        mean_amplitude=mean,
        rms_amplitude=mean_square**0.5,
        train=splits[Purpose.TRAIN],
        validation=splits[Purpose.VALIDATION],
        test=splits[Purpose.TEST],
        validation_objects=objects[Purpose.VALIDATION],
        test_objects=objects[Purpose.TEST],
    )


def _draw(data: SimulatedData, purpose: Purpose, count: int) -> list[Transmission]:
    return [data.draw(purpose, index, _generator(data.seed, purpose, index)) for index in range(count)]


def _mean_patch_maximum(drawn: Sequence[Transmission], raster: _Raster, N: int) -> float:
    """Mean over all scanned patches of the largest amplitude in the patch."""
    rows, cols = raster.positions_px.T
    # The window of the filter is centred; its origin moves it to start at the pixel itself.
    maxima = [ndimage.maximum_filter(one.amplitude, N, origin=-(N // 2))[rows, cols] for one in drawn]
    return float(np.mean(maxima))


def _objects(drawn: Sequence[Transmission], divisor: float) -> np.ndarray:
    """complex64 (k, H, H), the amplitude divided by ``divisor``."""
    waves = (one.amplitude / divisor * np.exp(1j * one.phase_rad) for one in drawn)
    return np.stack([wave.astype(np.complex64) for wave in waves])


def _raster(data: SimulatedData, step_px: int) -> _Raster:
    """The patches of a sample stand ``offset_px`` apart, row-major."""
    reach = (data.gridsize - 1) * data.offset_px
    first = physics.raster_positions(data.size, data.N, step_px, reach).numpy()
    neighbours = np.indices((data.gridsize, data.gridsize)).reshape(2, -1).T * data.offset_px
    sampled = first[:, None, :] + neighbours
    positions_px, samples = np.unique(sampled.reshape(-1, 2), axis=0, return_inverse=True)
    return _Raster(positions_px, samples.reshape(sampled.shape[:2]))


def _mean_exit_intensity(objects: np.ndarray, raster: _Raster, probe: np.ndarray) -> float:
    """sum |P O|^2 per patch and over all modes, averaged: from the correlation of |O|^2 with |P|^2."""
    rows, cols = raster.positions_px.T
    shape = objects.shape[1:]
    illumination = (np.abs(probe.astype(np.complex128)) ** 2).reshape(-1, *probe.shape[-2:]).sum(axis=0)
    illumination_spectrum = np.fft.rfft2(illumination, s=shape).conj()
    intensities = []
    for obj in objects:
        spectrum = np.fft.rfft2(np.abs(obj.astype(np.complex128)) ** 2)
        intensities.append(np.fft.irfft2(spectrum * illumination_spectrum, s=shape)[rows, cols])
    return float(np.mean(intensities))


def _measure(
    purpose: Purpose, objects: np.ndarray, raster: _Raster, probe: Tensor, scale: float, seed: int, pool: Pool
) -> Split:
    """Diffract every patch and count photons, X = sqrt(Poisson(s^2 A^2)) / s, once at each position."""
    positions_px, samples = torch.from_numpy(raster.positions_px), raster.samples
    N, count = probe.shape[-1], len(objects)
    amplitude = np.empty((count, len(positions_px), N, N), np.float32)
    chunk = max(1, _CHUNK_PX // (N * N))

    def fill(object_index: int, chunk_index: int) -> None:
        here = slice(chunk_index * chunk, (chunk_index + 1) * chunk)
        patches = physics.extract_patches(torch.from_numpy(objects[object_index]), positions_px[here], N)
        expected = physics.diffraction_amplitude(patches, probe).numpy().astype(np.float64)
        photons = _generator(seed, _PHOTON_STREAMS + purpose, object_index, chunk_index)
        counts = photons.poisson(np.square(scale * expected))
        amplitude[object_index, here] = np.sqrt(counts) / scale

    list(pool.map(fill, *np.indices((count, -(-len(positions_px) // chunk))).reshape(2, -1).tolist()))
    return Split(
        amplitude=amplitude[:, samples].reshape(-1, samples.shape[1], N, N),
        positions_px=np.tile(raster.positions_px[samples].astype(np.float64), (count, 1, 1)),
        object_index=np.repeat(np.arange(count, dtype=np.int64), len(samples)),
    )


@contextmanager
def _worker_threads() -> Iterator[Pool]:
    """As many workers as torch has threads, each on one thread: how many there are changes no bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with Pool(threads) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)


def _generator(seed: int, stream: int, *index: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(int(stream), *index)))
