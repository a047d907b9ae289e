"""One run on several processes by Lightning's ddp strategy, and what they agree on beside the gradients."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import (
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor


def processes_of_trainer(
    accelerator: str, strategy: str, devices: int | None, num_nodes: int
) -> dict[str, Any]:
    """The part of a ``Trainer``'s arguments that says how many processes train, and who starts them.

    Lightning never queues a Slurm job anew: an interrupted run goes on by its command.
    """
    if strategy != "ddp":
        return {"devices": 1, "plugins": [LightningEnvironment()]}
    slurm = SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()
    return {
        "strategy": DDPStrategy(
            broadcast_buffers=False,  # constants, the same in all processes from the start
            # Whether somebody asked to stop is agreed on without waiting for the GPU.
            process_group_backend="cpu:gloo,cuda:nccl" if accelerator == "cuda" else "gloo",
        ),
        "devices": devices or "auto",
        "num_nodes": num_nodes,
        "plugins": [SLURMEnvironment(auto_requeue=False)] if slurm else [],
        "use_distributed_sampler": False,
    }


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of the tensors of all processes, the same bits in each."""
    if not dist.is_initialized():
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def largest_over_processes(value: int) -> int:
    """The largest of the values of all processes."""
    if not dist.is_initialized():
        return value
    held = torch.tensor(value)
    dist.all_reduce(held, dist.ReduceOp.MAX)
    return int(held)
