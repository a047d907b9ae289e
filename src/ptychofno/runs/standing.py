"""What stands in a directory already: a run, of these settings or others, what it left, or something else."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from filelock import FileLock, Timeout

from ptychofno.config.errors import ConfigError, one_of, shown
from ptychofno.runs import artifacts
from ptychofno.runs.comparison import differing, flat, of_the_result
from ptychofno.runs.naming import linked, read

if TYPE_CHECKING:
    from ptychofno.config.schema import Config

KILLED = "killed"
"""The state of a run that says it is running while no process holds it."""
UNREADABLE = "unreadable"
"""The state of a run whose record is damaged."""

_WHICH = ("best", "last", "judged")


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
    if state == "running":
        # Where another process is writing this run, it holds the lock.
        with suppress(Timeout), FileLock(run_dir / artifacts.LOCK, timeout=0):
            return KILLED
    return state


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


# --- what a run left of its training ---------------------------------------------------------


def record_of(run_dir: Path) -> dict[str, Any]:
    """What a run says of itself; nothing where that cannot be read."""
    try:
        return read_record(run_dir)
    except ConfigError:
        return {}


def checkpoints(text: str) -> list[str]:
    """``best,epoch=5,10`` as ``best``, ``epoch=5``, ``epoch=10``. Raises ConfigError for anything else."""
    found: list[str] = []
    for part in text.split(","):
        number = re.fullmatch(r"(epoch=)?0*(\d{1,7})", part.strip(), re.ASCII)
        if number and (number[1] or (found and found[-1].startswith("epoch="))):
            found.append(f"epoch={number[2]}")
        elif part.strip() in _WHICH:
            found.append(part.strip())
        else:
            raise ConfigError(f"--checkpoint={part}: {one_of(part, [*_WHICH, 'epoch=7'])}")
    return found


def weights_of(run_dir: Path, record: Mapping[str, Any], which: str) -> Path | None:
    """The file of a checkpoint; None for the start of training. Raises ConfigError where there is none."""
    files = {
        "judged": run_dir / artifacts.MODEL,
        "best": run_dir / artifacts.BEST_WEIGHTS,
        "last": run_dir / artifacts.LAST_WEIGHTS,
    }
    told = record.get("judged")
    for name in ("best", "last"):
        if isinstance(told, list) and name in told and not files[name].is_file():
            files[name] = files["judged"]
    for path in sorted((run_dir / artifacts.CHECKPOINTS_DIR).glob("*.pt")):
        if (epoch := artifacts.epoch_of(path)) is not None:
            files[f"epoch={epoch}"] = path
    if record.get("state") in ("completed", "collapsed"):
        files.setdefault(f"epoch={record.get('epochs')}", files["last"])
        files.setdefault(f"epoch={record.get('best_epoch')}", files["best"])
    # What a run began with that began with another one's weights is not made anew from its seed.
    start: dict[str, Path | None] = {} if record.get("init_from") else {"epoch=0": None}
    present = start | {name: path for name, path in files.items() if path.is_file()}
    if which not in present:
        raise ConfigError(
            f"{run_dir}: has no checkpoint {which}; expected one of {', '.join(present)}"
            " (trainer.keep_every=1 keeps those of all epochs)"
        )
    return present[which]


def read_where_it_was(plan: Config, key: str, cache_dir: str | None) -> None:
    """Let ``plan`` find dataset ``key`` where a run had it: a directory that a run names is never written."""
    if cache_dir is not None and (Path(cache_dir) / f"{plan.data.name}-{key}").is_dir():
        plan.data.cache_dir = cache_dir
