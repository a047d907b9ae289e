"""Blocks that newer work suggests, subclasses of ours; see README.md."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ptychofno.models import PtychoBlock
from ptychofno.models.blocks import InstanceNorm2d


class PreNormBlock(PtychoBlock):
    """x + GELU(Spectral(n) + Conv3×3(n)), n = InstanceNorm(x): normalise what goes in (Xiong et al. 2020)."""

    def __init__(self, channels: int, modes: Any) -> None:
        super().__init__(channels, modes)
        self.norm = InstanceNorm2d(channels, eps=1e-5, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.update(self.norm(x))


class GainBlock(PtychoBlock):
    """x + γ · GELU(Spectral(x) + Conv3×3(x)): a gain per channel on the update as it is, without a norm."""

    def __init__(self, channels: int, modes: Any, gain: float) -> None:
        super().__init__(channels, modes)
        self.gain = nn.Parameter(torch.full((channels, 1, 1), gain))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gain * self.update(x)


class DepthScaledBlock(PtychoBlock):
    """The plain block, both branches started smaller by the square root of the depth (Zhang et al. 2019)."""

    def __init__(self, channels: int, modes: Any, depth: int) -> None:
        super().__init__(channels, modes)
        with torch.no_grad():
            for weight in self.parameters():
                weight.mul_(depth**-0.5)
