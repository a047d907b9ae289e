"""The command line: exit codes, and mistakes in one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ptychofno.config.errors import exit_codes

if TYPE_CHECKING:
    from omegaconf import DictConfig


def run(task: Callable[[DictConfig], Any], argv: Sequence[str] | None = None) -> None:
    """Run ``task`` with the configuration that the command line describes, once per job of a sweep.

    Nothing starts before every job's configuration is valid. Exit codes: 2 with one line on stderr for a
    ConfigError, 1 with its traceback for any other exception of the task, else those of ``exit_codes``. A
    failed job does not keep the others of a sweep from running; a SystemExit does. ``sys.argv`` is what was
    typed.
    """
    with exit_codes(silent=is_repeated()):
        # Imported here: an interrupt while Hydra loads must not show a traceback.
        from ptychofno.command.launch import launch

        launch(task, list(sys.argv[1:] if argv is None else argv))


def is_repeated() -> bool:
    """Whether this is one of several processes of torchrun or Slurm, whose first tells of a mistake."""
    return (os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or "0") != "0"
