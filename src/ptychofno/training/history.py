"""What a run records: one entry per epoch, and every step's loss and gradient norms."""

from __future__ import annotations

import csv
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from ptychofno.runs import artifacts
from ptychofno.training.module import Diverged, PhysicsSupervised

KEYS = (
    *("epoch", "step", "train_loss", "val_loss", "val_ssim", "learning_rate"),
    *("grad_norm_median", "grad_norm_max", "grad_norm_clipped_max", "clipped_fraction"),
    *("pred_amp_std", "explained", "pred_contrast", "dead_weights", "seconds"),
)
STEP_KEYS = ("epoch", "step", "loss", "grad_norm", "grad_norm_clipped")
# Relative change of the norm from which a step counts as clipped; rounding stays below.
CLIPPED = 1e-5


class History(L.Callback):
    """Collects the history and writes it after every epoch; travels with the checkpoint. Epochs count from 1.

    ``epochs`` holds one list per key of ``KEYS``, ``steps`` a row of ``STEP_KEYS`` per optimizer step, kept
    on the device and read once an epoch. ``learning_rate`` is the largest of the epoch; ``explained`` the
    share of the flat object's loss that is taken away; ``dead_weights`` those of the last step.
    """

    def __init__(self, run_dir: Path, flat_baseline: float) -> None:
        self.run_dir, self.flat_baseline = run_dir, flat_baseline
        self.epochs: dict[str, list[Any]] = {key: [] for key in KEYS}
        self.steps: list[list[float]] = []
        self._pending: list[tuple[int, Tensor]] = []
        self._sizes: list[int] = []
        self._seconds_before = self._started = self._learning_rate = 0.0
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
        row = torch.stack([module.step_record[key] for key in STEP_KEYS[2:]])
        self._pending.append((trainer.global_step, row))
        self._sizes.append(trainer.train_dataloader.size(batch_idx))  # type: ignore[union-attr]
        if batch_idx + 1 == trainer.num_training_batches:  # later there are no gradients
            self._dead = dead_weights(module.generator)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, PhysicsSupervised)
        module.stop_if_diverged()
        entry = self._of_epoch(trainer, module)
        for key in KEYS:
            self.epochs[key].append(entry[key])
        self._sizes = []
        if trainer.is_global_zero:
            self.write()
        for logger in trainer.loggers:
            known = {key: entry[key] for key in KEYS[1:] if entry[key] is not None}
            logger.log_metrics(known, step=entry["epoch"])
        if not math.isfinite(entry["val_loss"]):
            raise Diverged(f"validation loss is not finite in epoch {entry['epoch']}")

    def _of_epoch(self, trainer: L.Trainer, module: PhysicsSupervised) -> dict[str, Any]:
        epoch = trainer.current_epoch + 1
        rows = torch.stack([row for _, row in self._pending]).double().tolist()
        self._keep_steps(epoch, rows)
        losses, norms, clipped = (list(column) for column in zip(*rows, strict=True))
        total = sum(size * loss for size, loss in zip(self._sizes, losses, strict=True))
        cut = sum(after < before * (1 - CLIPPED) for before, after in zip(norms, clipped, strict=True))
        val_loss = float(trainer.callback_metrics["val_loss"])
        val_ssim = trainer.callback_metrics.get("val_ssim")
        return {
            "epoch": epoch,
            "step": trainer.global_step,
            "train_loss": total / sum(self._sizes),
            "val_loss": val_loss,
            "val_ssim": None if val_ssim is None else float(val_ssim),
            "learning_rate": self._learning_rate,
            "grad_norm_median": statistics.median(norms),
            "grad_norm_max": max(norms),
            "grad_norm_clipped_max": max(clipped),
            "clipped_fraction": cut / len(norms),
            "pred_amp_std": module.predicted_amplitude_std(),
            "explained": 1 - val_loss / self.flat_baseline,
            "pred_contrast": module.predicted_contrast(),
            "dead_weights": self._dead,
            "seconds": self._seconds(),
        }

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
        taken = finite.index(False) + 1 if False in finite else len(rows)
        self._pending = self._pending[:taken]
        self._keep_steps(trainer.current_epoch + 1, rows[:taken])
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
            csv.writer(file).writerows([STEP_KEYS, *self.steps])

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


class ValidationSimilarity(L.Callback):
    """Logs ``val_ssim`` after every validation: for the record, never for a choice.

    ``judge`` is given the complex patches (n, C, N, N) of all validation patterns, on the CPU; it returns
    None where they cannot be judged.
    """

    def __init__(self, judge: Callable[[Tensor], float | None]) -> None:
        self.judge = judge
        self._patches: list[Tensor] = []

    def on_validation_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, *which: Any
    ) -> None:
        self._patches.append(outputs.cpu())

    def on_validation_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        similarity = self.judge(torch.cat(self._patches))
        module.log("val_ssim", math.nan if similarity is None else similarity, logger=False)
        self._patches = []


def dead_weights(generator: nn.Module) -> float:
    """Share of the weights that the present gradient cannot move: theirs is exactly 0.

    0 in a network that learns. What lies before activations that are zero everywhere is cut off: such a
    network can only shift its output as a whole, towards the best flat object (experiments/fall).
    """
    weights = list(generator.parameters())
    moved = sum(int(weight.grad.count_nonzero()) for weight in weights if weight.grad is not None)
    return 1 - moved / sum(weight.numel() for weight in weights)
