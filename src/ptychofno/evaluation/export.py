"""A reconstruction in files that other programs open: a ptychodus product, CXI, and 16-bit TIFF.

Shapes: object (H, W), probe (N, N) or (M, N, N) of M modes, n positions (row, col) of patches' top-left
pixels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ptychofno.data.dataset import Array, scan_positions
from ptychofno.evaluation.evaluate import Evaluation
from ptychofno.runs.artifacts import write_with

_JOULE_PER_EV = 1.602176634e-19


@dataclass(frozen=True)
class Reconstructed:
    """What is written."""

    name: str
    object: Array
    """complex64 (H, W)"""
    probe: Array
    """complex64 (N, N) or (M, N, N)"""
    positions_px: Array
    """(n, 2)"""
    index: Array
    """Number of each position's pattern in the file it came from, int64 (n,)."""
    pixel_m: float | None
    energy_ev: float | None
    distance_m: float | None
    errors: list[float]
    """Relative error of the patterns after each round."""

    @property
    def positions_m(self) -> Array:
        """(row, col) of the middle of each patch from the middle of the object, metres (n, 2)."""
        assert self.pixel_m is not None
        middle = (np.array(self.object.shape) - self.probe.shape[-1]) / 2
        return (self.positions_px - middle) * self.pixel_m


def write_ptychodus(directory: Path, found: Reconstructed) -> Path:
    """Write ``product.h5`` with the keys of ptychodus' products: x is the column, lengths in metres."""
    path = directory / "product.h5"
    write_with(path, partial(_ptychodus, found))
    return path


def _ptychodus(found: Reconstructed, path: Any) -> None:
    import h5py

    size = {"pixel_height_m": found.pixel_m, "pixel_width_m": found.pixel_m}
    order = np.argsort(found.index)
    metres = found.positions_m[order]
    with h5py.File(path, "w") as file:
        file.attrs["name"] = found.name
        file.attrs["comments"] = "reconstructed by ptychofno"
        file.attrs["detector_object_distance_m"] = found.distance_m or 0.0
        file.attrs["probe_energy_eV"] = found.energy_ev or 0.0
        file.attrs["probe_photon_count"] = float(np.square(np.abs(found.probe)).sum())
        file.attrs["exposure_time_s"] = 0.0
        file["probe_position_indexes"] = found.index[order]
        file["probe_position_x_m"], file["probe_position_y_m"] = metres[:, 1], metres[:, 0]
        file["probe"], file["object"] = _by_modes(found.probe), found.object[None]
        file["probe"].attrs.update(size)
        file["object"].attrs.update({**size, "center_x_m": 0.0, "center_y_m": 0.0})
        file["object_layer_spacing_m"] = np.zeros(0)
        file["loss_epochs"] = np.arange(len(found.errors))
        file["loss_values"] = np.array(found.errors, np.float64)


def _by_modes(probe: Array) -> Array:
    """A probe by coherent and by incoherent modes, (1, M, N, N)."""
    return probe.reshape(1, -1, *probe.shape[-2:])


def write_cxi(directory: Path, found: Reconstructed) -> Path:
    """Write ``reconstruction.cxi``: probe and object as images and translations, laid out as by ptychodus."""
    path = directory / "reconstruction.cxi"
    write_with(path, partial(_cxi, found))
    return path


def _cxi(found: Reconstructed, path: Any) -> None:
    import h5py

    assert found.pixel_m is not None
    order = np.argsort(found.index)
    metres = found.positions_m[order]
    with h5py.File(path, "w") as file:
        file["cxi_version"] = 160
        file["entry_1/title"] = found.name
        images = (("amplitude", _by_modes(found.probe)), ("electron density", found.object[None]))
        for number, (kind, array) in enumerate(images, 1):
            image = file.create_group(f"entry_1/image_{number}")
            image["data"], image["is_fft_shifted"] = array, 0
            image["data_space"], image["data_type"] = "real", kind
            image["image_size"] = [*(side * found.pixel_m for side in array.shape[:-3:-1]), 0.0]
        file["entry_1/ptychodus/probe_position_indexes"] = found.index[order]
        for axis in "xy":
            file[f"entry_1/ptychodus/object_center_{axis}_m"] = 0.0
        source = file.create_group("entry_1/instrument_1/source_1")
        if found.energy_ev is not None:
            source["energy"] = found.energy_ev * _JOULE_PER_EV
        if found.distance_m is not None:
            file["entry_1/instrument_1/detector_1/distance"] = found.distance_m
        # The sample moves against the probe; rows run against y, columns against x.
        file["entry_1/sample_1/geometry_1/translation"] = np.c_[metres[:, ::-1], np.zeros(len(metres))]


def write_tiff(directory: Path, found: Reconstructed) -> Path:
    """Write ``phase.tiff`` and ``amplitude.tiff``, 16 bit; their description tells the scale."""
    import tifffile

    limits = {"phase": (-np.pi, np.pi), "amplitude": (0.0, float(np.abs(found.object).max()) or 1.0)}
    images = {"phase": np.angle(found.object), "amplitude": np.abs(found.object)}
    for name, (low, high) in limits.items():
        whole = np.round((images[name] - low) / (high - low) * 65535).astype(np.uint16)
        told = json.dumps({"black": low, "white": high, "object_pixel_m": found.pixel_m})
        write_with(
            directory / f"{name}.tiff",
            partial(tifffile.imwrite, data=whole, description=told, photometric="minisblack"),
        )
    return directory / "phase.tiff"


FORMATS: dict[str, Callable[[Path, Reconstructed], Path]] = {
    "ptychodus": write_ptychodus,
    "cxi": write_cxi,
    "tiff": write_tiff,
}
"""By the name that ``--format`` takes."""


def write_formats(
    where: Path, formats: Sequence[str], evaluation: Evaluation, data: Any, index: Array
) -> None:
    """Write a measured object into ``where`` in each of ``formats``.

    Args:
        data: the dataset it comes from. index: number of each pattern of its scan in its file, int64 (n,).
    """
    found = Reconstructed(
        name=data.name,
        object=evaluation.prediction,
        probe=data.probe if evaluation.probe is None else evaluation.probe,
        positions_px=scan_positions(data)[:, 0],
        index=index,
        pixel_m=data.object_pixel_m,
        energy_ev=data.energy_ev,
        distance_m=data.distance_m,
        errors=list(evaluation.rounds[0]) if evaluation.rounds else [],
    )
    for name in formats:
        FORMATS[name](where, found)


def check_formats(formats: Sequence[str], pixel_m: float | None, *, measured: bool) -> None:
    """Raise ValueError for what cannot be written, before there is anything to write."""
    for name in formats:
        if not measured:
            raise ValueError(f"--format={name}: is for measured scans; expected data=measured")
        if pixel_m is None and name != "tiff":
            raise ValueError(
                f"--format={name}: lengths are in metres, and the size of an object pixel is not known; type"
                " data.geometry.energy_ev, data.geometry.distance_m and data.geometry.detector_pixel_m"
            )
