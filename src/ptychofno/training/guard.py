"""Going back to where training was good, and on from there at a lower learning rate.

A guard is a frozen dataclass of settings called as ``guard(flat_baseline)``; the callback that it
returns watches one run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import lightning as L
import numpy as np
import torch
from annotated_types import Ge, Gt, Le, Lt
from numpy.lib.stride_tricks import sliding_window_view
from typing_extensions import Doc

from ptychofno.runs.stats import FLAT_ABOVE, LEFT_PLATEAU_BELOW
from ptychofno.training.module import PhysicsSupervised
from ptychofno.training.schedules import scale_learning_rate

Step = Sequence[float]
"""Epoch, step, loss, gradient norm before clipping, and after it."""


class Guard(Protocol):
    """One way of guarding a run. ``flat_baseline`` is the validation loss of the best flat object."""

    def __call__(self, flat_baseline: float) -> Watch: ...


class Watch(L.Callback):
    """What the guard of one run does: nothing.

    ``interventions`` holds plain values, one entry each: ``epoch`` and ``step`` of what was noticed, the
    ``reason``, and the ``learning_rate_factor`` from then on. ``news`` is a line on the epoch that has just
    ended, where there was one.
    """

    def __init__(self) -> None:
        self.interventions: list[dict[str, Any]] = []
        self.news: str | None = None

    def judge(self, steps: Sequence[Step], val_loss: float) -> None:
        """Hear of an epoch that has ended: its steps, as far as they were taken, and what came of them."""


@dataclass(frozen=True)
class NoGuard:
    """Let every run take its course."""

    def __call__(self, flat_baseline: float) -> Watch:
        return Watch()


@dataclass(frozen=True)
class RollbackGuard:
    """Return to the last good state; see ``Rollback``.

    Args:
        lr_factor: on the learning rate, once more with every intervention.
        max_interventions: what happens after that many is left to its course.
        spike_factor: times the median of the ``spike_window`` steps before, a step is a spike.
    """

    lr_factor: Annotated[float, Gt(0), Lt(1), Doc("factor on the learning rate with every return")] = 0.5
    max_interventions: Annotated[int, Ge(1), Le(1000), Doc("returns at most")] = 3
    spike_factor: Annotated[float, Gt(1), Doc("times the median of the steps before: a spike")] = 20.0
    spike_window: Annotated[int, Ge(3), Le(100_000), Doc("steps of that median")] = 100

    def __call__(self, flat_baseline: float) -> Watch:
        return Rollback(self, flat_baseline)


class Rollback(Watch):
    """Takes back an epoch in which one of these happened:

    - not finite: the loss or gradient norm of a step, or the validation loss. From such a step on the
      epoch changes nothing, as no optimizer steps; it is validated as it is.
    - spike: the loss of a step, or its gradient norm before clipping, is more than ``spike_factor`` times
      the median of the ``spike_window`` steps before it in this epoch and in good ones. While there are
      fewer, as at the start of a run, nothing is a spike.
    - fall-back: the validation loss is above 0.9 of the flat object's, after that of a good epoch was
      below 0.8 of it.

    A good epoch is one in which none of them happened. The next epoch then starts from weights, their
    average and optimizer state as of the end of the last good epoch (or of the beginning), with the
    learning rate that the schedule asks for times ``lr_factor`` to the power of the interventions so far.
    The epoch counts as one of the run's, and schedule and order of the data go on. After
    ``max_interventions``, and in the last epoch, from which nothing could go on, a run is left to its
    course: it diverges at the first value that is not finite.
    """

    def __init__(self, settings: RollbackGuard, flat_baseline: float) -> None:
        super().__init__()
        self.settings, self.flat_baseline = settings, flat_baseline
        self._recent: list[list[float]] = []  # loss and gradient norm of the last steps of good epochs
        self._left_plateau = False
        self._good: dict[str, Any] | None = None
        self._returning = self._armed = self._within_epoch = False

    @property
    def learning_rate_factor(self) -> float:
        return self.settings.lr_factor ** len(self.interventions)

    # --- going back --------------------------------------------------------------------------

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, PhysicsSupervised)
        module.learning_rate_factor = self.learning_rate_factor
        self._arm(trainer, module)

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, PhysicsSupervised)
        if self._returning:
            self._return(trainer, module)
        self._within_epoch = False
        self._arm(trainer, module)
        self._good = _state_of(trainer, module) if self._armed else None

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._within_epoch = True

    def _arm(self, trainer: L.Trainer, module: PhysicsSupervised) -> None:
        """Whether this epoch may be taken back."""
        left = len(self.interventions) < self.settings.max_interventions
        self._armed = module.forgiving = left and trainer.current_epoch + 1 < (trainer.max_epochs or 0)

    def _return(self, trainer: L.Trainer, module: PhysicsSupervised) -> None:
        assert self._good is not None
        self._returning = False
        module.not_finite.zero_()
        module.load_state_dict(self._good["module"])
        # Of the optimizer its memory alone: the parameter groups hold the learning rate.
        (optimizer,) = trainer.optimizers
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": self._good["optimizer"], "param_groups": groups})
        module.learning_rate_factor = self.learning_rate_factor
        scale_learning_rate(trainer.lr_scheduler_configs[0].scheduler, self.learning_rate_factor)

    # --- noticing ----------------------------------------------------------------------------

    def judge(self, steps: Sequence[Step], val_loss: float) -> None:
        self.news = None
        if not self._armed:
            return
        noticed = self._not_finite(steps, val_loss) or self._spike(steps) or self._fall_back(steps, val_loss)
        if noticed is None:
            self._remember(steps, val_loss)
        else:
            self._intervene(int(steps[-1][0]), *noticed)

    def _not_finite(self, steps: Sequence[Step], val_loss: float) -> tuple[int, str] | None:
        for _, step, loss, norm, _ in steps:
            if not (math.isfinite(loss) and math.isfinite(norm)):
                return int(step), f"not finite: {'gradient norm' if math.isfinite(loss) else 'loss'}"
        return None if math.isfinite(val_loss) else (int(steps[-1][1]), "not finite: validation loss")

    def _spike(self, steps: Sequence[Step]) -> tuple[int, str] | None:
        """The first of the epoch."""
        series = np.array([*self._recent, *([loss, norm] for _, _, loss, norm, _ in steps)])
        window = self.settings.spike_window
        if len(series) <= window:
            return None
        medians = np.median(sliding_window_view(series[:-1], window, axis=0), axis=-1)
        times = series[window:] / np.maximum(medians, np.finfo(float).tiny)
        found = np.argwhere(times > self.settings.spike_factor)
        if not len(found):
            return None
        row, column = found[0]
        step = steps[window - len(self._recent) + row][1]
        value, name = series[window + row, column], ("loss", "gradient norm")[column]
        return int(step), f"spike: {name} {value:.3g}, {times[row, column]:.3g} times the median before"

    def _fall_back(self, steps: Sequence[Step], val_loss: float) -> tuple[int, str] | None:
        if not self._left_plateau or val_loss <= FLAT_ABOVE * self.flat_baseline:
            return None
        reason = (
            f"fall-back: validation loss {val_loss:.4g}, that of a flat object is {self.flat_baseline:.4g}"
        )
        return int(steps[-1][1]), reason

    def _remember(self, steps: Sequence[Step], val_loss: float) -> None:
        """What a good epoch is measured by later."""
        self._recent += [[loss, norm] for _, _, loss, norm, _ in steps]
        del self._recent[: -self.settings.spike_window]
        self._left_plateau |= val_loss < LEFT_PLATEAU_BELOW * self.flat_baseline

    def _intervene(self, epoch: int, step: int, reason: str) -> None:
        """Put it on record; the next epoch begins with the return."""
        self._returning = True
        entry = {"epoch": epoch, "step": step, "reason": reason}
        self.interventions.append(entry)
        entry["learning_rate_factor"] = self.learning_rate_factor
        self.news = (
            f"epoch {epoch}, step {step}: {reason}; back to the last good state, learning rate times "
            f"{self.learning_rate_factor:g} (intervention {len(self.interventions)} of "
            f"{self.settings.max_interventions})"
        )

    # --- resuming ----------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        return {
            "interventions": self.interventions,
            "recent": self._recent,
            "left_plateau": self._left_plateau,
            # Between epochs it is what the checkpoint holds anyway.
            "good": self._good if self._within_epoch else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.interventions, self._recent = state["interventions"], state["recent"]
        self._left_plateau, self._good = state["left_plateau"], state["good"]
        self._within_epoch = self._good is not None


def _state_of(trainer: L.Trainer, module: PhysicsSupervised) -> dict[str, Any]:
    (optimizer,) = trainer.optimizers
    state = {"module": module.state_dict(), "optimizer": optimizer.state_dict()["state"]}
    return {name: _copied(value) for name, value in state.items()}


def _copied(value: Any) -> Any:
    """The same on the CPU, sharing nothing."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copied(entry) for key, entry in value.items()}
    return value
