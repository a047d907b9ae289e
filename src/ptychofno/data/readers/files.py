"""Opening a file by what is in it: HDF5, NPZ, a single NPY array or a table, plain or compressed."""

from __future__ import annotations

import bz2
import gzip
import os
import tempfile
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from ptychofno.data.readers.hdf5 import Hdf5Source, is_hdf5
from ptychofno.data.readers.source import Lazy, Source, one_line

# What a damaged archive, or a header that tells another shape, may raise.
_UNREADABLE = (
    *(OSError, ValueError, EOFError, MemoryError, SyntaxError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
_BLOCK_BYTES = 2**20
_LARGEST_TABLE_BYTES = 2**26
_EXPECTED = "expected HDF5, NPZ, NPY or a table of numbers, also as .gz or .bz2"
_PICKLED = "pickled objects, which are refused; save a numeric array"
_MEMBER = "array"
"""The key of the only array of a file."""


def existing_file(path: str, setting: str) -> Path:
    """The file that ``setting`` names. Raises ValueError where there is none."""
    file = Path(path).expanduser()
    if file.is_dir():
        raise ValueError(f"{setting}={path}: is a directory; {_EXPECTED}")
    if not file.is_file():
        raise ValueError(f"{setting}={path}: no such file; {_EXPECTED}")
    return file


def open_source(path: str, setting: str) -> Source:
    """The file that ``setting`` names, opened as what it is, whatever its name.

    Raises ValueError with one line for a file that is missing, damaged or of no kind that is read.
    """
    label = f"{setting}={path}"
    try:
        return _opened(existing_file(path, setting), label)
    except OSError as error:
        raise ValueError(f"{label}: cannot be read ({error.strerror or one_line(error)})") from error


def _opened(file: Path, label: str) -> Source:
    with file.open("rb") as opened:
        start = opened.read(512)
    if start.startswith((b"\x1f\x8b", b"BZh")):
        return _decompressed(file, label, bz2.open if start.startswith(b"BZh") else gzip.open)
    if is_hdf5(file):
        return Hdf5Source(file, label)
    if start.startswith(b"\x93NUMPY"):
        return NpySource(file, label)
    if zipfile.is_zipfile(file):
        return NpzSource(file, label)
    if start.startswith(b"PK"):
        raise ValueError(f"{label}: not a readable NPZ file (another archive, or cut short)")
    if start.startswith(b"MATLAB 5"):
        raise ValueError(f"{label}: is a MATLAB file of an older format; save it with '-v7.3'")
    if start.startswith((b"II*\0", b"MM\0*")):
        raise ValueError(f"{label}: is a TIFF image; save the patterns as one .npy or HDF5 array")
    return TableSource(file, label)


def _decompressed(file: Path, label: str, opener: Any) -> Source:
    """What a compressed file holds, in a temporary file that goes with the source."""
    descriptor, name = tempfile.mkstemp(prefix="ptychofno-")
    unpacked = Path(name)
    try:
        packed, size = file.stat().st_size, 0
        with os.fdopen(descriptor, "wb") as out, opener(file, "rb") as content:
            while block := content.read(_BLOCK_BYTES):
                size += len(block)
                if size > 2**28 and size > 500 * packed:
                    raise ValueError(
                        f"{label}: unpacks to over 500 times its size; expected measured numbers"
                    )
                out.write(block)
        source = _opened(unpacked, label)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        unpacked.unlink(missing_ok=True)
        raise ValueError(f"{label}: is cut short or damaged ({one_line(error)})") from error
    except BaseException:
        unpacked.unlink(missing_ok=True)
        raise
    unpacked.unlink()  # what is open stays readable
    return source


class NpzSource(Source):
    """An NPZ archive; its arrays are read whole."""

    kind = "NPZ"

    def __init__(self, file: Path, label: str) -> None:
        super().__init__(label)
        try:
            archive = np.load(file, allow_pickle=False)
        except _UNREADABLE as error:
            raise ValueError(f"{label}: not a readable NPZ file ({one_line(error)})") from error
        self._archive = archive
        self._read: dict[str, np.ndarray] = {}
        self._headers: dict[str, _Header] = {}

    @property
    def keys(self) -> list[str]:
        return list(self._archive.files)

    def lazy(self, key: str) -> Lazy:
        if key not in self._headers:
            self._headers[key] = self._header(key)
        return self._headers[key]

    def close(self) -> None:
        self._archive.close()
        self._read.clear()

    def _header(self, key: str) -> _Header:
        """Shape and type of an array, from the beginning of its member."""
        for member in self._archive.zip.infolist():
            if member.filename.removesuffix(".npy") == key:
                self.require_content(key, member.file_size, member.compress_size)
                try:
                    with self._archive.zip.open(member) as opened:
                        shape, dtype = _npy_header(opened)
                except _UNREADABLE as error:
                    raise self.damaged(key, error) from error
                if dtype.kind == "O":
                    raise ValueError(f"{self.label}: '{key}' holds {_PICKLED}")
                if int(np.prod(shape, dtype=object)) * dtype.itemsize > member.file_size:
                    raise self.damaged(key, ValueError(f"shape {shape} is more than it holds"))
                return _Header(self, key, shape, dtype)
        raise self.missing([key], "data.path")

    def read(self, key: str) -> np.ndarray:
        """The whole array under ``key``, kept for the next slice."""
        if key not in self._read:
            try:
                self._read[key] = np.asarray(self._archive[key])
            except _UNREADABLE as error:
                raise self.damaged(key, error) from error
        return self._read[key]


class _Header:
    """An array of an NPZ file that is read when it is first sliced."""

    def __init__(self, source: NpzSource, key: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape, self.dtype = shape, dtype
        self._source, self._key = source, key

    def __getitem__(self, index: Any) -> Any:
        return self._source.read(self._key)[index]


def _npy_header(opened: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type from the beginning of an NPY file."""
    version = np.lib.format.read_magic(opened)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(opened)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(opened)
    return shape, dtype


class NpySource(Source):
    """A single array, mapped into memory."""

    kind = "NPY"

    def __init__(self, file: Path, label: str) -> None:
        super().__init__(label)
        try:
            with file.open("rb") as opened:
                if _npy_header(opened)[1].kind == "O":
                    raise ValueError(f"it holds {_PICKLED}")
            self._array = np.load(file, mmap_mode="r", allow_pickle=False)
        except _UNREADABLE as error:
            raise ValueError(f"{label}: not a readable NPY file ({one_line(error)})") from error

    @property
    def keys(self) -> list[str]:
        return [_MEMBER]

    def lazy(self, key: str) -> Lazy:
        return self._array

    def close(self) -> None:
        pass


class TableSource(Source):
    """A text file of columns; a line of words above them names the columns."""

    kind = "table of numbers"

    def __init__(self, file: Path, label: str) -> None:
        super().__init__(label)
        if file.stat().st_size > _LARGEST_TABLE_BYTES:
            raise ValueError(f"{label}: {_EXPECTED}")
        try:
            lines = file.read_text("utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise ValueError(f"{label}: {_EXPECTED}; it is another format, or cut short") from None
        rows = [line.replace(",", " ").replace(";", " ").replace("\t", " ").split() for line in lines]
        rows = [row for row in rows if row]
        named = next((row for row in rows if not _numeric(row)), None) if rows else None
        try:
            table = np.array([[float(word) for word in row] for row in rows if _numeric(row)], ndmin=2)
        except ValueError:
            raise ValueError(f"{label}: the rows of the table differ in length") from None
        if not table.size:
            raise ValueError(f"{label}: {_EXPECTED}; it holds no numbers")
        names = [word.strip("#\"'").lower() for word in named or []]
        names = [name for name in names if name]
        self._arrays: dict[str, np.ndarray] = {_MEMBER: table}
        if len(names) == table.shape[1] and len(set(names)) == len(names):
            self._arrays = dict(zip(names, table.T, strict=True))

    @property
    def keys(self) -> list[str]:
        return list(self._arrays)

    def lazy(self, key: str) -> Lazy:
        return self._arrays[key]

    def close(self) -> None:
        pass


def _numeric(row: list[str]) -> bool:
    try:
        [float(word) for word in row]
    except ValueError:
        return False
    return True
