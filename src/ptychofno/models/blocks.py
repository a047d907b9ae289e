"""Residual Fourier blocks. A new one is a class ``(channels, modes, …)`` and a YAML file."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Doc

from ptychofno.models.layout import is_channels_last
from ptychofno.models.spectral import Band, SpectralConv2d


class SpatialLifter(nn.Module):
    """Conv3×3 → GELU → Conv3×3: local features before the first Fourier layer.

    (B, in_channels, H, W) to (B, out_channels, H, W).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.gelu(self.first(x)))


class PtychoBlock(nn.Module):
    """x + GELU(Spectral(x) + Conv3×3(x)), shape (B, channels, H, W).

    Args:
        channels: of input and output.
        modes: Fourier modes per axis, or (rows, columns), or the band of a grid; see ``SpectralConv2d``.
    """

    def __init__(self, channels: int, modes: int | tuple[int, int] | Band) -> None:
        super().__init__()
        self.spectral = SpectralConv2d(channels, channels, modes)
        self.local = nn.Conv2d(channels, channels, 3, padding=1)

    def update(self, x: Tensor) -> Tensor:
        """What the block adds to its input, before any normalisation."""
        return F.gelu(self.spectral(x) + self.local(x))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.update(x)


class InstanceNorm2d(nn.InstanceNorm2d):
    """torch's, which answers channels_last in the other layout; there it is written out."""

    def forward(self, x: Tensor) -> Tensor:
        if not is_channels_last(x):
            return super().forward(x)
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2).to(self.weight.dtype)
        centred = pixels - pixels.mean(1, keepdim=True)
        scale = (centred.square().mean(1, keepdim=True) + self.eps).rsqrt()
        normed = torch.addcmul(self.bias, centred, scale * self.weight)
        return normed.to(x.dtype).unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)


class PointwiseConv2d(nn.Conv2d):
    """A 1×1 convolution. In channels_last it is a matrix product, for few channels a faster one."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        if not is_channels_last(x):
            return super().forward(x)
        return F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class StablePtychoBlock(PtychoBlock):
    """x + γ · InstanceNorm(GELU(Spectral(x) + Conv3×3(x))): normalise last, start near the identity.

    Args:
        channels, modes: as in ``PtychoBlock``.
        layerscale_init: initial value of the gain γ per channel (Touvron et al. 2021, CaiT); the
            norm then starts at weight 1. ``None`` drops γ and starts norm weight and bias at 0
            (Goyal et al. 2017), an exact identity.
    """

    def __init__(
        self,
        channels: int,
        modes: int | tuple[int, int] | Band,
        layerscale_init: Annotated[
            float | None,
            Gt(0),
            Doc("initial gain of the update per channel; null for none, the norm then starts at 0"),
        ] = 1e-3,
    ) -> None:
        super().__init__(channels, modes)
        self.norm = InstanceNorm2d(channels, eps=1e-5, affine=True)
        self.layerscale: nn.Parameter | None = None
        if layerscale_init is None:
            nn.init.zeros_(self.norm.weight)
        else:
            self.layerscale = nn.Parameter(torch.full((channels, 1, 1), layerscale_init))

    def forward(self, x: Tensor) -> Tensor:
        update = self.norm(self.update(x))
        return x + update if self.layerscale is None else x + self.layerscale * update


class ConvBlock(nn.Module):
    """x + GELU(Conv3×3(GELU(Conv3×3(x)))): the convolutional counterpart without Fourier layers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.gelu(self.second(F.gelu(self.first(x))))
