"""Going on from where a run was stopped, and keeping its best weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from ptychofno.runs import artifacts
from ptychofno.training.batches import ResidentBatches
from ptychofno.training.interruption import Interrupted, StopRequest
from ptychofno.training.module import PhysicsSupervised


class CheckpointError(ValueError):
    """A run cannot go on from its checkpoints; one line that names the file and the way out."""

    def __init__(self, file: Path, error: BaseException) -> None:
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        super().__init__(
            f"{file}: cannot be resumed from ({why}); resume=never sets this run aside and starts over"
        )


class Checkpoints(L.Callback):
    """Keeps what a resumed run needs and the best weights, and heeds a stop request.

    The resume checkpoint is written when an epoch starts, after every scheduler has been stepped; after the
    last one, for a run that is to have more; and at once when a stop is requested: from all a run goes on to
    the same bits. Without ``write`` the best weights are kept in memory only. ``keep_every`` k keeps those of
    every k-th epoch.
    """

    def __init__(self, run_dir: Path, stop: StopRequest, write: bool, keep_every: int | None = None) -> None:
        self.run_dir, self.stop, self.write, self.keep_every = run_dir, stop, write, keep_every
        self.started = False
        self.best_val_loss, self.best_epoch = float("inf"), 0
        self.best_weights: dict[str, Tensor] = {}

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.stop.training = self.started = True
        self.stop.install()  # Lightning has just put a handler of its own over ours

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        _loader(trainer).start_epoch(trainer.current_epoch)
        epoch_loop = trainer.fit_loop.epoch_loop
        if not epoch_loop.restarting:
            # Lightning would count the previous epoch's batches as this one's when it resumes here.
            epoch_loop.reset()
            self._save(trainer)
        self._heed_stop(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        _loader(trainer).consumed = batch_idx + 1
        # After the last step of an epoch its validation is due; the stop waits for the next epoch.
        if batch_idx + 1 < trainer.num_training_batches and (signum := self._asked_to_stop(trainer)):
            assert isinstance(module, PhysicsSupervised)
            module.stop_if_diverged()
            self._save(trainer)
            raise Interrupted(signum)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, PhysicsSupervised)
        # Lightning would leave a plateau schedule out after the epoch in which a run was resumed.
        trainer.fit_loop.restarting = False
        val_loss, epoch = float(trainer.callback_metrics["val_loss"]), trainer.current_epoch + 1
        writes = self.write and trainer.is_global_zero
        if writes and self.keep_every is not None and epoch % self.keep_every == 0:
            artifacts.save_tensors(self.run_dir / artifacts.epoch_weights(epoch), module.weights())
        if val_loss < self.best_val_loss:
            self.best_val_loss, self.best_epoch = val_loss, epoch
            self.best_weights = module.weights()
            if writes:
                artifacts.save_tensors(self.run_dir / artifacts.BEST_WEIGHTS, self.best_weights)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.stop.training = False
        _loader(trainer).start_epoch(trainer.current_epoch)
        trainer.fit_loop.epoch_loop.reset()
        self._save(trainer)
        self._heed_stop(trainer)

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        self.stop.training = False

    def state_dict(self) -> dict[str, Any]:
        return {"best_val_loss": self.best_val_loss, "best_epoch": self.best_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best_val_loss, self.best_epoch = state["best_val_loss"], state["best_epoch"]
        if self.best_epoch > 0:
            best, model = self.run_dir / artifacts.BEST_WEIGHTS, self.run_dir / artifacts.MODEL
            file = model if model.exists() and not best.exists() else best  # a run that had ended
            try:
                best_weights = artifacts.load_tensors(file)
                if "state_dict" in best_weights:
                    if (epoch := best_weights["epoch"]) != self.best_epoch:
                        raise ValueError(f"holds weights of epoch {epoch}, the best are of {self.best_epoch}")
                    best_weights = best_weights["state_dict"]
                self.best_weights = dict(best_weights)
            except Exception as error:
                raise CheckpointError(file, error) from error

    def _asked_to_stop(self, trainer: L.Trainer) -> int:
        """The signal by which any process was asked to stop, or 0: the same in all of them."""
        received = torch.tensor(self.stop.received or 0)
        return int(trainer.strategy.reduce(received, reduce_op="max"))

    def _heed_stop(self, trainer: L.Trainer) -> None:
        if signum := self._asked_to_stop(trainer):
            raise Interrupted(signum)

    def _save(self, trainer: L.Trainer) -> None:
        if self.write:  # all processes take part; Lightning lets only the first one write
            trainer.save_checkpoint(self.run_dir / artifacts.RESUME_CHECKPOINT)


def _loader(trainer: L.Trainer) -> ResidentBatches:
    loader = trainer.train_dataloader
    assert isinstance(loader, ResidentBatches)
    return loader
