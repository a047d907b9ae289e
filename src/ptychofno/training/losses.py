"""How far a predicted diffraction amplitude is from the measured one.

Shapes: A predicted and X measured amplitude, real (…, N, N), in the same units. Both losses are means
over all pixels divided by a constant of the training split: they do not change with batch size, photon
number or the unit of the amplitudes, and are 0 for the true object at infinite dose. A loss takes what it
needs of the data: ``mean_amplitude``, ``rms_amplitude`` and ``photon_scale`` of the training split, and
whether these are ``counts``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MAELoss(nn.Module):
    """mean |A - X| / mean X, the mean of X taken over the training split."""

    def __init__(self, mean_amplitude: float) -> None:
        super().__init__()
        self.mean_amplitude = mean_amplitude

    def forward(self, predicted: Tensor, measured: Tensor) -> Tensor:
        return (predicted - measured).abs().mean() / self.mean_amplitude


class PoissonLoss(nn.Module):
    """Negative log-likelihood of the counts n = s² X² at the rate r = s² A², per expected photon.

    mean(r - n - n log(r / n)) / mean n: the likelihood of Poisson counts (Thibault and Guizar-Sicairos
    2012, eq. 2) less its value at r = n, so that a perfect prediction scores 0. ``dark_counts`` is added
    to r and n alike: it keeps the logarithm finite where a prediction is dark and leaves the minimum at
    r = n.
    """

    dark_counts = 1.0

    def __init__(self, rms_amplitude: float, photon_scale: float, counts: bool = True) -> None:
        super().__init__()
        if not counts:
            raise ValueError("needs counts, and the file holds amplitudes; expected loss=mae")
        self.mean_intensity = rms_amplitude**2
        self.dark_intensity = self.dark_counts / photon_scale**2

    def forward(self, predicted: Tensor, measured: Tensor) -> Tensor:
        rate = predicted.square() + self.dark_intensity
        counts = measured.square() + self.dark_intensity
        excess = rate - counts - counts * torch.log(rate / counts)
        return excess.mean() / self.mean_intensity
