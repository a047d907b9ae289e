"""What tells a network that learns from one that sits on the flat plateau, at the rhythm of epochs.

Shapes: B batch, C patterns per sample, N pattern size.
"""

from __future__ import annotations

from torch import Tensor, nn


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


def dead_weights(generator: nn.Module) -> float:
    """Share of the weights that the present gradient cannot move: theirs is exactly 0.

    0 in a network that learns. What lies before activations that are zero everywhere is cut off: such a
    network can only shift its output as a whole, towards the best flat object (experiments/fall).
    """
    weights = list(generator.parameters())
    moved = sum(int(weight.grad.count_nonzero()) for weight in weights if weight.grad is not None)
    return 1 - moved / sum(weight.numel() for weight in weights)
