"""What a run left of its training: its record, its checkpoints, and where it had its data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptychofno.config.errors import ConfigError, one_of
from ptychofno.runs import artifacts
from ptychofno.runs.standing import read_record

if TYPE_CHECKING:
    from ptychofno.config.schema import Config

WHICH = ("best", "last", "judged")


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
        elif part.strip() in WHICH:
            found.append(part.strip())
        else:
            raise ConfigError(f"--checkpoint={part}: {one_of(part, [*WHICH, 'epoch=7'])}")
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
