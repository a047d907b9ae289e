"""Batches from tensors that already lie on the device: no worker processes, no copies.

Shapes: n samples, B batch of all processes together, C patterns per sample, N pattern size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor


class ResidentBatches:
    """Slices (B, C, N, N) of one resident tensor (n, C, N, N), reshuffled every epoch.

    The order of an epoch depends on (seed, epoch) alone, so that a resumed run sees what an
    uninterrupted one would have seen. The training loop tells ``start_epoch`` and ``consumed``;
    Lightning stores ``state_dict`` with a checkpoint.

    Args:
        seed: None keeps the order of the tensor (validation).
        drop_last: drop the last batch of an epoch when it is not full.
        rank, processes: of every batch, the part of process ``rank`` of ``processes`` is shown. Where a
            last batch has too few samples for all, one that another process has is shown with weight 0,
            as every process has to take part in every step.
    """

    def __init__(
        self,
        amplitude: Tensor,
        batch_size: int,
        *,
        seed: int | None,
        drop_last: bool,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.amplitude, self.batch_size = amplitude, batch_size
        self.seed, self.drop_last = seed, drop_last
        self.rank, self.processes = rank, processes
        self.epoch = 0
        self.consumed = 0  # batches of this epoch already trained on, told by the training loop
        self._first = 0

    def start_epoch(self, epoch: int) -> None:
        """Take the order of ``epoch`` and nothing of it as consumed."""
        self.epoch, self.consumed = epoch, 0

    def __len__(self) -> int:
        batches = len(self.amplitude) / self.batch_size
        return math.floor(batches) if self.drop_last else math.ceil(batches)

    def __iter__(self) -> Iterator[Tensor]:
        first, self._first = self._first, 0
        order = self.order()
        for index in range(first, len(self)):
            start, stop = self._part(index)
            part = slice(start, max(stop, start + 1))
            yield self.amplitude[part if order is None else order[part]]

    def size(self, index: int) -> int:
        """Samples of a batch, of all processes together."""
        return min(self.batch_size, len(self.amplitude) - index * self.batch_size)

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
        permutation = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.amplitude))
        return torch.from_numpy(permutation).to(self.amplitude.device)

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "consumed": self.consumed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch = state["epoch"]
        self._first = self.consumed = state["consumed"]
