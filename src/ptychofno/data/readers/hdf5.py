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
_LONGEST_CHAIN = 16  # of links that lead to one another
_MOST_ATTRIBUTES = 100
_BROKEN = (OSError, RuntimeError, ValueError, TypeError, KeyError, MemoryError)


def open_hdf5(file: Path, label: str, stack: ExitStack) -> Source:
    """An HDF5 file. Soft links within it are followed, links to other files are not."""
    try:
        opened = stack.enter_context(h5py.File(file, "r"))
        nodes, elsewhere = _tree(opened)
    except _BROKEN as error:
        raise ValueError(f"{label}: not a readable HDF5 file ({one_line(error)})") from error
    with file.open("rb") as start:
        matlab = start.read(6) == b"MATLAB"
    datasets = {key: node for key, node in sorted(nodes.items()) if isinstance(node, h5py.Dataset)}
    return Source(
        label,
        "MATLAB v7.3" if matlab else "HDF5",
        {key: partial(_Reader, label, key, dataset) for key, dataset in datasets.items()},
        lambda key: _attributes(nodes.get(key)),
        swapped=matlab,
        elsewhere=elsewhere,
    )


Nodes = dict[str, h5py.Group | h5py.Dataset]


def _tree(file: h5py.File) -> tuple[Nodes, dict[str, str]]:
    """Everything in a file by its key, and the links that lead out of it with the files they name."""
    nodes: Nodes = {"": file}
    inside: dict[str, str] = {}
    elsewhere: dict[str, str] = {}

    def walk(group: h5py.Group, prefix: str, above: frozenset[int]) -> None:
        """Collect what is below ``group``; ``above`` are the groups on the way to it."""
        address = h5py.h5o.get_info(group.id).addr
        for name in group if address not in above else ():
            if len(nodes) + len(inside) >= _MOST_NODES:
                return
            key, link = f"{prefix}{name}", group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                elsewhere[key] = link.filename
            elif isinstance(link, h5py.SoftLink):
                inside[key] = posixpath.normpath(posixpath.join(f"/{prefix}", link.path)).strip("/")
            else:
                nodes[key] = group[name]
                if isinstance(nodes[key], h5py.Group):
                    walk(nodes[key], f"{key}/", above | {address})

    walk(file, "", frozenset())
    # What is at and below a target is also at and below the link, unless that is in there itself.
    links = [(key, target) for key, target in inside.items() if not key.startswith(f"{target}/")]
    for _ in range(_LONGEST_CHAIN):
        known = len(nodes)
        for key, target in links:
            if target in nodes and len(nodes) < _MOST_NODES:
                group = isinstance(nodes[target], h5py.Group)
                below = [name for name in nodes if name.startswith(f"{target}/")] if group else []
                nodes |= {key + name.removeprefix(target): nodes[name] for name in (target, *below)}
        if len(nodes) == known:
            break
    return nodes, elsewhere


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
