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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ptychofno.config.schema import DIRECTORY_NAME, MeasuredData, SimulatedData
from ptychofno.data.dataset import PtychoDataset
from ptychofno.data.entry import CorruptEntry, file_sha256, open_entry, sync_directory, write_entry
from ptychofno.data.measured import read_measured
from ptychofno.data.probe import NO_SCAN, GivenProbe, ScanProbe, make_probe
from ptychofno.data.readers.files import existing_file
from ptychofno.data.simulation import check_scan, simulate

GENERATOR_VERSION = 2
"""Part of every key. Raise it whenever the same settings would give other data than before."""

READER_VERSION = 4
"""The same for measured data."""

Data = SimulatedData | MeasuredData
Probe = GivenProbe | ScanProbe

# A log may be shared: it names an entry without the directories, which may come from the environment.
_log = logging.getLogger(__name__)
_KEY_DIGITS = 12


class CacheError(ValueError):
    """The cache directory cannot be used as it is; one line that names it and the reason."""


def dataset_key(data: Data, probe: Probe) -> str:
    """What identifies the data that these settings give, 12 hexadecimal digits.

    A hash of every setting marked ``in_key``, of the content instead of the path of files, and
    of the generator version. Raises ValueError for a file that cannot be read.
    """
    return _key_of(_description(data, probe))


def load_dataset(
    data: Data, probe: Probe, each_block: Callable[[int, int], None] = lambda done, count: None
) -> PtychoDataset:
    """The dataset of these settings, from the cache or generated into it; arrays are read-only.

    ``each_block`` is told how many of how many patterns of a measured scan are read.

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
                return _build(entry, _generate(entry, key, data, probe, each_block), description)
    _log.info("using cached dataset %s", entry.name)
    return dataset


def _check_settings(data: Data, probe: Probe) -> None:
    """Raise ValueError for what can be refused before anything is read or written."""
    if not re.fullmatch(DIRECTORY_NAME.regex, data.name):
        raise ValueError(f"data.name={data.name}: expected {DIRECTORY_NAME.meaning}")
    if isinstance(data, MeasuredData):
        return
    check_scan(data)
    if isinstance(probe, ScanProbe):
        raise ValueError(NO_SCAN)


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
    for field in dataclasses.fields(settings):
        if not field.metadata.get("in_key", True):
            continue
        value = getattr(settings, field.name)
        name = f"{prefix}.{field.name}"
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
        return _sha256_of(file, state.st_ino, state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise ValueError(f"{setting}={path}: cannot be read ({error.strerror})") from error


@lru_cache(maxsize=64)
def _sha256_of(file: Path, *state: int) -> str:
    """The checksum of a file in this state, taken once by a process: large scans take seconds."""
    return file_sha256(file)


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


def _generate(
    entry: Path,
    key: str,
    data: Data,
    probe: Probe,
    each_block: Callable[[int, int], None] = lambda done, count: None,
) -> PtychoDataset:
    if isinstance(data, MeasuredData):
        _log.info("reading the measured scan into dataset %s", entry.name)
        return read_measured(data, probe, key, each_block)
    _log.info("simulating dataset %s", entry.name)
    assert not isinstance(probe, ScanProbe)
    return simulate(data, make_probe(probe, data.N), key)


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
