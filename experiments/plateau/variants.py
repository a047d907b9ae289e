"""Networks that start differently, for one question only: what keeps a network on the flat plateau?"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ptychofno.models import HybridUNOGenerator, PtychoBlock


class StartAtZero(HybridUNOGenerator):
    """Starts around the object O = 0, as torch's own initialisation has it, instead of O = 1."""

    def start_empty(self, output: nn.Conv2d) -> nn.Conv2d:
        return output


class LoudOutput(HybridUNOGenerator):
    """Starts around O = 1 with the weights of its last layer multiplied by ``gain``."""

    def __init__(self, *args: Any, gain: float, **settings: Any) -> None:
        super().__init__(*args, **settings)
        with torch.no_grad():
            self.head.weight.mul_(gain)


class ScaledBlock(PtychoBlock):
    """Spectral weights start multiplied by ``scale``."""

    def __init__(self, channels: int, modes: Any, scale: float) -> None:
        super().__init__(channels, modes)
        with torch.no_grad():
            self.spectral.weight.mul_(scale)
