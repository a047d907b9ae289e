"""What differs between configurations, key by key. Plain nested values in, plain values out."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import yaml

from ptychofno.config.errors import shown
from ptychofno.config.run_dir import NOT_OF_THE_RESULT
from ptychofno.runs import artifacts

LATER = {
    "guard._target_": "ptychofno.training.NoGuard",
    "averaging._target_": "ptychofno.training.NoAveraging",
    "model.output._target_": "ptychofno.models.PatchOutput",
    "model.output._partial_": True,
    "model.neighbours": "channels",
    "init_from": None,
}
"""Settings that earlier runs do not have, and what goes without saying there."""


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted keys: ``{"optimizer": {"lr": 1}}`` is ``{"optimizer.lr": 1}``."""
    if not isinstance(values, Mapping) or not values:
        return {prefix: values} if prefix else {}
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def of_the_result(key: str) -> bool:
    """Whether a dotted key says what is computed, and not only where and how."""
    return key not in NOT_OF_THE_RESULT


def differing(configs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The keys of flat ``configs`` that some lack or that have more than one value, sorted."""
    first, *others = configs.values()
    return [
        key
        for key in sorted({key for config in configs.values() for key in config})
        if any(key not in config for config in configs.values())
        or any(not _same(config[key], first[key]) for config in others)
    ]


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
    earlier = {key: value for key, value in LATER.items() if key in present} | flat(recorded)
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


def _same(one: Any, other: Any) -> bool:
    """Equal, where ``true`` is not 1."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)
