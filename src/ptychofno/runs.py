"""A run's directory: who holds it, what state it is in, and what its ``run.json`` says."""

from __future__ import annotations

import logging
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ptychofno import artifacts
from ptychofno.config.comparison import conflict
from ptychofno.config.errors import ConfigError, Held
from ptychofno.training.interruption import Interrupted

log = logging.getLogger(__name__)

_PACKAGES = ("ptychofno", "torch", "lightning", "hydra-core", "omegaconf", "numpy", "scikit-image")


class Run:
    """The directory of one run and the record in its ``run.json``.

    ``record`` holds plain values; ``update`` changes some and writes the file at once, so that it tells
    the truth whenever the process dies.
    """

    def __init__(self, path: Path, record: dict[str, Any]) -> None:
        self.path, self.record = path, record

    @property
    def finished(self) -> bool:
        """Whether a result is there already."""
        return self.record.get("state") in artifacts.RESULT_STATES

    @property
    def resumable(self) -> bool:
        return (self.path / artifacts.RESUME_CHECKPOINT).exists()

    def update(self, **values: Any) -> None:
        self.record.update(values)
        artifacts.write_json(self.path / artifacts.RUN, self.record)


@contextmanager
def open_run(path: Path, config: str, resume: str) -> Iterator[Run]:
    """Hold ``path`` for one process; on the way out, say how the run ended.

    A finished run is handed out as it is (``Run.finished``); an interrupted one is to be continued.

    Args:
        config: the resolved configuration as YAML, with its result-relevant values only. A directory
            that holds a run of another one is refused.
        resume: ``auto``; or ``never``, which sets an earlier run aside and starts over.

    Raises Held when another process writes the run, ConfigError when its configuration is another one.
    """
    path.mkdir(parents=True, exist_ok=True)
    if resume == "never" and (path / artifacts.RUN).exists():
        set_aside(path)
    lock = FileLock(path / artifacts.LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise Held(f"run_dir={path}: another process is writing this run") from None
    try:
        run = Run(path, _earlier_record(path))
        if run.finished or run.resumable:
            _refuse_other(path, config)
        with _log_file(path / artifacts.TRAIN_LOG):
            yield run
    except Interrupted as stop:
        run.update(state="interrupted", error=str(stop), finished=_now())
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        if not run.finished:
            run.update(state="failed", error=reason, finished=_now())
        raise
    finally:
        lock.release()


def begin(run: Run, **values: Any) -> None:
    """Record that the run is under way: command, place, versions, and ``values``."""
    earlier = {key: run.record[key] for key in ("started", "resumed") if key in run.record}
    resumed = earlier.get("resumed", 0) + 1 if run.resumable else 0
    run.record.clear()
    run.update(
        state="running",
        command=shlex.join(["python", "-m", "ptychofno.train", *sys.argv[1:]]),
        started=earlier["started"] if resumed and "started" in earlier else _now(),
        resumed=resumed,
        pid=os.getpid(),
        versions={"python": platform.python_version(), **_versions()},
        git_commit=_git_commit(),
        **values,
    )


def finish(run: Run, state: str, **values: Any) -> None:
    """Record the result and drop what only an unfinished run needs."""
    run.update(state=state, finished=_now(), **values)
    (run.path / artifacts.RESUME_CHECKPOINT).unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Rename a run directory to a free sibling name and make it anew; nothing is lost."""
    number = 1
    while (aside := path.with_name(f"{path.name}-previous-{number}")).exists():
        number += 1
    path.rename(aside)
    path.mkdir()
    return aside


def _refuse_other(path: Path, config: str) -> None:
    """Raise unless the configuration in ``path`` agrees with ``config`` in all that changes a result."""
    if reason := conflict(path, config):
        raise ConfigError(reason)


def _earlier_record(path: Path) -> dict[str, Any]:
    try:
        return dict(artifacts.read_json(path / artifacts.RUN))
    except FileNotFoundError:
        return {}
    except ValueError:
        raise ConfigError(f"run_dir={path}: its {artifacts.RUN} is not readable; move it away") from None


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    """Let this package log to ``path`` for the length of a run."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    package = logging.getLogger("ptychofno")
    level = package.level
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(level)
        handler.close()


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _git_commit() -> str | None:
    """The commit of this source tree, ``+`` appended when it was changed since; None outside git."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True, timeout=10
        )
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # installed inside another repository?
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--", str(here)) else "")
    except (OSError, subprocess.SubprocessError):
        return None
