"""Batches from tensors that already lie on the device: no worker processes, no copies.

Shapes: n samples, B batch of all processes together, C patterns per sample, N pattern size. A batch is the
amplitudes (B, C, N, N); where C > 1, these and the patterns' positions (B, C, 2) in pixels. Of a thinned
batch a network takes one part of the photons, and the loss the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

Whole = Tensor | tuple[Tensor, ...]


class Thinned(NamedTuple):
    """What a network sees of a batch, and the amplitudes (B, C, N, N) of the photons it does not see."""

    seen: Whole
    unseen: Tensor


Batch = Whole | Thinned


class Thin(Protocol):
    """A split of the photons of a batch that depends on ``seed`` and ``place`` alone; see ``thinning``."""

    def __call__(self, batch: Batch, seed: int, *place: int) -> Thinned: ...


def parts(batch: Batch) -> tuple[Tensor, ...]:
    """What a network takes of a batch: amplitudes, and positions where there are some."""
    seen = batch.seen if isinstance(batch, Thinned) else batch
    return (seen,) if isinstance(seen, Tensor) else tuple(seen)


def compared(batch: Batch) -> Tensor:
    """The amplitudes that a loss compares with: those that are seen, unless the batch is thinned."""
    return batch.unseen if isinstance(batch, Thinned) else parts(batch)[0]


def at(samples: Batch, index: slice | Tensor) -> Batch:
    """Some of the samples."""
    return each_of(samples, lambda one: one[index])


def each_of(batch: Batch, function: Callable[[Tensor], Tensor]) -> Batch:
    """``function`` of every tensor of a batch."""
    if isinstance(batch, Tensor):
        return function(batch)
    seen = tuple(map(function, parts(batch)))
    if isinstance(batch, Thinned):
        return Thinned(seen, function(batch.unseen))
    return seen


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
        thin: splits every batch anew in every epoch; needs a seed. None shows batches as they are.
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
        thin: Thin | None = None,
    ) -> None:
        self.samples, self.batch_size = samples, batch_size
        self.count, self.device = len(parts(samples)[0]), parts(samples)[0].device
        self.seed, self.drop_last = seed, drop_last
        self.rank, self.processes, self.thin = rank, processes, thin
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
            if self.thin is None or self.seed is None:
                yield at(self.samples, part if order is None else order[part])
            else:  # all of the batch, so that a split does not depend on the number of processes
                begin = index * self.batch_size
                whole = slice(begin, begin + self.size(index))
                batch = at(self.samples, whole if order is None else order[whole])
                thinned = self.thin(batch, self.seed, self.epoch, index)
                yield at(thinned, slice(part.start - begin, part.stop - begin))

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
