"""What tells a network that learns from one that sits on the flat plateau, at the rhythm of epochs.

Shapes: B batch, C patterns per sample, N pattern size.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import torch
from torch import Tensor, nn

SPIKE = 10.0
"""A step is a spike when its gradient norm is above this many times the median of those before it."""
SPIKE_WINDOW = 64
"""Steps whose median counts; with fewer than a quarter of them nothing is called a spike."""

KINDS = ("spectral", "local", "gain", "bias")
"""Weights of spectral layers; of convolutions and linear layers; any other, such as norm weights and
layerscales; biases."""


class Spread:
    """How much patterns differ from each other: their standard deviation, pixel by pixel."""

    def __init__(self) -> None:
        self._count = 0
        self._sums: tuple[Tensor, Tensor] | None = None

    def add(self, amplitude: Tensor) -> None:
        """Take (B, C, N, N) in."""
        # In double precision: on the plateau the variance is a small difference.
        amplitude = amplitude.detach().double().flatten(0, 1)
        sums = amplitude.sum(0), amplitude.square().sum(0)
        self._count += len(amplitude)
        self._sums = sums if self._sums is None else (self._sums[0] + sums[0], self._sums[1] + sums[1])

    def root_sum_square(self) -> float:
        """The root of the variance over all patterns so far, summed over pixels."""
        if self._sums is None:
            return 0.0
        mean, square = (one / self._count for one in self._sums)
        return float((square - mean.square()).clamp(min=0).sum().sqrt())


class UpdateRatios:
    """Norm of what one optimizer step changes, relative to the norm of what it changes, per kind."""

    def __init__(self, generator: nn.Module) -> None:
        self._kinds = kinds_of(generator)
        self._before: dict[str, list[Tensor]] = {}

    def before(self) -> None:
        """Keep the weights: one copy for the length of a step."""
        self._before = {
            kind: [weight.detach().clone() for weight in weights] for kind, weights in self._kinds.items()
        }

    def after(self) -> dict[str, float]:
        """The ratio of each kind that the network has."""
        found = {}
        for kind, earlier in self._before.items():
            changes = torch._foreach_sub([weight.detach() for weight in self._kinds[kind]], earlier)
            change, size = (nn.utils.get_total_norm(tensors) for tensors in (changes, earlier))
            found[kind] = float(change / size) if size > 0 else float("nan")
        self._before = {}
        return found


def dead_weights(generator: nn.Module) -> float:
    """Share of the weights that the present gradient cannot move: theirs is exactly 0.

    0 in a network that learns. What lies before activations that are zero everywhere is cut off: such a
    network can only shift its output as a whole, towards the best flat object (experiments/fall).
    """
    weights = list(generator.parameters())
    moved = sum(int(weight.grad.count_nonzero()) for weight in weights if weight.grad is not None)
    return 1 - moved / sum(weight.numel() for weight in weights)


def kinds_of(module: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The parameters of each of ``KINDS`` that ``module`` has."""
    found: dict[str, list[nn.Parameter]] = {kind: [] for kind in KINDS}
    for layer in module.modules():
        local = isinstance(layer, (nn.modules.conv._ConvNd, nn.Linear))
        for name, parameter in layer.named_parameters(recurse=False):
            if name == "bias":
                kind = "bias"
            elif local:
                kind = "local"
            else:
                kind = "spectral" if name in getattr(layer, "output_axes", {}) else "gain"
            found[kind].append(parameter)
    return {kind: parameters for kind, parameters in found.items() if parameters}


def spikes(norms: Sequence[float], first: int) -> int:
    """How many of the gradient norms from index ``first`` on are spikes against those before them."""
    count = 0
    for index in range(max(first, SPIKE_WINDOW // 4), len(norms)):
        before = [norm for norm in norms[max(0, index - SPIKE_WINDOW) : index] if math.isfinite(norm)]
        count += bool(before) and norms[index] > SPIKE * statistics.median(before)
    return count
