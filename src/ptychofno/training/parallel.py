"""Lightning's ddp strategy over processes that have met already."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.fabric.plugins.environments import ClusterEnvironment, LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy

from ptychofno.processes import Group


class JoinedEnvironment(ClusterEnvironment):
    """Tells Lightning who is who in a ``Group``; there is nothing left for it to start or to connect."""

    def __init__(self, group: Group) -> None:
        self.group = group

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        raise NotImplementedError("the processes are connected already")

    @property
    def main_port(self) -> int:
        raise NotImplementedError("the processes are connected already")

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self.group.size

    def set_world_size(self, size: int) -> None:
        assert size == self.group.size

    def global_rank(self) -> int:
        return self.group.rank

    def set_global_rank(self, rank: int) -> None:
        assert rank == self.group.rank

    def local_rank(self) -> int:
        return self.group.local_rank

    def node_rank(self) -> int:
        return self.group.rank // self.group.local_size


def trainer_arguments(group: Group) -> dict[str, Any]:
    """What of a ``Trainer`` depends on the processes; ``plugins`` is to be extended."""
    if group.size == 1:
        # Whatever started this process: within a Slurm job, Lightning would save and requeue in its own way.
        return {"devices": 1, "plugins": [LightningEnvironment()]}
    # Buffers are constants, the same in all processes from the start.
    return {
        "devices": group.local_size,
        "num_nodes": group.size // group.local_size,
        "strategy": DDPStrategy(broadcast_buffers=False),
        "plugins": [JoinedEnvironment(group)],
        "use_distributed_sampler": False,
    }


@contextmanager
def own_threads(group: Group) -> Iterator[None]:
    """Keep Lightning from choosing the number of threads of one of several processes."""
    name = "OMP_NUM_THREADS"
    if group.size == 1 or name in os.environ:
        yield
        return
    os.environ[name] = str(torch.get_num_threads())
    try:
        yield
    finally:
        del os.environ[name]
