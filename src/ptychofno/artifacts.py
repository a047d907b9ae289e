"""The files of a run: their names, and how they are written. The one place that knows both."""

from __future__ import annotations

import json
import math
import os
import tempfile
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
TRAIN_LOG = "train.log"
TENSORBOARD_DIR = "tensorboard"
LOCK = ".lock"

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


def epoch_weights(epoch: int) -> str:
    """The weights after ``epoch``, where a run keeps them."""
    return f"{CHECKPOINTS_DIR}/epoch-{epoch:04d}.pt"


def epoch_of(path: Path) -> int | None:
    """The epoch whose weights a file in ``checkpoints`` holds by its name; None for any other file."""
    number = path.name.removeprefix("epoch-").removesuffix(".pt")
    epoch = int(number) if number.isdecimal() else None
    return epoch if epoch is not None and path.name == Path(epoch_weights(epoch)).name else None


def write_text(path: Path | str, text: str) -> None:
    """Write ``text`` to ``path`` in one step."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write plain values as JSON. NaN and infinity become null, as JSON has neither."""
    write_text(path, json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """The plain values of a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write_with(path: Path | str, writer: Callable[[Path], None]) -> None:
    """Let ``writer`` fill ``path`` in one step, for example ``partial(torch.save, state)``."""
    with atomic_path(path) as temporary:
        writer(temporary)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
