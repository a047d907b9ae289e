"""Three small scans as instruments write them: python docs/example_scans.py [DIRECTORY]

Simulated here: 225 far-field patterns of 64 x 64 pixels, a photograph as amplitude and another as phase.
"""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
from skimage import data
from skimage.transform import resize

N, PHOTONS = 64, 3e5
ENERGY_EV, DISTANCE_M, DETECTOR_PIXEL_M = 8000.0, 2.0, 75e-6
PIXEL_M = 1.23984198e-6 / ENERGY_EV * DISTANCE_M / (N * DETECTOR_PIXEL_M)


def patterns(modes: np.ndarray, places: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Counts (n, N, N) of a probe (m, N, N) at whole pixels (n, 2)."""
    amplitude, phase = (resize(image, (170, 170)) for image in (data.camera(), data.brick()))
    obj = (0.4 + 0.6 * amplitude) * np.exp(1.5j * phase)
    patches = np.stack([obj[row : row + N, col : col + N] for row, col in places])
    far = np.fft.fftshift(np.fft.fft2(modes * patches[:, None]), axes=(-2, -1))
    light = np.square(np.abs(far)).sum(axis=1)
    return rng.poisson(light * (PHOTONS / light.sum(axis=(1, 2)).mean())).astype(np.uint32)


def main(where: Path) -> None:
    rng = np.random.default_rng(0)
    raster = np.stack(np.meshgrid(*[np.arange(15) * 7] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
    places = raster + rng.integers(0, 3, raster.shape)
    y, x = np.mgrid[:N, :N] - N // 2
    square = x**2 + y**2
    probe = np.exp(-square / 160 + 0.012j * square)
    counts = patterns(probe[None], places, rng)

    # Arrays by their names; no probe.
    np.savez_compressed(where / "scan.npz", reciprocal=counts, position=places.astype(float))

    # Arrays by their paths: partially coherent light, a detector with a gap whose middle is not that of the
    # light, positions in micrometres.
    frames = np.pad(patterns(np.stack([probe, 0.1 * x * probe]), places, rng), ((0, 0), (16, 8), (10, 14)))
    frames[:, 30:32] = 2**32 - 1
    with h5py.File(where / "beamline.h5", "w") as file:
        file.create_dataset("entry/detector/frames", data=frames, compression="gzip")
        for axis, name in enumerate(("entry/motors/down", "entry/motors/right")):
            file[name] = places[:, axis] * PIXEL_M * 1e6

    # CXI: mask, geometry, two frames with a closed shutter, and an estimate of the probe that is wrong.
    counts[[40, 41]] = 0
    mask = np.zeros((N, N), np.uint32)
    mask[20, 30:] = 1
    counts[:, mask > 0] = 7777
    with h5py.File(where / "scan.cxi", "w") as file:
        detector = file.create_group("entry_1/instrument_1/detector_1")
        detector["data"], detector["mask"], detector["distance"] = counts, mask, DISTANCE_M
        detector["x_pixel_size"] = detector["y_pixel_size"] = DETECTOR_PIXEL_M
        source = file.create_group("entry_1/instrument_1/source_1")
        source["energy"] = ENERGY_EV * 1.602176634e-19
        source["probe"] = np.exp(-square / 120 + 0.008j * square).astype(np.complex64)
        metres = np.c_[places[:, ::-1] * PIXEL_M, np.zeros(len(places))]
        file["entry_1/sample_1/geometry_1/translation"] = metres


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
