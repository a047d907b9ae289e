"""A run's directory: who holds it, what state it is in, and what its ``run.json`` says."""

from __future__ import annotations

import errno
import logging
import math
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ptychofno.config.errors import ConfigError, Held
from ptychofno.runs import artifacts
from ptychofno.runs.standing import conflict, damaged, foreign, read_record
from ptychofno.training.interruption import Interrupted

_PACKAGES = ("ptychofno", "torch", "lightning", "hydra-core", "omegaconf", "numpy", "scikit-image")

# What a person mends by making room or changing permissions.
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES}


class Run:
    """The directory of one run and the record in its ``run.json``, empty where there is none yet.

    ``update`` writes the file at once: it tells the truth whenever the process dies. ``epochs`` are those
    that it is to have now; ``aside`` is where an earlier run is kept. Raises ConfigError for a damaged
    record.
    """

    def __init__(self, path: Path, epochs: int = 0, aside: Path | None = None) -> None:
        self.path, self.epochs, self.aside = path, epochs, aside
        self.record = read_record(path)

    @property
    def finished(self) -> bool:
        """Whether a result is there already, and not to be trained further."""
        return self.has_result and not self.longer

    @property
    def has_result(self) -> bool:
        return self.record.get("state") in artifacts.RESULT_STATES

    @property
    def longer(self) -> bool:
        """Whether more epochs are asked for than it was to have, and it can have them."""
        earlier = self.record.get("epochs")
        return isinstance(earlier, int) and earlier < self.epochs and self.record.get("state") != "diverged"

    @property
    def resumable(self) -> bool:
        return (self.path / artifacts.RESUME_CHECKPOINT).exists()

    def update(self, **values: Any) -> None:
        self.record.update(values)
        artifacts.write_json(self.path / artifacts.RUN, self.record)


@contextmanager
def open_run(path: Path, config: str, resume: str, epochs: int = 0) -> Iterator[Run]:
    """Hold ``path`` for one process; on the way out, say how the run ended.

    A finished run is handed out as it is. ``config`` is the resolved configuration as YAML. ``resume=never``
    sets an earlier run aside. Raises Held when another process writes the run; ConfigError when its
    configuration is another one, its files are damaged, or the directory cannot be written.
    """
    if reason := foreign(path):
        raise ConfigError(reason)
    if resume != "never" and (run := Run(path, epochs)).finished:
        _refuse_conflict(run, config)
        try:
            yield run  # nothing is written: it may be on a disk that is only read
        except ConfigError:
            raise
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise ConfigError(damaged(path)) from error  # its record lacks what is to be shown
        return
    lock, aside = _hold(path), None
    try:
        if resume == "never" and (path / artifacts.RUN).exists():
            aside = _set_aside(path)
            lock.release()
            lock = _hold(path)
        artifacts.sweep(path)
        run = Run(path, epochs, aside)
        if run.has_result or run.resumable:
            _refuse_conflict(run, config)
        with _log_file(path / artifacts.TRAIN_LOG), _end_recorded(run):
            yield run
    finally:
        lock.release()


def _hold(path: Path) -> FileLock:
    lock = FileLock(path / artifacts.LOCK)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise Held(f"run_dir={path}: another process is writing this run") from None
    except OSError as error:
        raise ConfigError(f"run_dir={path}: cannot be written: {error.strerror}") from None
    return lock


def _set_aside(path: Path) -> Path:
    """Rename a run directory to a free sibling name and make it anew; nothing is lost."""
    if Path.cwd().is_relative_to(path.resolve()):
        raise ConfigError(f"run_dir={path}: is where you are; resume=never renames it, start from elsewhere")
    number = 1
    while (aside := path.with_name(f"{path.name}-previous-{number}")).exists():
        number += 1
    path.rename(aside)
    path.mkdir(exist_ok=True)
    return aside


def _refuse_conflict(run: Run, config: str) -> None:
    if reason := conflict(run.path, config, {"trainer.max_epochs"} if run.longer else frozenset()):
        raise ConfigError(reason)
    if run.has_result and not (run.finished or run.resumable):
        raise ConfigError(
            f"run_dir={run.path}: is finished after {run.record['epochs']} epochs and kept no "
            f"{artifacts.RESUME_CHECKPOINT} to go on from; choose another run_dir, or resume=never to set it "
            "aside"
        )


