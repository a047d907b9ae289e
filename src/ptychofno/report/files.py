"""Finding and reading the directories of runs that somebody else wrote.

Nothing outside a directory is read (links are refused), nothing without bound (size, depth and
length are limited before a parser sees them), and no message repeats what a file holds.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from ptychofno.display.text import one_line
from ptychofno.runs import artifacts

LARGEST_PICTURE = 16 * 2**20
MOST_PIXELS = 2**25
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


def picture(path: Path, side_px: int) -> bytes | None:
    """A PNG file drawn anew as a JPEG of at most ``side_px`` pixels a side; None where there is none."""
    packed = content(path, LARGEST_PICTURE)
    if packed is None:
        return None
    drawn = BytesIO()
    try:
        with Image.open(BytesIO(packed), formats=["PNG"]) as found:
            if found.width * found.height > MOST_PIXELS:
                raise ValueError("too large")
            smaller = found.convert("RGB")
        smaller.thumbnail((side_px, side_px))
        smaller.save(drawn, "JPEG", quality=90)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise Unreadable("not a readable PNG file") from None
    return drawn.getvalue()


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
