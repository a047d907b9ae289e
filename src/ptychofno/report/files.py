"""Finding and reading the directories of runs that somebody else wrote.

Nothing outside a directory is read (links are refused), nothing without bound (size, depth and
length are limited before a parser sees them), and no message repeats what a file holds.
"""

from __future__ import annotations

import math
import os
import re
import zipfile
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

from ptychofno.display.text import one_line
from ptychofno.runs import artifacts

DEEPEST_FOLDER = 8
LARGEST_ARCHIVE = LARGEST_ARRAY = 256 * 2**20
LARGEST_NUMBER = 1e30
DEEPEST_SETTING = 32
_SET_ASIDE = re.compile(r"-previous-\d+$")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Found(NamedTuple):
    """Directories of runs, and of reconstructions that stand by themselves; what was left out, in words."""

    runs: list[Path]
    reconstructions: list[Path]
    remarks: list[str]


class Unreadable(Exception):
    """A file that is there and cannot be taken; the message says why in a few words."""


def find(paths: Sequence[Path]) -> Found:
    """Those of ``paths`` and of the directories below them that hold a run or a reconstruction.

    Nothing is searched inside a run. Links below ``paths``, hidden directories and runs that were set aside
    are left out. Raises OSError for one of ``paths`` that cannot be listed.
    """
    runs: dict[Path, Path] = {}
    reconstructions: dict[Path, Path] = {}
    links: list[str] = []
    closed: list[str] = []
    aside: list[str] = []

    def cannot_be_listed(error: OSError) -> None:
        if Path(error.filename) in paths:
            raise error
        closed.append(Path(error.filename).name)

    for path in paths:
        for place, folders, names in os.walk(path, onerror=cannot_be_listed):
            folder = Path(place)
            is_run = artifacts.RUN in names or (artifacts.CONFIG in names and artifacts.SOURCE not in names)
            if is_run or artifacts.SOURCE in names:  # resolved, as one of ``paths`` may lie in another
                (runs if is_run else reconstructions).setdefault(folder.resolve(), folder)
                folders.clear()
            elif len(folder.parts) - len(path.parts) >= DEEPEST_FOLDER:
                folders.clear()
            links += [name for name in folders if (folder / name).is_symlink()]
            aside += [name for name in folders if _SET_ASIDE.search(name)]
            folders[:] = sorted(name for name in {*folders} - {*aside} if not name.startswith("."))
    left_out = {
        "links": links,
        "directories that cannot be listed": closed,
        "runs that were set aside": aside,
    }
    remarks = [
        f"{what}, left out: {', '.join(map(one_line, sorted(names)[:5]))}"
        for what, names in left_out.items()
        if names
    ]
    return Found([*runs.values()], [*reconstructions.values()], remarks)


def content(path: Path, limit: int) -> bytes | None:
    """The bytes of a plain file; None where there is none.

    Raises Unreadable, as do all that follow, for a link, a file in a linked folder, anything that is not a
    plain file, one that is too large, and one whose text does not parse.
    """
    folder = None
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY)
        return artifacts.read_bytes(path.name, limit, directory=folder)
    except FileNotFoundError:
        return None
    except ValueError as reason:
        raise Unreadable(str(reason)) from None
    except OSError:
        raise Unreadable("a link, or not readable") from None
    finally:
        if folder is not None:
            os.close(folder)


def record(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object. NaN and infinity, which JSON does not have, become None."""
    text = content(path, artifacts.LARGEST_RECORD)
    try:
        values = {} if text is None else artifacts.parse_json(text)
    except ValueError:
        raise Unreadable("not readable as JSON") from None
    if not isinstance(values, dict):
        raise Unreadable("not a JSON object")
    return values


def settings(path: Path) -> Any:
    """A YAML file of plain values, without anchors and not deeper than a configuration is."""
    try:
        text = (content(path, artifacts.LARGEST_SETTINGS) or b"").decode("utf-8")
        depth = 0
        for event in yaml.parse(text, Loader=_LOADER):  # a loader would expand and recurse first
            opens, closes = yaml.CollectionStartEvent, yaml.CollectionEndEvent
            depth += isinstance(event, opens) - isinstance(event, closes)
            if depth > DEEPEST_SETTING or getattr(event, "anchor", None) is not None:
                raise ValueError("too deep, or with anchors")
        return yaml.load(text, Loader=_LOADER)
    except (ValueError, yaml.YAMLError, RecursionError):
        raise Unreadable("not readable as plain YAML") from None


def archive(path: Path, arrays: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Those of the numeric ``arrays`` that an NPZ file holds."""
    packed = content(path, LARGEST_ARCHIVE)
    if packed is None:
        return {}
    try:
        with zipfile.ZipFile(BytesIO(packed)) as members:
            if any(member.file_size > LARGEST_ARRAY for member in members.infolist()):
                raise ValueError("too large")
        with np.load(BytesIO(packed), allow_pickle=False) as held:
            found = {key: held[key] for key in arrays if key in held.files}
        if any(array.dtype.kind not in "fciu" for array in found.values()):
            raise ValueError("not numbers")
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, ValueError, EOFError, OSError, MemoryError):
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
