"""Learning rate over epochs, and optimizers that need a word of their own.

A schedule is a frozen dataclass called as ``schedule(optimizer, total_epochs)``; the scheduler it
returns is stepped once after every epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, LRScheduler, ReduceLROnPlateau


class Schedule(Protocol):
    """One learning-rate schedule."""

    def __call__(self, optimizer: Optimizer, total_epochs: int) -> LRScheduler: ...


def build_warmup_cosine_scheduler(
    optimizer: Optimizer, total_epochs: int, warmup_epochs: int, min_lr_ratio: float
) -> LRScheduler:
    """Linear from a tenth of the learning rate over ``warmup_epochs`` (below 0: none), then half a cosine.

    The floor ``min_lr_ratio`` · lr is reached with the step after the last epoch, so that the last
    epoch still trains a little above it. The same numbers as torch's SequentialLR of LinearLR and
    CosineAnnealingLR, in closed form: it restores exactly and serves parameter groups of different
    learning rates.
    """
    warmup_epochs = max(0, warmup_epochs)
    decay_epochs = max(1, total_epochs - warmup_epochs)

    def factor(epoch: int) -> float:
        if epoch < warmup_epochs:
            return 0.1 + 0.9 * epoch / warmup_epochs
        progress = min(1.0, (epoch - warmup_epochs) / decay_epochs)
        return min_lr_ratio + (1 - min_lr_ratio) * (1 + math.cos(math.pi * progress)) / 2

    return LambdaLR(optimizer, factor)


@dataclass(frozen=True)
class ConstantSchedule:
    """The same learning rate throughout."""

    def __call__(self, optimizer: Optimizer, total_epochs: int) -> LRScheduler:
        return LambdaLR(optimizer, lambda epoch: 1.0)


@dataclass(frozen=True)
class ExponentialSchedule:
    """lr · gamma^epoch."""

    gamma: float

    def __call__(self, optimizer: Optimizer, total_epochs: int) -> LRScheduler:
        return ExponentialLR(optimizer, self.gamma)


@dataclass(frozen=True)
class WarmupCosineSchedule:
    """See ``build_warmup_cosine_scheduler``."""

    warmup_epochs: int
    min_ratio: float

    def __call__(self, optimizer: Optimizer, total_epochs: int) -> LRScheduler:
        return build_warmup_cosine_scheduler(optimizer, total_epochs, self.warmup_epochs, self.min_ratio)


@dataclass(frozen=True)
class PlateauSchedule:
    """Lower the learning rate by ``factor`` after ``patience`` epochs without a better validation loss."""

    factor: float
    patience: int
    min_lr: float

    def __call__(self, optimizer: Optimizer, total_epochs: int) -> LRScheduler:
        return ReduceLROnPlateau(optimizer, factor=self.factor, patience=self.patience, min_lr=self.min_lr)


def follow_formula(scheduler: LRScheduler) -> None:
    """Let a schedule in closed form ask for the rate of the present epoch by its present formula.

    One that is taken up again asks for what it asked for last; in a run that is given more epochs, that was
    another formula.
    """
    if isinstance(scheduler, LambdaLR):
        rates = zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
        scheduler._last_lr = [base * factor(scheduler.last_epoch) for base, factor in rates]


def scale_learning_rate(scheduler: LRScheduler, factor: float) -> None:
    """Give the optimizer ``factor`` times the learning rates that its scheduler last asked for."""
    for group, rate in zip(scheduler.optimizer.param_groups, scheduler.get_last_lr(), strict=True):
        group["lr"] = factor * rate


def sgd(parameters: Iterable[nn.Parameter], lr: float, momentum: float, weight_decay: float) -> SGD:
    """Stochastic gradient descent, in Nesterov's form whenever there is momentum."""
    return SGD(
        parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=momentum > 0, fused=True
    )
