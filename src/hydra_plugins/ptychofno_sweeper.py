"""The sweeper of ``hydra/sweeper=missing``, the default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class MissingRunsSweeper(Sweeper):
    """Runs every combination of the swept values whose run is not finished, with any of Hydra's launchers.

    Args:
        params: what is swept besides the command line, as of Hydra's basic sweeper.
    """

    def __init__(self, params: Mapping[str, str] | None = None) -> None:
        self.params = dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config, self.job = hydra_context, config, task_function

    def sweep(self, arguments: list[str]) -> Any:
        from ptychofno.command.launch import OneJob
        from ptychofno.sweeps.launch import sweep
        from ptychofno.sweeps.plan import plan

        assert self.config is not None and self.hydra_context is not None
        assert isinstance(self.job, OneJob)
        runs = plan(self.config, [*(f"{key}={value}" for key, value in self.params.items()), *arguments])
        return sweep(self.job, self.hydra_context, self.config, runs)
