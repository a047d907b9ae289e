"""What published runs did differently, one at a time; see README.md."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from ptychofno.models import HybridUNOGenerator, PtychoBlock, StablePtychoBlock
from ptychofno.models.blocks import SpatialLifter
from ptychofno.models.spectral import SpectralConv2d, pack
from ptychofno.training.losses import MAELoss


class GainedMAELoss(MAELoss):
    """The predicted amplitude times the size of the batch; that of a partial last batch is smaller.

    ``batch_size`` is that of a whole batch, which also holds in validation.
    """

    def __init__(self, batch_size: int, **scales: float) -> None:
        super().__init__(**scales)
        self.batch_size = batch_size

    def forward(self, predicted: Tensor, measured: Tensor) -> Tensor:
        gain = min(len(predicted), self.batch_size) if self.training else self.batch_size
        return super().forward(gain * predicted, measured)


class PositiveRowsBlock(PtychoBlock):
    """Fourier modes of non-negative row frequency only: half of the band."""

    def __init__(self, channels: int, modes: Any) -> None:
        super().__init__(channels, modes)
        _keep_positive_rows(self.spectral)


class StablePositiveRowsBlock(StablePtychoBlock):
    """The same in the norm-last block."""

    def __init__(self, channels: int, modes: Any, layerscale_init: float) -> None:
        super().__init__(channels, modes, layerscale_init)
        _keep_positive_rows(self.spectral)


class StartAtZero(HybridUNOGenerator):
    """The usual initialisation of the last layer: the first object is O = 0 and some noise."""

    def start_empty(self, output: nn.Conv2d) -> nn.Conv2d:
        return output


class FromWeights(HybridUNOGenerator):
    """Starts with the weights of a ``model.pt`` of the same network."""

    def __init__(self, *args: Any, weights: str, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True)["state_dict"])


class LeakyDecoder(HybridUNOGenerator):
    """Between the convolutions of every decoder stage a leaky ReLU, which has a slope everywhere."""

    def __init__(self, *args: Any, slope: float, **settings: Any) -> None:
        super().__init__(*args, **settings)
        for stage in self.decoder:
            stage.merge = _LeakyMerge(stage.merge, slope)


class _LeakyMerge(nn.Module):
    def __init__(self, merge: SpatialLifter, slope: float) -> None:
        super().__init__()
        self.first, self.second, self.slope = merge.first, merge.second, slope

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.leaky_relu(self.first(x), self.slope))


class _Masked(nn.Module):
    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        return self.mask * weight


def _keep_positive_rows(spectral: SpectralConv2d) -> None:
    band = spectral.band
    kept = torch.zeros(band.columns, band.rows, 2, 1, 1)
    kept[:, : (band.rows + 1) // 2] = 1.0
    parametrize.register_parametrization(spectral, "weight", _Masked(pack(kept, band)))
