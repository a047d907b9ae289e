"""HDF5 files, MATLAB's v7.3 among them, read through h5py."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ptychofno.data.readers.source import Source, damaged, one_line, require_content

_MOST_NODES = 10_000
_MOST_LINKS = 16
_MOST_ATTRIBUTES = 100
_BROKEN = (OSError, RuntimeError, ValueError, TypeError, KeyError, MemoryError)


def open_hdf5(file: Path, label: str, stack: ExitStack) -> Source:
    """An HDF5 file. Soft links within it are followed, links to other files are not."""
    try:
        opened = stack.enter_context(h5py.File(file, "r"))
        tree = _Tree(opened)
    except _BROKEN as error:
        raise ValueError(f"{label}: not a readable HDF5 file ({one_line(error)})") from error
    with file.open("rb") as start:
        matlab = start.read(6) == b"MATLAB"
    datasets = {key: node for key, node in sorted(tree.nodes.items()) if isinstance(node, h5py.Dataset)}
    return Source(
        label,
        "MATLAB v7.3" if matlab else "HDF5",
        {key: partial(_Reader, label, key, dataset) for key, dataset in datasets.items()},
        lambda key: _attributes(tree.nodes.get(key)),
        swapped=matlab,
        elsewhere=tree.elsewhere,
    )


class _Tree:
    """Everything in a file by its key, and the links that lead out of it."""

    def __init__(self, file: h5py.File) -> None:
        self.nodes: dict[str, h5py.Group | h5py.Dataset] = {"": file}
        self.elsewhere: dict[str, str] = {}
        self._soft: dict[str, str] = {}
        self._walk(file, "", frozenset())
        for _ in range(_MOST_LINKS):
            for alias, target in self._soft.items():
                self._follow(alias, target)

    def _walk(self, group: h5py.Group, prefix: str, above: frozenset[int]) -> None:
        """Collect what is below ``group``; ``above`` are the groups on the way to it."""
        address = h5py.h5o.get_info(group.id).addr
        if address in above:
            return
        for name in group:
            if len(self.nodes) >= _MOST_NODES:
                return
            key, link = f"{prefix}{name}", group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                self.elsewhere[key] = link.filename
            elif isinstance(link, h5py.SoftLink):
                self._soft[key] = posixpath.normpath(posixpath.join(f"/{prefix}", link.path)).strip("/")
            else:
                self.nodes[key] = group[name]
                if isinstance(self.nodes[key], h5py.Group):
                    self._walk(self.nodes[key], f"{key}/", above | {address})

    def _follow(self, alias: str, target: str) -> None:
        """Everything at and below ``target`` is also at and below ``alias``, unless that is in there."""
        if alias.startswith(f"{target}/"):
            return
        for key, node in list(self.nodes.items()):
            if f"{key}/".startswith(f"{target}/") and len(self.nodes) < _MOST_NODES:
                self.nodes.setdefault(alias + key.removeprefix(target), node)


class _Reader:
    """A dataset whose failures name file and key."""

    def __init__(self, label: str, key: str, dataset: h5py.Dataset) -> None:
        parts = dataset.virtual_sources() if dataset.is_virtual else ()
        if dataset.external or any(part.file_name != "." for part in parts):
            raise ValueError(f"{label}: '{key}' has its numbers in another file; give that file instead")
        if dataset.shape is None:
            raise ValueError(f"{label}: '{key}' is empty; expected numbers")
        if not dataset.is_virtual:
            size = dataset.size * dataset.dtype.itemsize
            require_content(label, key, size, dataset.id.get_storage_size())
        self.shape, self.dtype = tuple(dataset.shape), dataset.dtype
        self._label, self._key, self._dataset = label, key, dataset

    def __getitem__(self, index: Any) -> Any:
        try:
            return self._dataset[index]
        except _BROKEN as error:
            if "filter" in str(error).lower():
                raise ValueError(
                    f"{self._label}: '{self._key}' is compressed in a way that h5py alone cannot read; pip"
                    " install hdf5plugin and set HDF5_PLUGIN_PATH to its plugins, or save it with gzip"
                ) from error
            raise damaged(self._label, self._key, error) from error


def _attributes(node: h5py.Group | h5py.Dataset | None) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    if node is None:
        return found
    for name in list(node.attrs)[:_MOST_ATTRIBUTES]:
        try:
            value = node.attrs[name]
        except _BROKEN:
            continue
        if isinstance(value, np.ndarray) and value.size == 1:
            value = value.flat[0]
        found[str(name)] = value.decode(errors="replace") if isinstance(value, bytes) else value
    return found
