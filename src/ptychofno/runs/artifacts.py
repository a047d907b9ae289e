"""The files of a run: their names, and how they are written and read. The one place that knows both."""

from __future__ import annotations

import io
import json
import math
import os
import re
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CONFIG = "config.yaml"
HYDRA_DIR = ".hydra"
RUN = "run.json"
HISTORY = "history.json"
METRICS = "metrics.json"
STATS = "stats.json"
ROUNDS = "rounds.json"
GRAD_NORMS = "grad_norms.csv"
MODEL = "model.pt"
CHECKPOINTS_DIR = "checkpoints"
RESUME_CHECKPOINT = f"{CHECKPOINTS_DIR}/resume.ckpt"
BEST_WEIGHTS = f"{CHECKPOINTS_DIR}/best.pt"
LAST_WEIGHTS = f"{CHECKPOINTS_DIR}/last.pt"
RECONSTRUCTION = "reconstruction.npz"
RECONSTRUCTION_FIGURE = "reconstruction.png"
CURVES_FIGURE = "curves.png"
SOURCE = "source.json"
TRAIN_LOG = "train.log"
LOCK = ".lock"

# What a file may have before anything of it is parsed.
LARGEST_RECORD = 16 * 2**20
LARGEST_SETTINGS = 256 * 2**10

# As ``atomic_path`` has them named.
_TEMPORARY = re.compile(r"\..+-[a-z0-9_]{8}(\.\w+)?")

STATES = ("running", "completed", "collapsed", "diverged", "interrupted", "failed")
RESULT_STATES = ("completed", "collapsed", "diverged")


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """A temporary sibling to write to; renamed onto ``path`` on success, removed on failure.

    The sibling keeps the suffix, because writers such as matplotlib choose the format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sweep(run_dir: Path) -> None:
    """Remove what a killed process left half written; for whoever holds the run."""
    for folder in (run_dir, run_dir / HYDRA_DIR, run_dir / CHECKPOINTS_DIR):
        for file in folder.glob(".*"):
            if _TEMPORARY.fullmatch(file.name):
                file.unlink(missing_ok=True)


def precedes_a_record(name: str) -> bool:
    """Whether a run may have a file of this name before it has a record."""
    return name in (LOCK, TRAIN_LOG) or _TEMPORARY.fullmatch(name) is not None


def epoch_weights(epoch: int) -> str:
    """The weights after ``epoch``, where a run keeps them."""
    return f"{CHECKPOINTS_DIR}/epoch-{epoch:04d}.pt"


def epoch_of(path: Path) -> int | None:
    """The epoch whose weights a file in ``checkpoints`` holds by its name; None for any other file."""
    named = re.fullmatch(r"epoch-(\d{4}|[1-9]\d{4,})\.pt", path.name, re.ASCII)
    return int(named[1]) if named else None


def without_secrets(word: str) -> str:
    """A word of a command line, without the value of an environment variable that it sets."""
    return re.sub(r"(env_set.*?=).*", r"\1***", word, flags=re.DOTALL)


def write_text(path: Path | str, text: str) -> None:
    """Write ``text`` to ``path`` in one step."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write plain values as JSON. NaN and infinity become null, as JSON has neither."""
    write_text(path, json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")


def read_bytes(path: Path | str, limit: int, *, directory: int | None = None) -> bytes:
    """The content of a plain file of at most ``limit`` bytes, whoever wrote it.

    With the descriptor of a ``directory``, ``path`` is a name in it and must not be a link. Raises OSError as
    ``open`` does, and ValueError for anything else than such a file.
    """
    kept = 0 if directory is None else os.O_NOFOLLOW
    # Without O_NONBLOCK, opening a pipe would wait for somebody to write to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | kept, dir_fd=directory)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("not a plain file")
        if found.st_size > limit:
            raise ValueError(f"larger than {limit // 2**10} KiB")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(limit)
    finally:
        os.close(descriptor)


def read_json(path: Path | str) -> Any:
    """The plain values of a JSON file; raises OSError and ValueError only."""
    return parse_json(read_bytes(path, LARGEST_RECORD))


def parse_json(content: bytes) -> Any:
    """Plain values. NaN and infinity, which JSON does not have, become None. Raises ValueError only."""
    try:
        return json.loads(content.decode("utf-8"), parse_constant=lambda _: None)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def write_with(path: Path | str, writer: Callable[[Path], Any]) -> None:
    """Let ``writer`` fill ``path`` in one step, for example ``partial(torch.save, state)``."""
    with atomic_path(path) as temporary:
        writer(temporary)


def save_tensors(path: Path, value: Any) -> None:
    """``torch.save`` in one step; the same values give the same bytes, whatever the file is called."""
    import torch

    content = io.BytesIO()  # torch's own writer would not say that a disk is full
    torch.save(value, content)
    write_with(path, lambda temporary: temporary.write_bytes(content.getbuffer()))


def load_tensors(path: Path) -> Any:
    """What ``save_tensors`` has written, once all of it has passed the archive's checksums; no pickle."""
    import torch

    with zipfile.ZipFile(path) as archive:
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"{damaged} fails its checksum")
    return torch.load(path, map_location="cpu", weights_only=True)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
