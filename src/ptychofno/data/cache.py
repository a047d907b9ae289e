"""The dataset cache: every distinct dataset is generated once and then shared by all runs.

An entry ``<cache_dir>/<name>-<key>/`` appears in one rename and is verified whenever it is
opened. Reading takes no lock; building does, so that of many processes one builds.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ptychofno.data.dataset import PtychoDataset
from ptychofno.data.entry import CorruptEntry, file_sha256, open_entry, sync_directory, write_entry
from ptychofno.data.measured import read_measured
from ptychofno.data.npz import existing_file
from ptychofno.data.objects import SimulatedData
from ptychofno.data.probe import GivenProbe, ScanProbe
from ptychofno.data.settings import MeasuredData
from ptychofno.data.simulation import check_scan, simulate

GENERATOR_VERSION = 2
"""Part of every key. Raise it whenever the same settings would give other data than before."""

READER_VERSION = 3
"""The same for measured data."""

Data = SimulatedData | MeasuredData
Probe = GivenProbe | ScanProbe

# A log may be shared: it names an entry without the directories, which may come from the environment.
_log = logging.getLogger(__name__)
_KEY_DIGITS = 12
# What says where the data are and how they are used.
_NOT_OF_THE_DATA = ("name", "cache_dir", "batch_size", "drop_last")


class CacheError(ValueError):
    """The cache directory cannot be used as it is; one line that names it and the reason."""


def dataset_key(data: Data, probe: Probe) -> str:
    """What identifies the data that these settings give, 12 hexadecimal digits.

    A hash of every setting marked ``in_key``, of the content instead of the path of files, and
    of the generator version. Raises ValueError for a file that cannot be read.
    """
    return _key_of(_description(data, probe))


def load_dataset(data: Data, probe: Probe) -> PtychoDataset:
    """The dataset of these settings, from the cache or generated into it; arrays are read-only.

    Raises ValueError with one line: settings or files that make no dataset, or (``CacheError``)
    a cache directory that cannot be read or written.
    """
    _check_settings(data, probe)
    description = _description(data, probe)
    key = _key_of(description)
    cache_dir = Path(data.cache_dir).expanduser()
    entry = cache_dir / f"{data.name}-{key}"
    with _named_errors(cache_dir, "cannot read the dataset"):
        try:
            dataset = open_entry(entry, key)
        except CorruptEntry:
            dataset = None  # Perhaps just being replaced; judged again under the lock.
    if dataset is None:
        with _build_lock(entry):
            dataset = _open_or_quarantine(entry, key)
            if dataset is None:
                return _build(entry, _generate(entry, key, data, probe), description)
    _log.info("using cached dataset %s", entry.name)
    return dataset


def _check_settings(data: Data, probe: Probe) -> None:
    """Raise ValueError for what can be refused before anything is read or written."""
    if not re.fullmatch(r"\w[\w.-]*", data.name):
        raise ValueError(
            f"data.name={data.name}: expected the name of a directory: letters, digits, '_', '.', '-', the"
            " first a letter, digit or '_'"
        )
    if isinstance(data, MeasuredData):
        return
    check_scan(data)
    if isinstance(probe, ScanProbe):
        raise ValueError("probe: comes with measured data only; choose another, such as probe=aperture")


# --- key -------------------------------------------------------------------------------------


def _description(data: Data, probe: Probe) -> dict[str, Any]:
    """Everything that the data depend on, and nothing else: neither paths nor how they are used."""
    return {
        "generator_version": _version(data),
        "data": _key_values(data, "data"),
        "probe": _key_values(probe, "probe"),
    }


def _version(data: Data) -> int:
    if isinstance(data, MeasuredData):
        return READER_VERSION
    return GENERATOR_VERSION + (data.gridsize > 1)  # only samples of several patches have changed since


def _key_of(description: dict[str, Any]) -> str:
    canonical = json.dumps(description, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:_KEY_DIGITS]


def _key_values(settings: Any, prefix: str) -> dict[str, Any]:
    """The settings that change the data, as canonical plain values."""
    values: dict[str, Any] = {}
    kind = type(settings)
    if prefix in ("data", "probe"):
        named = "kind" if prefix == "data" else "name"
        values[named] = getattr(kind, named, "") or f"{kind.__module__}.{kind.__qualname__}"
    for field in dataclasses.fields(settings):
        if prefix == "data" and field.name in _NOT_OF_THE_DATA:
            continue
        value = getattr(settings, field.name)
        name = f"{prefix}.{field.name}"
        if field.name == "path":
            values["content_sha256"] = _content_sha256(value, name)
        elif dataclasses.is_dataclass(value):
            values[field.name] = _key_values(value, name)
        else:
            # 1e9 and 1000000000 are the same setting.
            values[field.name] = int(value) if isinstance(value, float) and value.is_integer() else value
    return values


def _content_sha256(path: str, setting: str) -> str:
    file = existing_file(path, setting)
    try:
        return file_sha256(file)
    except OSError as error:
        raise ValueError(f"{setting}={path}: cannot be read ({error.strerror})") from error


# --- building --------------------------------------------------------------------------------


def _build(entry: Path, dataset: PtychoDataset, description: dict[str, Any]) -> PtychoDataset:
    """Write a generated dataset and publish it; the caller holds the lock and there is no entry."""
    partial = _partial_directory(entry)
    with _named_errors(entry.parent, "cannot write the dataset"):
        try:
            if partial.exists():
                shutil.rmtree(partial)
            partial.mkdir()
            write_entry(partial, dataset, description)
            partial.rename(entry)
            sync_directory(entry.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        try:
            published = open_entry(entry, dataset.key)
        except CorruptEntry as reason:
            raise CacheError(
                f"data.cache_dir={entry.parent}: does not give back what was written ({reason})"
            ) from reason
    assert published is not None
    return published


def _generate(entry: Path, key: str, data: Data, probe: Probe) -> PtychoDataset:
    if isinstance(data, MeasuredData):
        _log.info("reading the measured scan into dataset %s", entry.name)
        return read_measured(data, probe, key)
    _log.info("simulating dataset %s", entry.name)
    assert not isinstance(probe, ScanProbe)
    return simulate(data, probe.make(data.N), key)


def _open_or_quarantine(entry: Path, key: str) -> PtychoDataset | None:
    """The entry if it is valid; a corrupt one is named and set aside for inspection."""
    with _named_errors(entry.parent, "cannot set a corrupt dataset aside"):
        try:
            return open_entry(entry, key)
        except CorruptEntry as reason:
            aside = _free_name(entry)
            entry.rename(aside)
            _log.warning(
                "corrupt dataset %s: %s; set aside as %s and built anew", entry.name, reason, aside.name
            )
            return None


def _free_name(entry: Path) -> Path:
    number = 1
    while os.path.lexists(aside := entry.with_name(f"{entry.name}.corrupt-{number}")):
        number += 1
    return aside


def _partial_directory(entry: Path) -> Path:
    """Where an entry grows. One fixed name, as only the holder of the lock uses it: what a killed
    build left there is found by the next."""
    return entry.with_name(f".{entry.name}.partial")


@contextmanager
def _build_lock(entry: Path) -> Iterator[None]:
    """Hold the right to build ``entry``, alone among all processes."""
    lock = FileLock(entry.with_name(f".{entry.name}.lock"))
    with _named_errors(entry.parent, "holds no valid entry for these settings and cannot be written"):
        entry.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            _log.info("waiting for another process that builds dataset %s", entry.name)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _named_errors(cache_dir: Path, problem: str) -> Iterator[None]:
    """Turn an operating-system error into one line that names the cache directory."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise CacheError(
            f"data.cache_dir={cache_dir}: {problem} ({reason}); choose another or make room"
        ) from error
