"""How like the truth the validation object is, epoch by epoch: for the record, never for a choice."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from torch import Tensor


class ValidationSimilarity(L.Callback):
    """Logs ``val_ssim`` after every validation.

    Args:
        judge: of the complex patches (n, C, N, N) predicted for all validation patterns, on the CPU;
            None where they cannot be judged.
    """

    def __init__(self, judge: Callable[[Tensor], float | None]) -> None:
        self.judge = judge
        self._patches: list[Tensor] = []

    def on_validation_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._patches = []

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._patches.append(outputs.cpu())

    def on_validation_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        similarity = self.judge(torch.cat(self._patches))
        module.log("val_ssim", math.nan if similarity is None else similarity, logger=False)
        self._patches = []
