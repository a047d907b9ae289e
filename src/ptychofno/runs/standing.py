"""What stands in a directory already: a run of these settings, one of others, or something else."""

from __future__ import annotations

import os
import stat
from collections.abc import Set
from pathlib import Path

import yaml

from ptychofno.config.errors import shown
from ptychofno.runs import artifacts
from ptychofno.runs.comparison import differing, flat, of_the_result


def foreign(run_dir: Path) -> str | None:
    """Why no run is written into ``run_dir``: it has links, or files and no run; None where there is one."""
    try:
        names = {entry.name for entry in run_dir.iterdir()}
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"run_dir={run_dir}: cannot be read: {error.strerror}"
    if artifacts.RUN not in names and not all(artifacts.precedes_a_record(name) for name in names):
        return f"run_dir={run_dir}: is not empty and holds no run; choose another run_dir"
    return linked(run_dir)


def linked(run_dir: Path) -> str | None:
    """What in a run's directory could lead out of it; None when there are only plain files and folders."""
    for folder, folders, files in os.walk(run_dir):
        for name in (*folders, *files):
            kind = (path := Path(folder, name)).lstat().st_mode
            if not (stat.S_ISDIR(kind) or stat.S_ISREG(kind)):
                return f"{path}: is a link or no plain file; a run keeps its own files"
    return None


def conflict(run_dir: Path, config: str, but: Set[str] = frozenset()) -> str | None:
    """Why the run in ``run_dir`` is not one of ``config`` (YAML); None when it is, ``but`` for some keys."""
    file = run_dir / artifacts.CONFIG
    try:
        text = artifacts.read_bytes(file, artifacts.LARGEST_SETTINGS).decode("utf-8")
        recorded = yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return damaged(file)
    if not isinstance(recorded, dict):
        return damaged(file)
    present = flat(yaml.safe_load(config))
    earlier = flat(recorded)
    changed = differing({"earlier": earlier, "present": present})
    keys = [key for key in changed if of_the_result(key) and key not in but]
    if not keys:
        return None
    said = ", ".join(f"{key}={shown(earlier[key]) if key in earlier else 'absent'}" for key in keys[:5])
    return (
        f"run_dir={run_dir}: holds a run with {said}{', …' if len(keys) > 5 else ''}; "
        "choose another run_dir, or resume=never to set it aside"
    )


def damaged(file: Path) -> str:
    """What to say of an earlier run whose ``file`` cannot be read: which one, and the way out."""
    return f"{file}: cannot be read; resume=never sets this run aside and starts over"
