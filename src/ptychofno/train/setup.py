"""From a composed configuration to what training takes beside data and network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import nn

from ptychofno import build
from ptychofno.config.composition import job_restored
from ptychofno.config.errors import ConfigError
from ptychofno.data import PtychoDataset
from ptychofno.runs.directory import numbers
from ptychofno.training.batches import Thinning
from ptychofno.training.fit import ResidentData
from ptychofno.training.module import PhysicsSupervised
from ptychofno.training.schedules import Schedule


def experiment(cfg: DictConfig, dataset: PtychoDataset, network: nn.Module) -> PhysicsSupervised:
    """The training module: network, physics, loss, optimizer, schedule and clip."""
    if cfg.trainer.compile:
        compiler = os.environ.get("CXX", "g++")  # torch looks for it only when the first batch comes
        if build.device(cfg).type == "cpu" and shutil.which(compiler) is None:
            raise ConfigError(f"trainer.compile=true: needs a C++ compiler, {compiler} is not there")
        network.compile(options={"deterministic": True})
    steps, rest = divmod(len(dataset.train), cfg.data.batch_size)
    steps += rest > 0 and not cfg.data.drop_last
    schedule = Schedule(build.part(cfg, "scheduler"), cfg.scheduler.get("interval", "epoch"), steps)
    make_optimizer = build.part(cfg, "optimizer")
    with build.of_a_user(cfg, "optimizer"):
        optimizer = make_optimizer([nn.Parameter(torch.zeros(1))])
    with build.of_a_user(cfg, "scheduler"):
        schedule(optimizer, cfg.trainer.max_epochs)
    return PhysicsSupervised(
        network,
        torch.from_numpy(dataset.probe.copy()),
        loss(cfg, dataset),
        make_optimizer,
        schedule,
        build.made(cfg, "clip"),
        cfg.trainer.max_epochs,
        build.valid_pixels(dataset),
    )


def loss(cfg: DictConfig, dataset: PtychoDataset) -> nn.Module:
    """The loss of ``cfg.loss`` in the units of the dataset."""
    names = ("mean_amplitude", "rms_amplitude", "photon_scale", "counts")
    found: nn.Module = build.made(cfg, "loss", **{name: getattr(dataset, name) for name in names})
    return found


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


@contextmanager
def described(loggers: Sequence[Logger], settings: Mapping[str, Any]) -> Iterator[None]:
    """Log the ``settings``; in the end close what would go on into the next run of this process."""
    try:
        for logger in loggers:
            logger.log_hyperparams(dict(settings))
        yield
    finally:
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.finish()


def log_result(
    loggers: Sequence[Logger], settings: Mapping[str, Any], values: Mapping[str, Any], figures: Sequence[Path]
) -> None:
    """Log the numbers among ``values`` under ``final/``, and the figures where a logger takes pictures."""
    final = {f"final/{key}": number for key, number in numbers(values).items()}
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(dict(settings), final)  # once more: it shows them beside a result only
        else:
            logger.log_metrics(final)
        for figure in figures:
            _attach(logger, figure)
        logger.save()


def _attach(logger: Logger, figure: Path) -> None:
    if isinstance(logger, WandbLogger):
        logger.log_image(figure.stem, [str(figure)])
    elif isinstance(logger, MLFlowLogger):
        logger.experiment.log_artifact(logger.run_id, str(figure))
    elif isinstance(logger, TensorBoardLogger):
        with Image.open(figure) as opened:
            width, height = opened.size
        # As it is: to decode it and to encode it again takes a second.
        size = {"height": height, "width": width, "colorspace": 4}
        image = Summary.Value(
            tag=figure.stem, image=Summary.Image(encoded_image_string=figure.read_bytes(), **size)
        )
        logger.experiment.file_writer.add_summary(Summary(value=[image]))
