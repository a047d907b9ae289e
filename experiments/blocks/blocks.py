"""A block that newer work suggests, a subclass of ours; see README.md."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ptychofno.models import PtychoBlock
from ptychofno.models.blocks import InstanceNorm2d


class PreNormBlock(PtychoBlock):
    """x + GELU(Spectral(n) + Conv3×3(n)), n = InstanceNorm(x): normalise what goes in (Xiong et al. 2020)."""

    def __init__(self, channels: int, modes: Any) -> None:
        super().__init__(channels, modes)
        self.norm = InstanceNorm2d(channels, eps=1e-5, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.update(self.norm(x))
