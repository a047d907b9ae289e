"""One training run: Lightning's trainer around our module, data and callbacks."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.plugins.environments import (
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from ptychofno.runs import artifacts
from ptychofno.training.batches import Batch, ResidentBatches, Thinning, each_of
from ptychofno.training.checkpoints import CheckpointError, Checkpoints
from ptychofno.training.history import STEP_KEYS, History
from ptychofno.training.interruption import Interrupted, StopRequest
from ptychofno.training.module import Diverged, PhysicsSupervised


class ResidentData(L.LightningDataModule):
    """Training and validation patterns, each one batch, moved to the device once and kept there.

    Every process has all of them, and takes its part of every training batch. ``seed`` is that of the order
    of the training patterns and of what ``thin`` does to them; validation patterns are split once, whatever
    it is.
    """

    trainer: L.Trainer

    def __init__(
        self,
        train: Batch,
        validation: Batch,
        batch_size: int,
        drop_last: bool,
        seed: int,
        thin: Thinning | None = None,
    ) -> None:
        super().__init__()
        self.train = train
        self.validation = validation if thin is None else thin(validation, 0)
        self.batch_size, self.drop_last, self.seed, self.thin = batch_size, drop_last, seed, thin

    def train_dataloader(self) -> ResidentBatches:
        return ResidentBatches(
            self._here(self.train),
            self.batch_size,
            seed=self.seed,
            drop_last=self.drop_last,
            rank=self.trainer.global_rank,
            processes=self.trainer.world_size,
            thin=self.thin,
        )

    def val_dataloader(self) -> ResidentBatches:
        size = max(self.batch_size, 32)
        return ResidentBatches(self._here(self.validation), size, seed=None, drop_last=False)

    def _here(self, samples: Batch) -> Batch:
        device = self.trainer.strategy.root_device
        return each_of(samples, lambda one: one.to(device))


@dataclass(frozen=True)
class Outcome:
    """How training ended: ``diverged`` says why, None when all epochs were run; ``epochs`` is the history.

    ``steps`` are rows of ``history.STEP_KEYS``, also of a step that was not taken as it was not finite.
    ``best_epoch`` is that of the smallest validation loss, from 1; 0 when none was finished. Weights are
    state dicts on the CPU.
    """

    diverged: str | None
    epochs: dict[str, list[Any]]
    steps: list[list[float]]
    best_epoch: int
    best_val_loss: float
    best_weights: dict[str, Tensor]
    last_weights: dict[str, Tensor]

    @property
    def grad_norms(self) -> list[float]:
        """Before clipping, of every step."""
        return [row[STEP_KEYS.index("grad_norm")] for row in self.steps]


def fit(
    module: PhysicsSupervised,
    data: ResidentData,
    run_dir: Path,
    *,
    flat_baseline: float,
    accelerator: str,
    precision: str,
    stop: StopRequest,
    enable_checkpointing: bool,
    resume: bool = True,
    strategy: str = "auto",
    devices: int | None = None,
    num_nodes: int = 1,
    keep_every: int | None = None,
    loggers: Sequence[Logger] = (),
    callbacks: Sequence[L.Callback] = (),
) -> Outcome:
    """Train for ``module.total_epochs``, with ``resume`` from the resume checkpoint where there is one.

    With ``strategy="ddp"`` all processes, ``devices`` (None: one per GPU) on each of ``num_nodes``, call it;
    the first one writes, and starts those that are not there. ``flat_baseline`` see ``losses``. Raises
    Interrupted when a stop was requested, with the resume checkpoint up to date, CheckpointError for one that
    cannot be resumed from, and ValueError for processes that Lightning cannot have.
    """
    history = History(run_dir, flat_baseline)
    checkpoints = Checkpoints(run_dir, stop, enable_checkpointing, keep_every)
    checkpoint = run_dir / artifacts.RESUME_CHECKPOINT
    from_checkpoint = enable_checkpointing and resume and checkpoint.exists()
    with quiet_lightning():
        try:
            trainer = L.Trainer(
                accelerator=accelerator,
                precision=precision,  # type: ignore[arg-type]
                max_epochs=module.total_epochs,
                callbacks=[history, checkpoints, *callbacks],
                logger=list(loggers),
                default_root_dir=run_dir,
                log_every_n_steps=1,
                num_sanity_val_steps=0,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                # reproducible() has asked torch for it already; Lightning would not ask torch to forget it.
                deterministic=None,
                **_processes(accelerator, strategy, devices, num_nodes),
            )
        except (MisconfigurationException, RuntimeError) as error:
            raise ValueError(" ".join(f"trainer: {error}".split())) from error
        diverged = _train(trainer, module, data, checkpoint if from_checkpoint else None, checkpoints)
    return Outcome(
        diverged,
        history.epochs,
        history.steps,
        checkpoints.best_epoch,
        checkpoints.best_val_loss,
        checkpoints.best_weights,
        module.weights(),
    )


class _DirectCheckpointIO(TorchCheckpointIO):
    """Writes where it is told to. Lightning goes by way of the temporary folder, which may be full."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        artifacts.save_tensors(Path(path), checkpoint)


def _processes(accelerator: str, strategy: str, devices: int | None, num_nodes: int) -> dict[str, Any]:
    """What a ``Trainer`` is told of how many processes train, and who starts them.

    Lightning never queues a Slurm job anew: an interrupted run goes on by its command.
    """
    if strategy != "ddp":
        return {"devices": 1, "plugins": [_DirectCheckpointIO(), LightningEnvironment()]}
    slurm = SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()
    return {
        "strategy": DDPStrategy(
            broadcast_buffers=False,  # constants, the same in all processes from the start
            # Whether somebody asked to stop is agreed on without waiting for the GPU.
            process_group_backend="cpu:gloo,cuda:nccl" if accelerator == "cuda" else "gloo",
        ),
        "devices": devices or "auto",
        "num_nodes": num_nodes,
        "plugins": [_DirectCheckpointIO(), *([SLURMEnvironment(auto_requeue=False)] if slurm else [])],
        "use_distributed_sampler": False,
    }


def _train(
    trainer: L.Trainer,
    module: PhysicsSupervised,
    data: ResidentData,
    checkpoint: Path | None,
    checkpoints: Checkpoints,
) -> str | None:
    """Run the trainer; why training diverged, or None."""
    try:
        if checkpoint is not None:
            artifacts.load_tensors(checkpoint)
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except Diverged as reason:
        return str(reason)
    except BaseException as error:
        stopped_together = isinstance(error, Interrupted) and checkpoints.started
        if not stopped_together and (launcher := trainer.strategy.launcher) is not None:
            launcher.kill(signal.SIGKILL)  # the others would wait for this process for ever on a GPU
        unusable = isinstance(error, Exception) and not isinstance(error, (CheckpointError, Interrupted))
        if checkpoint is not None and unusable and not checkpoints.started:
            raise CheckpointError(checkpoint, error) from error
        raise
    return None


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Without Lightning's banners, its advice on loaders that we do not use, and a false alarm of DDP."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning.*")
            unused = ".*(?:does not have many workers|isinstance\\(treespec).*"
            warnings.filterwarnings("ignore", message=unused)
            # Of weights with a dimension of size one, whose stride means nothing: DDP compares it, too.
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
