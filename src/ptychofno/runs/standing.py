"""What stands in a directory already: a run of these settings, one of others, or something else."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from ptychofno.config.errors import ConfigError, shown
from ptychofno.runs import artifacts
from ptychofno.runs.comparison import differing, flat, of_the_result
from ptychofno.runs.naming import linked, read

KILLED = "killed"
"""The state of a run that says it is running while no process holds it."""
UNREADABLE = "unreadable"
"""The state of a run whose record is damaged."""


def read_record(run_dir: Path) -> dict[str, Any]:
    """What the run in ``run_dir`` says of itself; empty where there is none.

    Raises ConfigError for a record that is damaged.
    """
    file = run_dir / artifacts.RUN
    try:
        record = artifacts.read_json(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        raise ConfigError(damaged(file)) from None
    if not (isinstance(record, dict) and isinstance(record.get("resumed", 0), int)):
        raise ConfigError(damaged(file))
    return record


def recorded_state(run_dir: Path) -> str:
    """What a directory says of its run: ``new`` where there is none, ``UNREADABLE``, or one of its states."""
    try:
        record = read_record(run_dir)
    except ConfigError:
        return UNREADABLE
    state = str(record.get("state", UNREADABLE if record else "new"))
    return KILLED if state == "running" and not _held(run_dir) else state


def _held(run_dir: Path) -> bool:
    """Whether another process is writing this run."""
    try:
        with FileLock(run_dir / artifacts.LOCK, timeout=0):
            return False
    except Timeout:
        return True


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


def conflict(run_dir: Path, config: str, but: Set[str] = frozenset()) -> str | None:
    """Why the run in ``run_dir`` is not one of ``config`` (YAML); None when it is, ``but`` for some keys."""
    file = run_dir / artifacts.CONFIG
    try:
        earlier = flat(read(file))
    except ConfigError:
        return damaged(file)
    changed = differing({"earlier": earlier, "present": flat(yaml.safe_load(config))})
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
