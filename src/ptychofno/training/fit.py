"""One training run: Lightning's trainer around our module, data and callbacks."""

from __future__ import annotations

import logging
import pickle
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.loggers import Logger
from torch import Tensor

from ptychofno.processes import Group
from ptychofno.runs import artifacts
from ptychofno.training.batches import Batch, ResidentBatches
from ptychofno.training.checkpoints import CheckpointError, Checkpoints, load_tensors, save_tensors
from ptychofno.training.guard import Guard, NoGuard
from ptychofno.training.history import STEP_KEYS, History
from ptychofno.training.interruption import StopRequest
from ptychofno.training.module import Diverged, PhysicsSupervised
from ptychofno.training.parallel import own_threads, trainer_arguments


@dataclass(frozen=True)
class Outcome:
    """How training ended.

    Attributes:
        diverged: why, in one line; None when all epochs were run.
        epochs: the history, one list per key.
        grad_norms: before clipping, one per optimizer step; also that of a step that was not taken as it
            was not finite, NaN where it is not known.
        best_epoch: the epoch of the smallest validation loss, from 1; 0 when none was finished.
        best_weights, last_weights: state dicts of the judged network on the CPU.
        interventions: of the guard; see ``guard.Watch``.
    """

    diverged: str | None
    epochs: dict[str, list[Any]]
    grad_norms: list[float]
    best_epoch: int
    best_val_loss: float
    best_weights: dict[str, Tensor]
    last_weights: dict[str, Tensor]
    interventions: list[dict[str, Any]]


class ResidentData(L.LightningDataModule):
    """Training and validation patterns, moved to the device once and kept there.

    Args:
        train, validation: all samples of each, as one batch.
        batch_size: patterns per step. drop_last: drop the last partial training batch.
        seed: of the order of the training patterns.
        group: of processes, which share out every training batch; each has all data on its device.
    """

    def __init__(
        self,
        train: Batch,
        validation: Batch,
        batch_size: int,
        drop_last: bool,
        seed: int,
        group: Group | None = None,
    ) -> None:
        super().__init__()
        self.train, self.validation = train, validation
        self.batch_size, self.drop_last, self.seed = batch_size, drop_last, seed
        self.group = group or Group()

    def train_dataloader(self) -> ResidentBatches:
        return ResidentBatches(
            self._here(self.train),
            self.batch_size,
            seed=self.seed,
            drop_last=self.drop_last,
            rank=self.group.rank,
            processes=self.group.size,
        )

    def val_dataloader(self) -> ResidentBatches:
        size = max(self.batch_size, 32)
        return ResidentBatches(self._here(self.validation), size, seed=None, drop_last=False)

    def _here(self, samples: Batch) -> Batch:
        assert self.trainer is not None
        device = self.trainer.strategy.root_device
        if isinstance(samples, Tensor):
            return samples.to(device)
        return samples[0].to(device), samples[1].to(device)


# What taking up a foreign checkpoint may raise.
_UNUSABLE = (AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError)


class DirectCheckpointIO(TorchCheckpointIO):
    """Writes where it is told to. Lightning goes by way of the temporary folder, which may be full."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        save_tensors(Path(path), checkpoint)


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
    keep_every: int | None = None,
    guard: Guard = NoGuard(),
    loggers: Sequence[Logger] = (),
    callbacks: Sequence[L.Callback] = (),
) -> Outcome:
    """Train for ``module.total_epochs``, from the resume checkpoint where there is one.

    All processes of ``data.group`` call it; the first of them writes.

    Args:
        flat_baseline: validation loss of the best flat object, see ``flat_baseline``.

    Raises Interrupted when a stop was requested; the resume checkpoint is then up to date. Raises
    CheckpointError when there is one that cannot be resumed from.
    """
    group = module.group = data.group
    watch = guard(flat_baseline, group)
    history = History(run_dir, flat_baseline, write_files=group.rank == 0, watch=watch)
    checkpoints = Checkpoints(run_dir, stop, enable_checkpointing, group, keep_every)
    resume = run_dir / artifacts.RESUME_CHECKPOINT
    from_checkpoint = enable_checkpointing and group.broadcast(resume.exists())
    diverged = None
    with quiet_lightning(), own_threads(group):
        of_processes = trainer_arguments(group)
        trainer = L.Trainer(
            accelerator=accelerator,
            precision=precision,  # type: ignore[arg-type]
            max_epochs=module.total_epochs,
            callbacks=[watch, history, checkpoints, *callbacks],
            logger=list(loggers),
            log_every_n_steps=1,
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=run_dir,
            # reproducible() has asked torch for it already; Lightning would not ask torch to forget it.
            deterministic=None,
            **{**of_processes, "plugins": [DirectCheckpointIO(), *of_processes["plugins"]]},
        )
        try:
            if from_checkpoint:
                load_tensors(resume)
            trainer.fit(
                module,
                datamodule=data,
                ckpt_path=resume if from_checkpoint else None,
                weights_only=True,
            )
        except Diverged as reason:
            diverged = str(reason)
        except (*_UNUSABLE, pickle.UnpicklingError, zipfile.BadZipFile) as error:
            if not from_checkpoint or checkpoints.started or isinstance(error, CheckpointError):
                raise
            raise CheckpointError(resume, error) from error
    weights = module.judged.state_dict()
    last = {name: value.detach().to("cpu", copy=True) for name, value in weights.items()}
    if enable_checkpointing and group.rank == 0:
        save_tensors(run_dir / artifacts.LAST_WEIGHTS, last)
    return Outcome(
        diverged,
        history.epochs,
        [row[STEP_KEYS.index("grad_norm")] for row in history.steps],
        checkpoints.best_epoch,
        checkpoints.best_val_loss,
        checkpoints.best_weights,
        last,
        watch.interventions,
    )


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Without Lightning's banners and its advice on data loaders that we do not use."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning.*")
            warnings.filterwarnings(
                "ignore", message=".*(?:does not have many workers|isinstance\\(treespec).*"
            )
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
