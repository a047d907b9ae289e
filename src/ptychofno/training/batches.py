"""Batches from tensors that already lie on the device: no worker processes, no copies.

Shapes: n samples, B batch of all processes together, C patterns per sample, N pattern size. A batch is the
amplitudes (B, C, N, N); where C > 1, these and the patterns' positions (B, C, 2) in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

Batch = Tensor | tuple[Tensor, Tensor]


def parts(batch: Batch) -> tuple[Tensor, ...]:
    """What a network takes of a batch: amplitudes, and positions where there are some."""
    return (batch,) if isinstance(batch, Tensor) else tuple(batch)


def at(samples: Batch, index: slice | Tensor) -> Batch:
    """Some of the samples."""
    return samples[index] if isinstance(samples, Tensor) else (samples[0][index], samples[1][index])


class ResidentBatches:
    """Slices of resident samples, reshuffled every epoch.

    The order of an epoch depends on (seed, epoch) alone, so that a resumed run sees what an
    uninterrupted one would have seen. The training loop tells ``start_epoch`` and ``consumed``;
    Lightning stores ``state_dict`` with a checkpoint.

    Args:
        samples: all of them as one batch.
        seed: None keeps the order of the tensor (validation).
        drop_last: drop the last batch of an epoch when it is not full.
        rank, processes: of every batch, the part of process ``rank`` of ``processes`` is shown. Where a
            last batch has too few samples for all, one that another process has is shown with weight 0,
            as every process has to take part in every step.
    """

    def __init__(
        self,
        samples: Batch,
        batch_size: int,
        *,
        seed: int | None,
        drop_last: bool,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.samples, self.batch_size = samples, batch_size
        self.count, self.device = len(parts(samples)[0]), parts(samples)[0].device
        self.seed, self.drop_last = seed, drop_last
        self.rank, self.processes = rank, processes
        self.epoch = 0
        self.consumed = 0  # batches of this epoch already trained on, told by the training loop
        self._first = 0

    def start_epoch(self, epoch: int) -> None:
        """Take the order of ``epoch`` and nothing of it as consumed."""
        self.epoch, self.consumed = epoch, 0

    def __len__(self) -> int:
        batches = self.count / self.batch_size
        return math.floor(batches) if self.drop_last else math.ceil(batches)

    def __iter__(self) -> Iterator[Batch]:
        first, self._first = self._first, 0
        order = self.order()
        for index in range(first, len(self)):
            start, stop = self._part(index)
            part = slice(start, max(stop, start + 1))
            yield at(self.samples, part if order is None else order[part])

    def size(self, index: int) -> int:
        """Samples of a batch, of all processes together."""
        return min(self.batch_size, self.count - index * self.batch_size)

    def weight(self, index: int) -> float:
        """Of this process's part, so that the mean of all parts' weighted means is the mean of the batch."""
        start, stop = self._part(index)
        return self.processes * (stop - start) / self.size(index)

    def _part(self, index: int) -> tuple[int, int]:
        """First sample and end of this process's part in the order of the epoch."""
        first, size = index * self.batch_size, self.size(index)
        start, stop = (first + size * part // self.processes for part in (self.rank, self.rank + 1))
        return start, stop

    def order(self) -> Tensor | None:
        """The permutation of this epoch, on the device."""
        if self.seed is None:
            return None
        permutation = np.random.default_rng((self.seed, self.epoch)).permutation(self.count)
        return torch.from_numpy(permutation).to(self.device)

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "consumed": self.consumed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch = state["epoch"]
        self._first = self.consumed = state["consumed"]


class ResidentData(L.LightningDataModule):
    """Training and validation patterns, moved to the device once and kept there.

    Every process that trains has all of them on its device, and takes its part of every training batch.

    Args:
        train, validation: all samples of each, as one batch.
        batch_size: patterns per step. drop_last: drop the last partial training batch.
        seed: of the order of the training patterns.
    """

    def __init__(self, train: Batch, validation: Batch, batch_size: int, drop_last: bool, seed: int) -> None:
        super().__init__()
        self.train, self.validation = train, validation
        self.batch_size, self.drop_last, self.seed = batch_size, drop_last, seed

    def train_dataloader(self) -> ResidentBatches:
        assert self.trainer is not None
        return ResidentBatches(
            self._here(self.train),
            self.batch_size,
            seed=self.seed,
            drop_last=self.drop_last,
            rank=self.trainer.global_rank,
            processes=self.trainer.world_size,
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
