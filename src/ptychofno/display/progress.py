"""How far training is, in the terminal and in the log."""

from __future__ import annotations

import logging
import time
from typing import Any

import lightning as L
from rich.console import Console
from rich.progress import TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ptychofno.display.terminal import bar
from ptychofno.training.module import PhysicsSupervised

log = logging.getLogger(__name__)


class ProgressBar(L.Callback):
    """One bar over all epochs with loss, validation loss and learning rate; a log line per epoch."""

    refresh_seconds = 0.2

    def __init__(self, console: Console) -> None:
        self.console = console
        values = TextColumn("loss {task.fields[loss]}  val {task.fields[val]}  lr {task.fields[lr]}")
        times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        epoch = TextColumn("epoch {task.fields[epoch]}")
        self.progress = bar(console, epoch, values, *times)
        self.task = TaskID(0)
        self._val_loss = "-"
        self._refreshed = 0.0

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        total = int(trainer.num_training_batches) * (trainer.max_epochs or 0)
        empty: dict[str, Any] = {"epoch": "", "loss": "-", "val": "-", "lr": "-"}
        self.task = self.progress.add_task("", total=total, completed=trainer.global_step, **empty)
        self.progress.start()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        if self.progress.disable or now - self._refreshed < self.refresh_seconds:
            return  # reading the loss waits for the device
        self._refreshed = now
        assert isinstance(module, PhysicsSupervised)
        self.progress.update(
            self.task,
            completed=trainer.global_step,
            epoch=f"{trainer.current_epoch + 1}/{trainer.max_epochs}",
            loss=f"{float(module.step_record['loss']):.4g}",
            val=self._val_loss,
            lr=f"{trainer.optimizers[0].param_groups[0]['lr']:.2e}",
        )

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._val_loss = f"{float(trainer.callback_metrics['val_loss']):.4g}"
        log.info(
            "epoch %d/%d: validation loss %s", trainer.current_epoch + 1, trainer.max_epochs, self._val_loss
        )

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.progress.stop()

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        self.progress.stop()
