"""A small simulated measurement, and files of it as instruments and other programs write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

N, COUNT = 32, 36
PIXEL_M = 1.2e-8
ENERGY_EV, DISTANCE_M = 8333.0, 1.9
DETECTOR_PIXEL_M = 1.23984198e-6 / ENERGY_EV * DISTANCE_M / (N * PIXEL_M)
"""With which an object pixel is ``PIXEL_M``."""


def simulated() -> dict[str, np.ndarray]:
    """Counts (36, 32, 32) of a 6 x 6 raster with jitter, its positions in px and its probe."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:N, :N] - N // 2
    probe = np.exp(-(x**2 + y**2) / 60 + 1j * (x**2 + y**2) / 40).astype(np.complex64)
    rows, cols = np.mgrid[: N + 40, : N + 40]
    obj = (0.8 + 0.2 * np.sin(cols / 3)) * np.exp(0.8j * np.sin(rows / 4 + cols / 9))
    raster = np.stack(np.meshgrid(np.arange(6) * 6, np.arange(6) * 6, indexing="ij"), -1).reshape(-1, 2)
    positions = raster + rng.integers(0, 3, (COUNT, 2))
    positions -= positions.min(axis=0)
    waves = np.array([probe * obj[r : r + N, c : c + N] for r, c in positions])
    light = np.square(np.abs(np.fft.fftshift(np.fft.fft2(waves, norm="ortho"), axes=(1, 2))))
    counts = rng.poisson(light / light.sum((1, 2)).mean() * 2e5)
    return {"intensity": counts.astype(np.int64), "positions": positions.astype(float), "probe": probe}


def write_npz(path: Path, scan: dict[str, np.ndarray], **changes: Any) -> Path:
    np.savez_compressed(path, **{k: v for k, v in (scan | changes).items() if v is not None})
    return path


def write_hdf5(
    path: Path, arrays: dict[str, Any], attributes: dict[str, dict[str, Any]] | None = None
) -> Path:
    """Arrays by key path, and attributes by the key of what they belong to."""
    with h5py.File(path, "w") as file:
        for key, value in arrays.items():
            file[key] = value
        for key, values in (attributes or {}).items():
            file[key].attrs.update(values)
    return path


def cxi(path: Path, scan: dict[str, np.ndarray], **changes: Any) -> Path:
    detector = "entry_1/instrument_1/detector_1"
    metres = scan["positions"] * PIXEL_M
    arrays = {
        "cxi_version": 160,
        f"{detector}/data": scan["intensity"].astype(np.int32),
        f"{detector}/mask": np.zeros((N, N), np.uint32),
        f"{detector}/distance": DISTANCE_M,
        f"{detector}/x_pixel_size": DETECTOR_PIXEL_M,
        f"{detector}/y_pixel_size": DETECTOR_PIXEL_M,
        "entry_1/instrument_1/source_1/energy": ENERGY_EV * 1.602176634e-19,
        "entry_1/sample_1/geometry_1/translation": np.c_[metres[:, ::-1], np.zeros(COUNT)],
    }
    return write_hdf5(path, arrays | {f"{detector}/{key}": value for key, value in changes.items()})


def ptyd(path: Path, scan: dict[str, np.ndarray]) -> Path:
    half = COUNT // 2
    arrays: dict[str, Any] = {"meta/energy": ENERGY_EV / 1e3, "meta/distance": DISTANCE_M}
    arrays["meta/psize"] = [DETECTOR_PIXEL_M] * 2
    for number, part in enumerate((slice(half), slice(half, COUNT))):
        arrays[f"chunks/{number}/data"] = scan["intensity"][part].astype(np.uint32)
        arrays[f"chunks/{number}/weights"] = np.ones((half, N, N), bool)
        arrays[f"chunks/{number}/positions"] = scan["positions"][part] * PIXEL_M
        arrays[f"chunks/{number}/indices"] = np.arange(COUNT)[part]
    return write_hdf5(path, arrays)


def ptychodus(product: Path, patterns: Path, scan: dict[str, np.ndarray]) -> tuple[Path, Path]:
    """A product that lists positions backwards, and the patterns with their numbers."""
    backwards = np.arange(COUNT)[::-1]
    metres = scan["positions"][backwards] * PIXEL_M
    arrays = {
        "probe_position_indexes": backwards + 5,
        "probe_position_x_m": metres[:, 1],
        "probe_position_y_m": metres[:, 0],
        "probe": scan["probe"][None, None],
        "object": np.ones((1, 70, 70), np.complex64),
    }
    write_hdf5(product, arrays, {"/": {"probe_energy_eV": ENERGY_EV}, "object": {"pixel_height_m": PIXEL_M}})
    write_hdf5(
        patterns,
        {
            "patterns": scan["intensity"].astype(np.uint16),
            "indexes": np.arange(COUNT) + 5,
            "bad_pixels": np.zeros((N, N), bool),
        },
    )
    return product, patterns


def ptylab(path: Path, scan: dict[str, np.ndarray]) -> Path:
    arrays = {
        "ptychogram": scan["intensity"].astype(np.float32),
        "encoder": scan["positions"] * PIXEL_M,
        "wavelength": 1.23984198e-6 / ENERGY_EV,
        "dxd": DETECTOR_PIXEL_M,
        "zo": DISTANCE_M,
        "entrancePupilDiameter": 1e-6,
    }
    return write_hdf5(path, arrays)


def fold_slice(patterns: Path, parameters: Path, scan: dict[str, np.ndarray]) -> tuple[Path, Path]:
    metres = scan["positions"] * PIXEL_M
    structured = np.zeros((N, N), [("real", "f4"), ("imag", "f4")])
    structured["real"], structured["imag"] = scan["probe"].real, scan["probe"].imag
    write_hdf5(patterns, {"dp": scan["intensity"].astype(np.float32)})
    arrays = {"ppX": -metres[:, 1], "ppY": -metres[:, 0], "probe": structured, "dx": PIXEL_M}
    return patterns, write_hdf5(parameters, arrays | {"lambda": 1.23984198e-6 / ENERGY_EV})


def matlab(path: Path, scan: dict[str, np.ndarray]) -> Path:
    """As MATLAB stores column-major arrays (rows, cols, n): every axis the other way."""
    structured = np.zeros((N, N), [("real", "f4"), ("imag", "f4")])
    structured["real"], structured["imag"] = scan["probe"].real.T, scan["probe"].imag.T
    with h5py.File(path, "w", userblock_size=512) as file:
        file["dp"] = scan["intensity"].swapaxes(1, 2).astype(np.uint16)
        file["positions"] = scan["positions"].T
        file["probe"] = structured
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")
    return path
