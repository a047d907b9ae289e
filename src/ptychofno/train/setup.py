"""From a composed configuration to what training takes beside data and network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig
from torch import nn

from ptychofno import build, models
from ptychofno.config.composition import job_restored
from ptychofno.config.errors import ConfigError
from ptychofno.data import PtychoDataset
from ptychofno.training.module import PhysicsSupervised
from ptychofno.training.resident import ResidentData
from ptychofno.training.schedules import Schedule
from ptychofno.training.thinning import Thinning


def experiment(cfg: DictConfig, dataset: PtychoDataset, network: nn.Module) -> PhysicsSupervised:
    """The training module: network, physics, loss, optimizer, schedule and clip."""
    if cfg.trainer.compile:
        _check_compiler(build.device(cfg))
        network.compile(options={"deterministic": True})
    node = build.to_plain(cfg.optimizer)
    with build.of_a_user("optimizer", node):
        make_optimizer = models.part(node, build.find)
        optimizer = make_optimizer([nn.Parameter(torch.zeros(1))])
    made_for = schedule(cfg, len(dataset.train))
    with build.of_a_user("scheduler", build.to_plain(cfg.scheduler)):
        made_for(optimizer, cfg.trainer.max_epochs)
    return PhysicsSupervised(
        network,
        torch.from_numpy(dataset.probe.copy()),
        loss(cfg, dataset),
        make_optimizer,
        made_for,
        build.made(cfg, "clip"),
        cfg.trainer.max_epochs,
        build.valid_pixels(dataset),
    )


def schedule(cfg: DictConfig, patterns: int) -> Schedule:
    """The learning rate of ``cfg.scheduler``, a part of ours or any of torch's, for so many samples."""
    node = build.to_plain(cfg.scheduler)
    interval = node.pop("interval", "epoch")
    with build.of_a_user("scheduler", node):
        steps, rest = divmod(patterns, cfg.data.batch_size)
        return Schedule(
            models.part(node, build.find), interval, steps + (rest > 0 and not cfg.data.drop_last)
        )


def _check_compiler(device: torch.device) -> None:
    """Before an epoch is begun: torch looks for a compiler only when the first batch comes."""
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise ConfigError(f"trainer.compile=true: needs a C++ compiler, {compiler} is not there")


def loss(cfg: DictConfig, dataset: PtychoDataset) -> nn.Module:
    """The loss of ``cfg.loss`` in the units of the dataset."""
    return cast(
        nn.Module,
        build.made(
            cfg,
            "loss",
            mean_amplitude=dataset.mean_amplitude,
            rms_amplitude=dataset.rms_amplitude,
            photon_scale=dataset.photon_scale,
            counts=dataset.counts,
        ),
    )


def batches(cfg: DictConfig, dataset: PtychoDataset) -> ResidentData:
    """Training and validation patterns as resident tensors."""
    if cfg.data.drop_last and len(dataset.train.amplitude) < cfg.data.batch_size:
        raise ConfigError(
            f"data.batch_size={cfg.data.batch_size}: larger than the {len(dataset.train.amplitude)} training "
            "patterns, which data.drop_last=true would drop"
        )
    share = cfg.data.thinning
    if share is not None and not dataset.counts:
        raise ConfigError(f"data.thinning={share}: needs counts, not amplitudes; expected data.thinning=null")
    return ResidentData(
        build.as_batch(dataset.train),
        build.as_batch(dataset.validation),
        cfg.data.batch_size,
        cfg.data.drop_last,
        cfg.seed,
        None if share is None else Thinning(share, dataset.photon_scale),
    )


def rank(cfg: DictConfig) -> int:
    """The number of this process among those that train; 0 is the one that writes and evaluates."""
    return int(getattr(rank_zero_only, "rank", 0)) if build.parallel(cfg) else 0


@contextmanager
def started_as_typed() -> Iterator[None]:
    """Let Lightning start other processes by the command as typed; in a job of Hydra it adds settings."""
    with job_restored():
        HydraConfig.instance().cfg = None
        yield


def loggers(cfg: DictConfig) -> list[Any]:
    """The live logs of ``cfg.logger``, any of Lightning's. Raises ConfigError where a package is missing."""
    try:
        return [build.made(cfg, f"logger.{name}") for name in cfg.logger]
    except ModuleNotFoundError as missing:
        raise ConfigError(f"logger: {missing.name or missing}; see the extras of ptychofno") from None
