"""Training and validation patterns on the device on which the network is trained."""

from __future__ import annotations

import lightning as L

from ptychofno.training.batches import Batch, ResidentBatches, Thinning, each_of


class ResidentData(L.LightningDataModule):
    """Training and validation patterns, moved to the device once and kept there.

    Every process that trains has all of them on its device, and takes its part of every training batch.

    Args:
        train, validation: all samples of each, as one batch.
        batch_size: patterns per step. drop_last: drop the last partial training batch.
        seed: of the order of the training patterns, and of what ``thin`` does to them.
        thin: see ``ResidentBatches``. Validation patterns are split once, whatever the seed.
    """

    trainer: L.Trainer

    def __init__(
        self,
        train: Batch,
        validation: Batch,
        batch_size: int,
        drop_last: bool,
        seed: int,
        thin: Thinning | None = None,
    ) -> None:
        super().__init__()
        self.train = train
        self.validation = validation if thin is None else thin(validation, 0)
        self.batch_size, self.drop_last, self.seed, self.thin = batch_size, drop_last, seed, thin

    def train_dataloader(self) -> ResidentBatches:
        return ResidentBatches(
            self._here(self.train),
            self.batch_size,
            seed=self.seed,
            drop_last=self.drop_last,
            rank=self.trainer.global_rank,
            processes=self.trainer.world_size,
            thin=self.thin,
        )

    def val_dataloader(self) -> ResidentBatches:
        size = max(self.batch_size, 32)
        return ResidentBatches(self._here(self.validation), size, seed=None, drop_last=False)

    def _here(self, samples: Batch) -> Batch:
        device = self.trainer.strategy.root_device
        return each_of(samples, lambda one: one.to(device))