@contextmanager
def _end_recorded(run: Run) -> Iterator[None]:
    """Record why a run ends without a result."""

    def record(state: str, reason: str) -> None:
        if not run.has_result:
            # On a full disk the record stays "running"; the next start sees that nobody holds the run.
            with suppress(OSError):
                run.update(state=state, error=reason, finished=_now())

    try:
        yield
    except (Interrupted, BrokenPipeError) as stop:
        record("interrupted", str(stop) or "nobody reads the output any more")
        raise
    except OSError as error:
        record("failed", str(error))
        if error.errno not in _DISK:
            raise
        where = error.filename or run.path
        raise ConfigError(f"{where}: {error.strerror}; the same command goes on from here") from error
    except BaseException as error:
        record("failed", f"{type(error).__name__}: {error}".splitlines()[0])
        if isinstance(error, SystemExit):  # of a user's class; it would look like success
            raise RuntimeError(f"sys.exit({error.code!r}) was called within the run") from error
        raise


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    """Let this package log to ``path`` for the length of a run, and its warnings to stderr."""
    file, terminal = logging.FileHandler(path, encoding="utf-8"), logging.StreamHandler()
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    terminal.setLevel(logging.WARNING)
    package = logging.getLogger("ptychofno")
    level = package.level
    package.addHandler(file)
    package.addHandler(terminal)
    package.setLevel(logging.INFO)
    try:
        yield
    finally:
        package.removeHandler(file)
        package.removeHandler(terminal)
        package.setLevel(level)
        file.close()


def begin(run: Run, *, resume: bool, dataset_key: str, **values: Any) -> None:
    """Record that the run is under way: command, place, versions, and ``values``.

    With ``resume``, training goes on from a checkpoint.
    """
    earlier = dict(run.record) if resume else {}
    if not resume:
        (run.path / artifacts.RESUME_CHECKPOINT).unlink(missing_ok=True)  # nobody may go on from it later
    elif run.longer:
        earlier["epochs_before"] = [*earlier.get("epochs_before", []), earlier["epochs"]]
    run.record.clear()
    run.update(
        state="running",
        command=shlex.join(
            ["python", "-m", "ptychofno.train", *map(artifacts.without_secrets, sys.argv[1:])]
        ),
        started=earlier.get("started") if resume else _now(),
        resumed=earlier.get("resumed", 0) + 1 if resume else 0,
        **{key: earlier[key] for key in ("epochs_before", "init_from", "judged") if key in earlier},
        pid=os.getpid(),
        versions={"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        **_source_version(),
        dataset_key=dataset_key,
        **values,
    )


def refuse_other_data(run: Run, dataset_key: str) -> None:
    """Raise when an earlier part of this run saw other data, such as a file that has changed since."""
    earlier = run.record.get("dataset_key")
    if (run.has_result or run.resumable) and earlier not in (None, dataset_key):
        raise ConfigError(
            f"run_dir={run.path}: was trained on dataset {earlier}, the same settings now give "
            f"{dataset_key}; choose another run_dir, or resume=never to set it aside"
        )


def finish(run: Run, state: str, **values: Any) -> None:
    """Record the result."""
    run.update(state=state, finished=_now(), **values)


def objective(run: Run, name: str) -> float:
    """``best_val_loss``, a metric or ``<metric>_amplitude`` of a finished run; NaN where it has none."""
    file = run.path / artifacts.METRICS
    metrics = artifacts.read_json(file) if file.exists() else {}
    return numbers(run.record | metrics).get(name, math.nan)


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The numbers among ``values``; of a pair, ``<name>_amplitude`` and ``<name>_phase``."""
    found = dict(values)
    for key, value in values.items():
        if isinstance(value, list) and len(value) == 2:
            found[f"{key}_amplitude"], found[f"{key}_phase"] = value
    return {key: float(value) for key, value in found.items() if isinstance(value, (int, float))}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache  # what a process has imported stays, whatever is edited while it runs
def _source_version() -> dict[str, str | None]:
    """``git_commit``, and ``code``: the identity of this package's sources, whatever else a commit holds.

    ``+`` is appended to both when the sources were changed since; None outside git.
    """
    here = str(Path(__file__).parents[1])

    def git(*arguments: str) -> str:
        command = ["git", "-C", here, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", __file__)  # installed inside another repository?
        changed = "+" if git("status", "--porcelain", "--", here) else ""
        commit, tree = git("rev-parse", "HEAD", "HEAD:./").splitlines()
    except (OSError, subprocess.SubprocessError):
        return {"git_commit": None, "code": None}
    return {"git_commit": commit + changed, "code": tree + changed}
