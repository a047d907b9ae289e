"""The dataset cache: every distinct dataset is generated once and then shared by all runs.

An entry ``<cache_dir>/<name>-<key>/`` holds ``.npy`` arrays and the manifest that vouches for them. It
appears in one rename and is verified whenever it is opened. Reading takes no lock; building does.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from filelock import FileLock

from ptychofno.data.dataset import PtychoDataset, Split
from ptychofno.data.measured import read_measured
from ptychofno.data.objects import SimulatedData
from ptychofno.data.probe import GivenProbe, Probe, ScanProbe
from ptychofno.data.readers.files import existing_file
from ptychofno.data.settings import DataBase, MeasuredData
from ptychofno.data.simulation import check_scan, simulate
from ptychofno.runs import artifacts

# Part of every key. Raise them whenever the same settings would give other data than before.
GENERATOR_VERSION = 2
READER_VERSION = 5
_MANIFEST = "manifest.json"
_SPLITS = ("train", "validation", "test")

# What says where the data are and how they are used.
_NOT_OF_THE_DATA = {f"data.{name}" for name in ("name", "cache_dir", "batch_size", "drop_last", "thinning")}
_log = logging.getLogger(__name__)  # may be shared: entries are named without their directories


class CacheError(ValueError):
    """The cache directory cannot be used as it is; one line that names it and the reason."""


class _Corrupt(Exception):
    """A directory that is not the whole, unchanged dataset; the message says why."""


def dataset_key(data: DataBase, probe: Probe) -> str:
    """A hash of all that the data depend on. Raises ValueError for a file that cannot be read."""
    return _identity(data, probe)[1]


def load_dataset(
    data: DataBase, probe: Probe, each_block: Callable[[int, int], None] = lambda done, count: None
) -> PtychoDataset:
    """The dataset of these settings, from the cache or generated into it; arrays are read-only.

    ``each_block`` is told how many of how many patterns of a measured scan are read. Raises ValueError with
    one line: settings or files that make no dataset, or (``CacheError``) a directory that cannot be used.
    """
    if isinstance(data, SimulatedData):
        check_scan(data)
        if isinstance(probe, ScanProbe):
            raise ValueError("probe: comes with measured data only; choose another, such as probe=aperture")
    description, key = _identity(data, probe)
    entry = Path(data.cache_dir).expanduser() / f"{data.name}-{key}"
    dataset = None
    # A corrupt entry is perhaps just being replaced; it is judged again under the lock.
    with _named_errors(entry), suppress(_Corrupt):
        dataset = _open(entry, key)
    if dataset is None:
        with _named_errors(entry):
            entry.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(entry.with_name(f".{entry.name}.lock")).acquire()
        with lock:
            with _named_errors(entry):
                dataset = _open_or_quarantine(entry, key)
            if dataset is None:
                generated = _generate(entry.name, key, data, probe, each_block)
                with _named_errors(entry):
                    return _published(entry, generated, description)
    _log.info("using cached dataset %s", entry.name)
    return dataset


def _identity(data: DataBase, probe: Probe) -> tuple[dict[str, Any], str]:
    # Of what is simulated, only samples of several patches have changed since.
    version = READER_VERSION if isinstance(data, MeasuredData) else GENERATOR_VERSION + (data.gridsize > 1)
    settings = {"data": _key_values(data, "data"), "probe": _key_values(probe, "probe")}
    description = {"generator_version": version, **settings}
    return description, _sha256_of_json(description)[:12]


def _key_values(settings: Any, prefix: str) -> dict[str, Any]:
    """The settings that change the data, as canonical plain values."""
    values: dict[str, Any] = {}
    kind = type(settings)
    if named := {"data": "kind", "probe": "name"}.get(prefix):
        values[named] = getattr(kind, named, "") or f"{kind.__module__}.{kind.__qualname__}"
    for field in dataclasses.fields(settings):
        name, value = f"{prefix}.{field.name}", getattr(settings, field.name)
        if name in _NOT_OF_THE_DATA:
            continue
        if field.name == "path":
            values["content_sha256"] = _content_sha256(value, name)
        elif field.name == "also":
            values["also_sha256"] = [_content_sha256(path, name) for path in value]
        elif dataclasses.is_dataclass(value):
            values[field.name] = _key_values(value, name)
        else:
            # 1e9 and 1000000000 are the same setting.
            values[field.name] = int(value) if isinstance(value, float) and value.is_integer() else value
    return values


def _content_sha256(path: str, setting: str) -> str:
    file = existing_file(path, setting)
    try:
        state = file.stat()
        return _sha256_of_state(file, state.st_ino, state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise ValueError(f"{setting}={path}: cannot be read ({error.strerror})") from error


@lru_cache(maxsize=64)
def _sha256_of_state(file: Path, *state: int) -> str:
    """The checksum of a file in this state, taken once by a process: large scans take seconds."""
    return _file_sha256(file)


def _generate(
    name: str, key: str, data: DataBase, probe: Probe, each_block: Callable[[int, int], None]
) -> PtychoDataset:
    if isinstance(data, MeasuredData):
        _log.info("reading the measured scan into dataset %s", name)
        return read_measured(data, probe, key, each_block)
    if isinstance(data, SimulatedData) and isinstance(probe, GivenProbe):
        _log.info("simulating dataset %s", name)
        return simulate(data, probe.make(data.N), key)
    _log.info("making dataset %s", name)  # of a user's own class
    return data.dataset(probe, key)


def _published(entry: Path, dataset: PtychoDataset, description: Mapping[str, Any]) -> PtychoDataset:
    """Write a dataset and let it appear; the caller holds the lock, and there is no entry."""
    # One fixed name, as only the holder of the lock uses it: what a killed build left is found by the next.
    partial = entry.with_name(f".{entry.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        values = dict(vars(dataset))
        for name in _SPLITS:
            values |= {f"{name}_{part}": array for part, array in vars(values.pop(name)).items()}
        arrays = {name: values.pop(name) for name in [*values] if isinstance(values[name], np.ndarray)}
        files = {f"{name}.npy": _write(partial / f"{name}.npy", array) for name, array in arrays.items()}
        manifest = {"name": values.pop("name"), "key": values.pop("key"), **description}
        manifest |= {"scalars": values, "files": files}
        artifacts.write_json(partial / _MANIFEST, {**manifest, "checksum": _sha256_of_json(manifest)})
        partial.rename(entry)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    published = _open(entry, dataset.key)
    assert published is not None
    return published


def _write(path: Path, array: np.ndarray) -> dict[str, Any]:
    """Write one array durably; what the manifest says about it."""
    with path.open("wb") as file:
        # Not to the file itself: on a full disk numpy tells how many items it wrote, not why it stopped.
        np.save(SimpleNamespace(write=file.write), array)
        file.flush()
        os.fsync(file.fileno())
    size, shape = path.stat().st_size, list(array.shape)
    return {"size": size, "sha256": _file_sha256(path), "shape": shape, "dtype": str(array.dtype)}


def _open(entry: Path, key: str) -> PtychoDataset | None:
    """The verified dataset, its arrays memory maps; None if there is none. Raises _Corrupt and OSError."""
    if not os.path.lexists(entry):
        return None
    try:
        manifest = artifacts.read_json(entry / _MANIFEST)
        if not isinstance(manifest, dict) or manifest.pop("checksum", None) != _sha256_of_json(manifest):
            raise _Corrupt(f"{_MANIFEST} fails its checksum")
        if manifest["key"] != key:
            raise _Corrupt(f"{_MANIFEST} is of dataset {manifest['key']} instead of {key}")
        paths = [entry / name for name in manifest["files"]]
        with ThreadPoolExecutor() as pool:
            list(pool.map(_verify, paths, manifest["files"].values()))
        # Not by the threads: of several that read headers at once, Python 3.11's parser trips over one.
        arrays = {path.stem: np.load(path, mmap_mode="r", allow_pickle=False) for path in paths}
        values = manifest["scalars"] | arrays
        values |= {name: tuple(values.get(name, ())) for name in ("notes", "dropped")}
        parts = [field.name for field in dataclasses.fields(Split)]
        for name in _SPLITS:
            values[name] = Split(*(values.pop(f"{name}_{part}") for part in parts))
        return PtychoDataset(name=manifest["name"], key=key, **values)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise _Corrupt(f"{_MANIFEST} or an array is not as written ({error})") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _Corrupt(f"{Path(error.filename or entry).name} is missing") from error


def _verify(path: Path, expected: Mapping[str, Any]) -> None:
    if not path.is_file():  # a pipe would keep a reader waiting for ever
        raise _Corrupt(f"{path.name} is missing or no plain file")
    if _file_sha256(path) != expected["sha256"]:
        raise _Corrupt(f"{path.name} fails its checksum")


def _open_or_quarantine(entry: Path, key: str) -> PtychoDataset | None:
    """The entry if it is valid; a corrupt one is named and set aside for inspection."""
    try:
        return _open(entry, key)
    except _Corrupt as reason:
        names = (entry.with_name(f"{entry.name}.corrupt-{number}") for number in count(1))
        aside = next(name for name in names if not os.path.lexists(name))
        entry.rename(aside)
        _log.warning("corrupt dataset %s: %s; set aside as %s and built anew", entry.name, reason, aside.name)
        return None


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256_of_json(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@contextmanager
def _named_errors(entry: Path) -> Iterator[None]:
    """Turn an operating-system error into one line that names the cache directory."""
    try:
        yield
    except OSError as error:
        reason = f"cannot be used ({error.strerror or error}); choose another or make room"
        raise CacheError(f"data.cache_dir={entry.parent}: {reason}") from error
