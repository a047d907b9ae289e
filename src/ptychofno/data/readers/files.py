"""Opening a file by what is in it: HDF5, NPZ, a single NPY array or a table, plain or compressed."""

from __future__ import annotations

import bz2
import gzip
import re
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ptychofno.data.readers.hdf5 import open_hdf5
from ptychofno.data.readers.source import Lazy, Source, damaged, one_line, require_content

# What a damaged archive, or a header that tells another shape, may raise.
_UNREADABLE = (
    *(OSError, ValueError, EOFError, MemoryError, SyntaxError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
_BLOCK_BYTES = 2**20
_LARGEST_TABLE_BYTES = 2**26
_EXPECTED = "expected HDF5, NPZ, NPY or a table of numbers, also as .gz or .bz2"
_ONLY_KEY = "array"  # the key of the only array of a file

_REFUSED = {
    b"PK": "not a readable NPZ file (another archive, or cut short)",
    b"MATLAB 5": "is a MATLAB file of an older format; save it with '-v7.3'",
    b"II*\0": "is a TIFF image; save the patterns as one .npy or HDF5 array",
    b"MM\0*": "is a TIFF image; save the patterns as one .npy or HDF5 array",
}
"""By how a file begins."""


def existing_file(path: str, setting: str) -> Path:
    """The file that ``setting`` names. Raises ValueError where there is none."""
    file = Path(path).expanduser()
    if file.is_dir():
        raise ValueError(f"{setting}={path}: is a directory; {_EXPECTED}")
    if not file.is_file():
        raise ValueError(f"{setting}={path}: no such file; {_EXPECTED}")
    return file


@contextmanager
def open_source(path: str, setting: str) -> Iterator[Source]:
    """The file that ``setting`` names, whatever its name. Raises ValueError for one that cannot be read."""
    label = f"{setting}={path}"
    with ExitStack() as stack:
        try:
            source = _opened(existing_file(path, setting), label, stack)
        except OSError as error:
            raise ValueError(f"{label}: cannot be read ({error.strerror or one_line(error)})") from error
        yield source


def _opened(file: Path, label: str, stack: ExitStack) -> Source:
    with file.open("rb") as opened:
        start = opened.read(512)
    if start.startswith((b"\x1f\x8b", b"BZh")):
        return _decompressed(file, label, stack, bz2.open if start.startswith(b"BZh") else gzip.open)
    if h5py.is_hdf5(str(file)):
        return open_hdf5(file, label, stack)
    if start.startswith(b"\x93NUMPY"):
        return _open_npy(file, label)
    if zipfile.is_zipfile(file):
        return _open_npz(file, label, stack)
    for beginning, reason in _REFUSED.items():
        if start.startswith(beginning):
            raise ValueError(f"{label}: {reason}")
    return _open_table(file, label)


def _decompressed(file: Path, label: str, stack: ExitStack, opener: Any) -> Source:
    """What a compressed file holds, in a temporary file whose name goes as soon as it is open."""
    packed, size = file.stat().st_size, 0
    with tempfile.NamedTemporaryFile(prefix="ptychofno-") as out:
        try:
            with opener(file, "rb") as content:
                while block := content.read(_BLOCK_BYTES):
                    size += out.write(block)
                    require_content(label, "content", size, packed)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{label}: is cut short or damaged ({one_line(error)})") from error
        out.flush()
        return _opened(Path(out.name), label, stack)


def _open_npz(file: Path, label: str, stack: ExitStack) -> Source:
    try:
        archive = stack.enter_context(np.load(file, allow_pickle=False))
    except _UNREADABLE as error:
        raise ValueError(f"{label}: not a readable NPZ file ({one_line(error)})") from error
    return Source(label, "NPZ", {key: cache(partial(_Member, archive, label, key)) for key in archive.files})


class _Member:
    """An array of an NPZ archive: shape and type from its header, read whole when it is first sliced."""

    def __init__(self, archive: Any, label: str, key: str) -> None:
        self._archive, self._label, self._key = archive, label, key
        names = archive.zip.namelist()
        member = archive.zip.getinfo(key if key in names else f"{key}.npy")
        require_content(label, key, member.file_size, member.compress_size)
        try:
            with archive.zip.open(member) as opened:
                first = np.lib.format.read_magic(opened) == (1, 0)
                read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
                self.shape, _, self.dtype = read(opened)
        except _UNREADABLE as error:
            raise damaged(label, key, error) from error
        if self.dtype.hasobject:
            raise ValueError(
                f"{label}: '{key}' holds pickled objects, which are refused; save a numeric array"
            )
        if int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize > member.file_size:
            raise damaged(label, key, ValueError(f"shape {self.shape} is more than it holds"))

    @cached_property
    def _values(self) -> np.ndarray:
        try:
            return np.asarray(self._archive[self._key])
        except _UNREADABLE as error:
            raise damaged(self._label, self._key, error) from error

    def __getitem__(self, index: Any) -> Any:
        return self._values[index]


def _open_npy(file: Path, label: str) -> Source:
    """A single array, mapped into memory."""
    try:
        array: Lazy = np.load(file, mmap_mode="r", allow_pickle=False)
    except _UNREADABLE as error:
        raise ValueError(f"{label}: not a readable NPY file ({one_line(error)})") from error
    return Source(label, "NPY", {_ONLY_KEY: lambda: array})


# --- tables ----------------------------------------------------------------------------------

TABLE = "table of numbers"


def _open_table(file: Path, label: str) -> Source:
    """A text file of columns; a line of words above them names the columns."""
    if file.stat().st_size > _LARGEST_TABLE_BYTES:
        raise ValueError(f"{label}: {_EXPECTED}")
    try:
        text = file.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{label}: {_EXPECTED}; it is another format, or cut short") from None
    names: list[str] = []
    rows: list[list[float]] = []
    for line in text.splitlines():
        words = [word for word in re.split(r"[,;\s]+", line) if word]
        try:
            rows += [[float(word) for word in words]] if words else []
        except ValueError:
            names = names or [name for word in words if (name := word.strip("#\"'").lower())]
    if len({len(row) for row in rows}) > 1:
        raise ValueError(f"{label}: the rows of the table differ in length")
    if not rows:
        raise ValueError(f"{label}: {_EXPECTED}; it holds no numbers")
    table = np.array(rows)
    if len(names) != table.shape[1] or len(set(names)) < len(names):
        return Source(label, TABLE, {_ONLY_KEY: lambda: table})
    return Source(label, TABLE, {name: partial(table.T.__getitem__, i) for i, name in enumerate(names)})
