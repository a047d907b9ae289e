"""Averages of the weights over the steps of training: smoother than the weights, and what is judged.

An averaging is a frozen dataclass of settings called as ``averaging(network)``.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from annotated_types import Gt, Lt
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from typing_extensions import Doc


class Averaging(Protocol):
    """One way of averaging the weights of ``network``; None where there is no average."""

    def __call__(self, network: nn.Module) -> WeightAverage | None: ...


@dataclass(frozen=True)
class NoAveraging:
    """The weights themselves are judged."""

    def __call__(self, network: nn.Module) -> None:
        return None


@dataclass(frozen=True)
class EmaAveraging:
    """The exponential moving average is judged; see ``WeightAverage``."""

    decay: Annotated[
        float,
        Gt(0),
        Lt(1),
        Doc("share of the average that a step keeps, at most: (1 + t)/(10 + t) of step t where that is less"),
    ] = 0.998

    def __call__(self, network: nn.Module) -> WeightAverage:
        return WeightAverage(network, self.decay)


class WeightAverage(nn.Module):
    """Exponential moving average of a network's weights (Polyak and Juditsky 1992, with fading memory).

    ``network`` is a second network, of average weights. They start as the weights do; with step t = 0, 1, …
    they go the share 1 - min(decay, (1 + t) / (10 + t)) of the way to the weights, so that the untrained
    ones are soon forgotten (the warm-up of TensorFlow's ExponentialMovingAverage). It lasts until step
    9 / (1 - decay) - 10; meanwhile the last ninth of the steps counts.

    The state dict holds all there is, t included. Neither torch's AveragedModel nor Lightning's callback for
    it: the one waits for the device at every step, the other has the weights back in place when the best
    ones are chosen.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.decay, self.steps = decay, 0

    def update(self, network: nn.Module) -> None:
        """Take the weights after one more step in."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        averages, weights = (list(module.parameters()) for module in (self.network, network))
        get_ema_multi_avg_fn(decay)(averages, weights, self.steps)
        self.steps += 1

    def get_extra_state(self) -> Any:
        return self.steps

    def set_extra_state(self, state: Any) -> None:
        self.steps = state
