"""Blocks that newer work suggests, each a subclass of ours; see README.md."""

from __future__ import annotations

import math
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


class PlainScaleBlock(PtychoBlock):
    """x + γ · GELU(Spectral(x) + Conv3×3(x)): a gain per channel without any norm (Touvron et al. 2021)."""

    def __init__(self, channels: int, modes: Any, layerscale_init: float) -> None:
        super().__init__(channels, modes)
        self.layerscale = nn.Parameter(torch.full((channels, 1, 1), layerscale_init))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layerscale * self.update(x)


class DepthScaledBlock(PtychoBlock):
    """The weights of the update start 1/sqrt(blocks) smaller, so that the sum of all updates keeps its size
    (Zhang, Dauphin and Ma 2019; Radford et al. 2019).
    """

    def __init__(self, channels: int, modes: Any, blocks: int) -> None:
        super().__init__(channels, modes)
        with torch.no_grad():
            for weight in (self.spectral.weight, self.local.weight):
                weight.div_(math.sqrt(blocks))
