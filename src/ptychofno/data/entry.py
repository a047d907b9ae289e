"""One dataset on disk: a directory of ``.npy`` arrays and the manifest that vouches for them.

The manifest is written last and names size, checksum, shape and type of every array, and its
own checksum, so that a directory either proves to be whole or is corrupt.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ptychofno.data.dataset import PtychoDataset, Split
from ptychofno.runs import artifacts

MANIFEST = "manifest.json"

_SPLITS = ("train", "validation", "test")
_SPLIT_ARRAYS = ("amplitude", "positions_px", "object_index")
_OPTIONAL = ("validation_objects", "test_objects", "valid", "given_probe")
_GEOMETRY = ("object_pixel_m", "energy_ev", "distance_m")
_SCALARS = ("photon_scale", "mean_amplitude", "rms_amplitude")
_BLOCK_BYTES = 2**20


class CorruptEntry(Exception):
    """A directory that is not the whole, unchanged dataset; the message says why."""


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    block = bytearray(_BLOCK_BYTES)
    view = memoryview(block)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            digest.update(view[:count])
    return digest.hexdigest()


def write_entry(directory: Path, dataset: PtychoDataset, description: Mapping[str, Any]) -> None:
    """Write a dataset into an empty directory and flush it to the disk.

    ``description`` (generator version, settings) is kept in the manifest. Raises OSError.
    """
    arrays = _arrays_of(dataset)
    with ThreadPoolExecutor() as pool:
        writing = {name: pool.submit(_write_array, directory / name, array) for name, array in arrays.items()}
        files = {name: future.result() for name, future in writing.items()}
    manifest = {
        "name": dataset.name,
        "key": dataset.key,
        **description,
        "scalars": {name: getattr(dataset, name) for name in _SCALARS},
        "geometry": {name: getattr(dataset, name) for name in _GEOMETRY},
        "notes": list(dataset.notes),
        "files": files,
    }
    artifacts.write_json(directory / MANIFEST, {**manifest, "checksum": _manifest_checksum(manifest)})
    sync_directory(directory)


def open_entry(directory: Path, key: str) -> PtychoDataset | None:
    """The verified dataset in ``directory``, its arrays read-only memory maps; None if there is none.

    Raises:
        CorruptEntry: anything is missing, changed, or of another dataset than ``key``.
        OSError: the files cannot be read, which says nothing about their content.
    """
    if not os.path.lexists(directory):
        return None
    try:
        manifest = _read_manifest(directory, key)
        files = manifest["files"]
        with ThreadPoolExecutor() as pool:
            opened = pool.map(lambda name: _open_array(directory / name, files[name]), files)
            arrays = dict(zip(files, opened, strict=True))
        return _dataset_from(arrays, manifest)
    except (AttributeError, KeyError, TypeError, ValueError, SyntaxError) as error:
        raise CorruptEntry(f"{MANIFEST} or an array is not as written: {error}") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CorruptEntry(f"{Path(error.filename or directory).name} is missing") from error


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- arrays ----------------------------------------------------------------------------------


def _write_array(path: Path, array: np.ndarray) -> dict[str, Any]:
    """Write one ``.npy`` file durably; what the manifest says about it.

    The checksum is of the bytes in memory, so that a disk that loses some is found out. Not
    ``numpy.save``: on a full disk it reports how many items it wrote, not why it stopped.
    """
    array = np.ascontiguousarray(array)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    digest = hashlib.sha256(header.getvalue())
    content = array.reshape(-1).view(np.uint8).data
    digest.update(content)
    with path.open("wb") as file:
        file.write(header.getvalue())
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return {
        "size": len(header.getvalue()) + len(content),
        "sha256": digest.hexdigest(),
        "shape": list(array.shape),
        "dtype": str(array.dtype),
    }


def _open_array(path: Path, expected: Mapping[str, Any]) -> np.ndarray:
    if not path.is_file():  # a pipe would keep a reader waiting for ever
        raise CorruptEntry(f"{path.name} is missing or no plain file")
    size = path.stat().st_size
    if size != expected["size"]:
        raise CorruptEntry(f"{path.name} has {size} bytes instead of {expected['size']}")
    if file_sha256(path) != expected["sha256"]:
        raise CorruptEntry(f"{path.name} fails its checksum")
    array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    if list(array.shape) != expected["shape"] or str(array.dtype) != expected["dtype"]:
        raise CorruptEntry(f"{path.name} is {array.dtype} {array.shape}, unlike its manifest")
    return array


def _arrays_of(dataset: PtychoDataset) -> dict[str, np.ndarray]:
    """The arrays of a dataset under their file names."""
    arrays = {"probe.npy": dataset.probe}
    for split in _SPLITS:
        for array in _SPLIT_ARRAYS:
            arrays[f"{split}_{array}.npy"] = getattr(getattr(dataset, split), array)
    for name in _OPTIONAL:
        if (array := getattr(dataset, name)) is not None:
            arrays[f"{name}.npy"] = array
    return arrays


def _dataset_from(arrays: Mapping[str, np.ndarray], manifest: Mapping[str, Any]) -> PtychoDataset:
    def split(name: str) -> Split:
        return Split(**{array: arrays[f"{name}_{array}.npy"] for array in _SPLIT_ARRAYS})

    scalars: dict[str, Any] = {scalar: float(manifest["scalars"][scalar]) for scalar in _SCALARS}
    optional: dict[str, Any] = {name: arrays.get(f"{name}.npy") for name in _OPTIONAL}
    dataset = PtychoDataset(
        name=manifest["name"],
        key=manifest["key"],
        probe=arrays["probe.npy"],
        **scalars,
        train=split("train"),
        validation=split("validation"),
        test=split("test"),
        notes=tuple(manifest.get("notes", ())),
        **manifest.get("geometry", {}),
        **optional,
    )
    _check_shapes(dataset)
    return dataset


def _check_shapes(dataset: PtychoDataset) -> None:
    for name in _SPLITS:
        split: Split = getattr(dataset, name)
        expected = (len(split), dataset.channels, dataset.N, dataset.N)
        if split.amplitude.shape != expected:
            raise CorruptEntry(
                f"{name}_amplitude.npy has shape {split.amplitude.shape} instead of {expected}"
            )
        if split.positions_px.shape != (len(split), dataset.channels, 2):
            raise CorruptEntry(f"{name}_positions_px.npy has shape {split.positions_px.shape}")
        if split.object_index.shape != (len(split),):
            raise CorruptEntry(f"{name}_object_index.npy has shape {split.object_index.shape}")


# --- manifest --------------------------------------------------------------------------------


def _read_manifest(directory: Path, key: str) -> dict[str, Any]:
    try:
        manifest = artifacts.read_json(directory / MANIFEST)
    except ValueError as error:
        raise CorruptEntry(f"{MANIFEST} is not JSON ({error})") from error
    if not isinstance(manifest, dict) or manifest.pop("checksum", None) != _manifest_checksum(manifest):
        raise CorruptEntry(f"{MANIFEST} fails its checksum")
    if manifest.get("key") != key:
        raise CorruptEntry(f"{MANIFEST} is of dataset {manifest.get('key')} instead of {key}")
    return manifest


def _manifest_checksum(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
