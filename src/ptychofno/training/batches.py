"""Batches from tensors that already lie on the device: no worker processes, no copies.

Shapes: n samples, B batch of all processes together, C patterns per sample, N pattern size. A batch is the
amplitudes (B, C, N, N); where C > 1, these and the patterns' positions (B, C, 2) in pixels. Of a thinned
batch a network takes one part of the photons, and the loss the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

Whole = Tensor | tuple[Tensor, ...]


class Thinned(NamedTuple):
    """What a network sees of a batch, and the amplitudes (B, C, N, N) of the photons it does not see."""

    seen: Whole
    unseen: Tensor


Batch = Whole | Thinned


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
    return Thinned(seen, function(batch.unseen)) if isinstance(batch, Thinned) else seen


@dataclass(frozen=True)
class Thinning:
    """Split counts n = s² X² binomially: n₁ ~ B(n, p) are seen, n - n₁ are left to compare with.

    Parts of Poisson counts are independent Poisson counts, so that noise that is seen explains none of the
    noise that is left. Both are in units of the full dose, X₁ = sqrt(n₁ / p) / s; ``share`` is p,
    ``photon_scale`` s. GR2R for Poisson noise (Monroy et al. 2024, arXiv 2412.04648), and before that
    Noisier2Noise by thinning.
    """

    share: float
    photon_scale: float

    def __call__(self, batch: Batch, seed: int, *place: int) -> Thinned:
        """The split of a batch. It depends on ``seed`` and ``place``, the batch's among all, alone."""
        amplitude, *positions = parts(batch)
        stream = np.random.SeedSequence(seed, spawn_key=place).generate_state(1, np.uint64)
        generator = torch.Generator(amplitude.device).manual_seed(int(stream[0]))
        # float32 would not hold the counts of bright pixels.
        counts = (self.photon_scale * amplitude.double()).square().round()
        seen = torch.binomial(counts, torch.full_like(counts, self.share), generator)
        shown, unseen = (
            ((part / share).sqrt() / self.photon_scale).to(amplitude.dtype)
            for part, share in ((seen, self.share), (counts - seen, 1 - self.share))
        )
        return Thinned((shown, *positions), unseen)


class ResidentBatches:
    """Slices of resident ``samples``, reshuffled every epoch; in their order where ``seed`` is None.

    The order of an epoch depends on (seed, epoch) alone, so that a resumed run sees what an uninterrupted one
    would have seen. The training loop tells ``start_epoch`` and ``consumed``, the batches already trained on.
    Of every batch, the part of process ``rank`` of ``processes`` is shown. Where a last batch has too few
    samples for all, one of another process is shown with weight 0, as every process has to take part in every
    step. ``thin`` splits every batch anew in every epoch.
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
        thin: Thinning | None = None,
    ) -> None:
        self.samples, self.batch_size = samples, batch_size
        self.count, self.device = len(parts(samples)[0]), parts(samples)[0].device
        self.seed, self.drop_last = seed, drop_last
        self.rank, self.processes, self.thin = rank, processes, thin
        self.epoch = self.consumed = self._first = 0

    def start_epoch(self, epoch: int) -> None:
        """Take the order of ``epoch`` and nothing of it as consumed."""
        self.epoch, self.consumed = epoch, 0

    def __len__(self) -> int:
        batches = self.count / self.batch_size
        return math.floor(batches) if self.drop_last else math.ceil(batches)

    def __iter__(self) -> Iterator[Batch]:
        first, self._first = self._first, 0
        order = None
        if self.seed is not None:
            permutation = np.random.default_rng((self.seed, self.epoch)).permutation(self.count)
            order = torch.from_numpy(permutation).to(self.device)
        for index in range(first, len(self)):
            begin, (start, stop) = index * self.batch_size, self._part(index)
            stop = max(stop, start + 1)
            if self.thin is None or self.seed is None:
                yield self._shown(order, start, stop)
            else:  # all of the batch, so that a split does not depend on the number of processes
                whole = self._shown(order, begin, begin + self.size(index))
                yield at(self.thin(whole, self.seed, self.epoch, index), slice(start - begin, stop - begin))

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

    def _shown(self, order: Tensor | None, start: int, stop: int) -> Batch:
        return at(self.samples, slice(start, stop) if order is None else order[start:stop])

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "consumed": self.consumed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch = state["epoch"]
        self._first = self.consumed = state["consumed"]
