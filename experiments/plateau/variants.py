"""Networks that start elsewhere, each with one change; see README.md."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ptychofno.models import HybridUNOGenerator, PtychoBlock


class StartAtZero(HybridUNOGenerator):
    """The usual initialisation of the last layer: the first object is O = 0 and some noise."""

    def start_empty(self, output: nn.Conv2d) -> nn.Conv2d:
        return output


class ScaledOutput(HybridUNOGenerator):
    """The weights of the last layer times ``output_scale``; the first object is O = 1 and that much noise."""

    def __init__(self, *args: Any, output_scale: float, **settings: Any) -> None:
        super().__init__(*args, **settings)
        with torch.no_grad():
            self.head.weight.mul_(output_scale)


class ScaledBlock(PtychoBlock):
    """The spectral weights times ``spectral_scale`` at the start."""

    def __init__(self, channels: int, modes: Any, spectral_scale: float) -> None:
        super().__init__(channels, modes)
        with torch.no_grad():
            self.spectral.weight.mul_(spectral_scale)
