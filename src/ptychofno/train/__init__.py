"""Train one generator and judge it: ``python -m ptychofno.train +arm=stable_warmup``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptychofno.command import line

if TYPE_CHECKING:
    from omegaconf import DictConfig


def train(cfg: DictConfig) -> float | None:
    """One run: shows its result and gives its objective.

    Raises SystemExit(128 + signal) when it was interrupted.
    """
    # Imported here: a refused configuration must not wait for torch.
    from ptychofno.train import run

    return run.train(cfg)


def main() -> None:
    line.run(train)
