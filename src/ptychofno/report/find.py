"""Where the runs are below some directories."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ptychofno.report.wording import one_line
from ptychofno.runs import artifacts

DEEPEST = 8
"""Levels of directories that are searched."""
MOST_DIRECTORIES = 50_000
_SET_ASIDE = re.compile(r"-previous-\d+$")


class Found(NamedTuple):
    """Directories of runs, and of reconstructions that stand by themselves; what was left out, in words."""

    runs: list[Path]
    reconstructions: list[Path]
    remarks: list[str]


def find(paths: Sequence[Path]) -> Found:
    """Those of ``paths`` and of the directories below them that hold a run or a reconstruction.

    Nothing is searched inside a run. Links below ``paths``, hidden directories and runs that were set aside
    are left out. Raises OSError for one of ``paths`` that cannot be listed.
    """
    found = Found([], [], [])
    links: list[str] = []
    closed: list[str] = []
    aside = searched = 0

    def cannot_be_listed(error: OSError) -> None:
        if Path(error.filename) in paths:
            raise error
        closed.append(one_line(Path(error.filename).name))

    for path in paths:
        for place, folders, files in os.walk(path, onerror=cannot_be_listed):
            searched += 1
            folder = Path(place)
            if artifacts.RUN in files or (artifacts.CONFIG in files and artifacts.SOURCE not in files):
                found.runs.append(folder)
                folders.clear()
            elif artifacts.SOURCE in files:
                found.reconstructions.append(folder)
                folders.clear()
            elif len(folder.parts) - len(path.parts) >= DEEPEST or searched >= MOST_DIRECTORIES:
                folders.clear()
            links += [one_line(name) for name in sorted(folders) if (folder / name).is_symlink()]
            aside += sum(bool(_SET_ASIDE.search(name)) for name in folders)
            folders[:] = [
                name for name in sorted(folders) if not name.startswith(".") and not _SET_ASIDE.search(name)
            ]
    if links:
        found.remarks.append(f"links are not followed, left out: {', '.join(links[:5])}")
    if closed:
        found.remarks.append(f"directories that cannot be listed, left out: {', '.join(closed[:5])}")
    if searched >= MOST_DIRECTORIES:
        found.remarks.append(f"only the first {MOST_DIRECTORIES} directories were searched")
    if aside:
        found.remarks.append(f"runs that were set aside, left out: {aside} directories named …-previous-N")
    return found
