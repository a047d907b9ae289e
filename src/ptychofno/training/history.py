"""What a run records: one entry per epoch, and every step's loss and gradient norms."""

from __future__ import annotations

import csv
import math
import statistics
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from ptychofno.runs import artifacts
from ptychofno.training.instruments import dead_weights
from ptychofno.training.module import Diverged, PhysicsSupervised

KEYS = (
    "epoch",
    "step",
    "train_loss",
    "val_loss",
    "val_ssim",
    "learning_rate",
    "grad_norm_median",
    "grad_norm_max",
    "grad_norm_clipped_max",
    "clipped_fraction",
    "pred_amp_std",
    "explained",
    "pred_contrast",
    "dead_weights",
    "seconds",
)
STEP_KEYS = ("epoch", "step", "loss", "grad_norm", "grad_norm_clipped")
# Relative change of the norm from which a step counts as clipped; rounding stays below.
CLIPPED = 1e-5


class History(L.Callback):
    """Collects the history and writes it after every epoch; travels with the checkpoint.

    ``epochs`` holds one list per key of ``KEYS``, ``steps`` one row per optimizer step in the order of
    ``STEP_KEYS``. Epochs count from 1. Steps are kept as tensors on the device and read once an epoch.

    ``learning_rate`` is the largest of the epoch. ``explained`` is the share of the flat object's loss that
    the network has taken away, 1 - loss / ``flat_baseline``: 0 on the flat plateau. ``pred_contrast`` see
    ``PhysicsSupervised``; ``dead_weights``, of an epoch's last step, see ``instruments``.
    """

    def __init__(self, run_dir: Path, flat_baseline: float) -> None:
        self.run_dir, self.flat_baseline = run_dir, flat_baseline
        self.epochs: dict[str, list[Any]] = {key: [] for key in KEYS}
        self.steps: list[list[float]] = []
        self._pending: list[tuple[int, Tensor]] = []
        self._sizes: list[int] = []
        self._seconds_before = 0.0
        self._started = 0.0
        self._learning_rate = 0.0
        self._dead: float | None = None

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._started, self._seconds_before = time.perf_counter(), 0.0
        self._pending, self._sizes = [], []
        self._learning_rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._learning_rate = max(self._learning_rate, trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(module, PhysicsSupervised)
        record = module.step_record
        row = torch.stack((record["loss"], record["grad_norm"], record["grad_norm_clipped"]))
        self._pending.append((trainer.global_step, row))
        self._sizes.append(trainer.train_dataloader.size(batch_idx))  # type: ignore[union-attr]
        if batch_idx + 1 == trainer.num_training_batches:  # later there are no gradients
            self._dead = dead_weights(module.generator)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, PhysicsSupervised)
        module.stop_if_diverged()
        epoch = trainer.current_epoch + 1
        rows = torch.stack([row for _, row in self._pending]).double().tolist()
        self._keep_steps(epoch, rows)
        val_loss = float(trainer.callback_metrics["val_loss"])
        losses, norms, clipped = (list(column) for column in zip(*rows, strict=True))
        entry = {
            "epoch": epoch,
            "step": trainer.global_step,
            "train_loss": sum(n * loss for n, loss in zip(self._sizes, losses, strict=True))
            / sum(self._sizes),
            "val_loss": val_loss,
            "val_ssim": _if_there(trainer.callback_metrics.get("val_ssim")),
            "learning_rate": self._learning_rate,
            "grad_norm_median": statistics.median(norms),
            "grad_norm_max": max(norms),
            "grad_norm_clipped_max": max(clipped),
            "clipped_fraction": sum(
                after < before * (1 - CLIPPED) for before, after in zip(norms, clipped, strict=True)
            )
            / len(norms),
            "pred_amp_std": module.predicted_amplitude_std(),
            "explained": 1 - val_loss / self.flat_baseline,
            "pred_contrast": module.predicted_contrast(),
            "dead_weights": self._dead,
            "seconds": self._seconds(),
        }
        for key in KEYS:
            self.epochs[key].append(entry[key])
        self._pending, self._sizes = [], []
        if trainer.is_global_zero:
            self.write()
        for logger in trainer.loggers:
            known = {key: entry[key] for key in KEYS[1:] if entry[key] is not None}
            logger.log_metrics(known, step=epoch)
        if not math.isfinite(val_loss):
            raise Diverged(f"validation loss is not finite in epoch {epoch}")

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        """Keep the steps that led to a divergence, the one that was not taken included."""
        if not isinstance(exception, Diverged):
            return
        assert isinstance(module, PhysicsSupervised)
        if "grad_norm_clipped" not in module.step_record:
            record = {"grad_norm": torch.nan, "grad_norm_clipped": torch.nan, **module.step_record}
            row = torch.stack([torch.as_tensor(record[key]).cpu() for key in STEP_KEYS[2:]])
            self._pending.append((trainer.global_step + 1, row))
        rows = [row.double().tolist() for _, row in self._pending]
        # What came after the first step that was not taken was not taken either.
        finite = [all(map(math.isfinite, row[:2])) for row in rows]
        taken = rows[: finite.index(False) + 1] if False in finite else rows
        self._pending = self._pending[: len(taken)]
        self._keep_steps(trainer.current_epoch + 1, taken)
        if trainer.is_global_zero:
            self.write()

    def _keep_steps(self, epoch: int, rows: list[list[float]]) -> None:
        self.steps += [[epoch, step, *row] for (step, _), row in zip(self._pending, rows, strict=True)]
        self._pending = []

    def write(self) -> None:
        """Write history.json and grad_norms.csv."""
        artifacts.write_json(self.run_dir / artifacts.HISTORY, self.epochs)
        path = self.run_dir / artifacts.GRAD_NORMS
        with artifacts.atomic_path(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(STEP_KEYS)
            writer.writerows(self.steps)

    def state_dict(self) -> dict[str, Any]:
        return {
            "epochs": self.epochs,
            "steps": self.steps,
            "pending": self._pending,
            "sizes": self._sizes,
            "seconds": self._seconds() if self._started else 0.0,
            "learning_rate": self._learning_rate,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        unknown = [None] * len(state["epochs"]["epoch"])  # to whoever wrote it
        self.epochs = {key: state["epochs"].get(key, list(unknown)) for key in KEYS}
        self.steps = state["steps"]
        self._pending = [(step, row) for step, row in state["pending"]]
        self._sizes, self._learning_rate = state["sizes"], state["learning_rate"]
        self._seconds_before, self._started = state["seconds"], time.perf_counter()

    def _seconds(self) -> float:
        return self._seconds_before + time.perf_counter() - self._started


def _if_there(value: Tensor | None) -> float | None:
    return None if value is None else float(value)
