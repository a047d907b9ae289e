"""Learning rate over epochs or steps.

A schedule is a function or class of ``(optimizer, …)`` that returns one of torch's schedulers, so that
torch's own serve as well. It is given ``epochs`` and ``steps_per_epoch`` where it has such parameters. It is
stepped after every epoch, with ``interval: step`` in its YAML file after every optimizer step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, LRScheduler, ReduceLROnPlateau
from typing_extensions import Doc

Floor = Annotated[float, Ge(0), Le(1), Doc("learning rate at the end, relative to the full one")]


@dataclass(frozen=True)
class Schedule:
    """A schedule with its settings. ``interval`` is ``epoch`` or ``step``: what it is stepped after."""

    make: Callable[..., Any]
    interval: str = "epoch"
    steps_per_epoch: int = 1

    def __call__(self, optimizer: Optimizer, epochs: int) -> Any:
        """The scheduler of a run of so many epochs."""
        length = {"epochs": epochs, "steps_per_epoch": self.steps_per_epoch}
        taken = signature(self.make).parameters.keys() & length.keys()
        return self.make(optimizer, **{name: length[name] for name in taken})


def constant(optimizer: Optimizer) -> LRScheduler:
    """The same learning rate throughout."""
    return LambdaLR(optimizer, lambda epoch: 1.0)


def exponential(
    optimizer: Optimizer,
    gamma: Annotated[float, Gt(0), Le(1), Doc("factor on the learning rate after every epoch")] = 0.95,
) -> LRScheduler:
    """lr · gamma^epoch."""
    return ExponentialLR(optimizer, gamma)


def build_warmup_cosine_scheduler(
    optimizer: Optimizer, total_epochs: int, warmup_epochs: int, min_lr_ratio: float
) -> LRScheduler:
    """Linear from a tenth of the learning rate over ``warmup_epochs`` (below 0: none), then half a cosine.

    The floor ``min_lr_ratio`` · lr is reached with the step after the last epoch. The numbers of torch's
    SequentialLR of LinearLR and CosineAnnealingLR, in closed form: it restores exactly and serves parameter
    groups of different learning rates. Stepped after every step, epochs are steps.
    """
    warmup_epochs = max(0, warmup_epochs)
    decay_epochs = max(1, total_epochs - warmup_epochs)

    def factor(epoch: int) -> float:
        if epoch < warmup_epochs:
            return 0.1 + 0.9 * epoch / warmup_epochs
        progress = min(1.0, (epoch - warmup_epochs) / decay_epochs)
        return min_lr_ratio + (1 - min_lr_ratio) * (1 + math.cos(math.pi * progress)) / 2

    return LambdaLR(optimizer, factor)


def warmup_cosine(
    optimizer: Optimizer,
    epochs: int,
    warmup_epochs: Annotated[int, Ge(0), Doc("epochs of warm-up from a tenth of the learning rate")] = 5,
    min_ratio: Floor = 0.05,
) -> LRScheduler:
    """See ``build_warmup_cosine_scheduler``."""
    return build_warmup_cosine_scheduler(optimizer, epochs, warmup_epochs, min_ratio)


def warmup_cosine_steps(
    optimizer: Optimizer,
    epochs: int,
    steps_per_epoch: int,
    warmup_steps: Annotated[int, Ge(0), Doc("steps of warm-up from a tenth of the learning rate")] = 10,
    min_ratio: Floor = 0.01,
) -> LRScheduler:
    """``warmup_cosine`` of steps instead of epochs: its YAML file has ``interval: step``."""
    return build_warmup_cosine_scheduler(optimizer, epochs * steps_per_epoch, warmup_steps, min_ratio)


def plateau(
    optimizer: Optimizer,
    factor: Annotated[float, Gt(0), Lt(1), Doc("on the learning rate when validation loss stalls")] = 0.5,
    patience: Annotated[int, Ge(0), Doc("epochs without improvement before that")] = 2,
    min_lr: Annotated[float, Ge(0), Doc("never below this learning rate")] = 1e-5,
) -> LRScheduler:
    """Lower the learning rate by ``factor`` after ``patience`` epochs without a better validation loss."""
    return ReduceLROnPlateau(optimizer, factor=factor, patience=patience, min_lr=min_lr)


def follow_formula(scheduler: LRScheduler) -> None:
    """Let a schedule in closed form ask for the rate of the present epoch by its present formula.

    One that is taken up again asks for what it asked for last; in a run that is given more epochs, that was
    another formula.
    """
    if isinstance(scheduler, LambdaLR):
        rates = zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
        scheduler._last_lr = [base * factor(scheduler.last_epoch) for base, factor in rates]
        for group, rate in zip(scheduler.optimizer.param_groups, scheduler._last_lr, strict=True):
            group["lr"] = rate
