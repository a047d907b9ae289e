"""HDF5 files, MATLAB's v7.3 among them, read through h5py."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ptychofno.data.readers.source import Lazy, Source, one_line

_MOST_ARRAYS = 10_000
_MOST_LINKS = 16


class Hdf5Source(Source):
    """An HDF5 file. Soft links within it are followed, links to other files are not."""

    kind = "HDF5"

    def __init__(self, file: Path, label: str) -> None:
        super().__init__(label)
        try:
            self._file = h5py.File(file, "r")
        except (OSError, ValueError, RuntimeError) as error:
            raise ValueError(f"{label}: not a readable HDF5 file ({one_line(error)})") from error
        with file.open("rb") as opened:
            self.swapped = opened.read(6) == b"MATLAB"
        if self.swapped:
            self.kind = "MATLAB v7.3"
        self.elsewhere: dict[str, str] = {}
        """Keys that link to another file, and which."""
        self._found: dict[str, h5py.Dataset] = {}
        self._groups = 0
        try:
            self._walk(self._file, "", set())
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            self._file.close()
            raise ValueError(f"{label}: not a readable HDF5 file ({one_line(error)})") from error

    @property
    def keys(self) -> list[str]:
        return list(self._found)

    def lazy(self, key: str) -> Lazy:
        dataset = self._found[key]
        parts = dataset.virtual_sources() if dataset.is_virtual else ()
        if dataset.external or any(part.file_name != "." for part in parts):
            raise ValueError(f"{self.label}: '{key}' has its numbers in another file; give that file instead")
        if dataset.shape is None:
            raise ValueError(f"{self.label}: '{key}' is empty; expected numbers")
        size = dataset.size * dataset.dtype.itemsize
        if not dataset.is_virtual:
            self.require_content(key, size, dataset.id.get_storage_size())
        return _Reader(self, key, dataset)

    def attributes(self, key: str) -> Mapping[str, Any]:
        node = self._found.get(key)
        if node is None:
            node = self._node(key)
        found: dict[str, Any] = {}
        for name in list(node.attrs)[:100] if node is not None else []:
            try:
                value = node.attrs[name]
            except (OSError, TypeError, ValueError, RuntimeError):
                continue
            if isinstance(value, bytes):
                value = value.decode(errors="replace")
            if isinstance(value, np.ndarray) and value.size == 1:
                value = value.reshape(())[()]
            found[str(name)] = value
        return found

    def close(self) -> None:
        self._file.close()

    def missing(self, keys: list[str], setting: str) -> ValueError:
        for key in keys:
            if key in self.elsewhere:
                return ValueError(
                    f"{self.label}: '{key}' links to another file, '{self.elsewhere[key]}', which is not"
                    f" followed; give that file as data.path or in data.also"
                )
        return super().missing(keys, setting)

    # --- links -------------------------------------------------------------------------------

    def _walk(self, group: h5py.Group, prefix: str, above: set[Any]) -> None:
        """Collect the datasets below ``group``; ``above`` are the groups on the way to it."""
        place = (h5py.h5o.get_info(group.id).fileno, h5py.h5o.get_info(group.id).addr)
        self._groups += 1
        if place in above or self._groups > _MOST_ARRAYS:
            return
        for name in group:
            if len(self._found) >= _MOST_ARRAYS:
                return
            key = f"{prefix}{name}"
            node = self._node(key)
            if isinstance(node, h5py.Dataset):
                self._found[key] = node
            elif isinstance(node, h5py.Group):
                self._walk(node, f"{key}/", above | {place})

    def _node(self, key: str, followed: int = 0) -> Any:
        """The object under ``key``, reached without leaving the file; None where there is none."""
        node: Any = self._file
        parts = [part for part in key.split("/") if part not in ("", ".")]
        for number, name in enumerate(parts):
            if not isinstance(node, h5py.Group) or name not in node:
                link = node.get(name, getlink=True) if isinstance(node, h5py.Group) else None
                if isinstance(link, h5py.ExternalLink):
                    self.elsewhere[key] = link.filename
                return None
            link = node.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                self.elsewhere[key] = link.filename
                return None
            if isinstance(link, h5py.SoftLink):
                if followed >= _MOST_LINKS:
                    return None
                target = link.path if link.path.startswith("/") else "/".join([*parts[:number], link.path])
                node = self._node(target, followed + 1)
            else:
                node = node[name]
        return node


class _Reader:
    """A dataset whose failures name file and key."""

    def __init__(self, source: Hdf5Source, key: str, dataset: h5py.Dataset) -> None:
        self.shape, self.dtype = tuple(dataset.shape), dataset.dtype
        self._source, self._key, self._dataset = source, key, dataset

    def __getitem__(self, index: Any) -> Any:
        try:
            return self._dataset[index]
        except (OSError, RuntimeError, ValueError, TypeError, MemoryError) as error:
            if "filter" in str(error).lower():
                raise ValueError(
                    f"{self._source.label}: '{self._key}' is compressed in a way that h5py alone cannot read;"
                    " pip install hdf5plugin and set HDF5_PLUGIN_PATH to its plugins, or save it with gzip"
                ) from error
            raise self._source.damaged(self._key, error) from error


def is_hdf5(file: Path) -> bool:
    """Whether a file is HDF5, also behind a user block."""
    return bool(h5py.is_hdf5(os.fspath(file)))
