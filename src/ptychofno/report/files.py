"""Reading the files of a directory that somebody else wrote.

Nothing outside the directory is read (links are refused), nothing without bound (size, depth and
length are limited before a parser sees them), and no message repeats what a file holds.
"""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from ptychofno.runs import artifacts

_MIB = 2**20
LARGEST_TABLE = 32 * _MIB
LARGEST_ARCHIVE = 256 * _MIB
LARGEST_ARRAY = 256 * _MIB
LARGEST_NUMBER = 1e30
DEEPEST = 32
_ONLY_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_OF_ZIP = (zipfile.BadZipFile, zlib.error, NotImplementedError)
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Unreadable(Exception):
    """A file that is there and cannot be taken; the message says why in a few words."""


class RunFiles:
    """The files of one directory, opened by name; a context manager.

    Every read gives None for a file that is not there and raises Unreadable for a link, anything that
    is not a plain file, one that is too large, and one whose text does not parse.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._directory = os.open(path, _ONLY_READ | os.O_DIRECTORY)
        except OSError:
            raise Unreadable("not a directory that can be read") from None

    def __enter__(self) -> RunFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._directory)

    def content(self, name: str, limit: int) -> bytes | None:
        """The bytes of ``name``, which may lie in a folder of the directory: ``.hydra/overrides.yaml``."""
        *folders, file = name.split("/")
        held = [self._directory]
        try:
            for folder in folders:
                held.append(os.open(folder, _ONLY_READ | os.O_DIRECTORY, dir_fd=held[-1]))
            return artifacts.read_bytes(file, limit, directory=held[-1])
        except FileNotFoundError:
            return None
        except ValueError as reason:
            raise Unreadable(str(reason)) from None
        except OSError:
            raise Unreadable("a link, or not readable") from None
        finally:
            for descriptor in held[1:]:
                os.close(descriptor)

    def record(self, name: str) -> dict[str, Any] | None:
        """A JSON file that holds an object. NaN and infinity, which JSON does not have, become None."""
        content = self.content(name, artifacts.LARGEST_RECORD)
        if content is None:
            return None
        try:
            values = artifacts.parse_json(content)
        except ValueError:
            raise Unreadable("not readable as JSON") from None
        if not isinstance(values, dict):
            raise Unreadable("not a JSON object")
        return values

    def settings(self, name: str) -> Any:
        """A YAML file of plain values, without anchors and not deeper than a configuration is."""
        content = self.content(name, artifacts.LARGEST_SETTINGS)
        if content is None:
            return None
        try:
            text = content.decode("utf-8")
            _check_shape(text)
            return yaml.load(text, Loader=_LOADER)
        except (ValueError, yaml.YAMLError, RecursionError):
            raise Unreadable("not readable as plain YAML") from None

    def table(self, name: str, column: str) -> NDArray[np.float64] | None:
        """One column of numbers from a CSV file with a line of headings; words in it are refused."""
        content = self.content(name, LARGEST_TABLE)
        if content is None:
            return None
        headings, _, rows = content.partition(b"\n")
        names = headings.decode("utf-8", errors="replace").strip().split(",")
        if column not in names:
            raise Unreadable(f"no column {column}")
        if not rows.strip():
            return np.empty(0)
        try:
            values = np.loadtxt(BytesIO(rows), delimiter=",", usecols=names.index(column), ndmin=1)
            return numbers(values.tolist())
        except ValueError:
            raise Unreadable("not a table of numbers") from None

    def archive(self, name: str, arrays: Sequence[str]) -> dict[str, NDArray[Any]] | None:
        """Those of the numeric ``arrays`` that an NPZ file holds."""
        content = self.content(name, LARGEST_ARCHIVE)
        if content is None:
            return None
        try:
            with zipfile.ZipFile(BytesIO(content)) as members:
                if any(member.file_size > LARGEST_ARRAY for member in members.infolist()):
                    raise ValueError("too large")
            with np.load(BytesIO(content), allow_pickle=False) as held:
                found = {key: held[key] for key in arrays if key in held.files}
            if any(array.dtype.kind not in "fciu" for array in found.values()):
                raise ValueError("not numbers")
        except (*_OF_ZIP, ValueError, EOFError, OSError, MemoryError):
            raise Unreadable("not a readable NPZ file of numbers") from None
        return found


def number(value: Any) -> float:
    """``value`` as a float; NaN for whatever is no finite number, or none that a chart can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    try:
        converted = float(value)
    except OverflowError:
        return math.nan
    size = abs(converted)
    return 0.0 if size < 1 / LARGEST_NUMBER else converted if size <= LARGEST_NUMBER else math.nan


def numbers(values: Any) -> NDArray[np.float64]:
    """A list as numbers, NaN for what is none; empty for anything but a list."""
    return np.array([number(value) for value in values] if isinstance(values, list) else [], dtype=np.float64)


def _check_shape(text: str) -> None:
    """Raise ValueError for anchors and depth, event by event: a loader would expand and recurse first."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST or getattr(event, "anchor", None) is not None:
            raise ValueError("too deep, or with anchors")
