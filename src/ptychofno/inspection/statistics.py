"""Statistics of feature maps, gathered batch by batch.

Shapes: B batch, C channels, H rows, W columns. Sums are kept in double precision; what has no value,
such as the share of a power that is 0, is NaN.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

QUANTILES = (0.5, 0.95, 0.99)
LOW_FREQUENCY = 0.125
"""Cycles per pixel: a quarter of the Nyquist frequency."""
_DRAWN = 2**17


class MapStatistics:
    """Statistics of maps (B, C, H, W) that come in any number of batches, all of the same C, H and W.

    Args:
        batches: how many will come; quantiles are over all values where these are few, else over some
            130 thousand drawn from all batches alike.
    """

    def __init__(self, batches: int = 1) -> None:
        self._drawn = max(1, _DRAWN // batches)
        self._generator = torch.Generator().manual_seed(0)
        self._sizes: list[Tensor] = []
        self._count = 0
        self._sums = self._products = self._power = torch.zeros(())
        self.shape = (0, 0, 0)

    def add(self, maps: Tensor) -> None:
        """Take one batch into account."""
        maps = maps.detach()
        B, C, H, W = maps.shape
        values = maps.double().transpose(0, 1).reshape(C, B * H * W)
        first = self._count == 0
        power = torch.fft.fft2(maps).abs().double().square().sum((0, 1)) / (H * W)
        self._sums = values.sum(1) if first else self._sums + values.sum(1)
        self._products = values @ values.T if first else self._products + values @ values.T
        self._power = power if first else self._power + power
        self._count += B * H * W
        self.shape = (C, H, W)
        sizes = maps.abs().flatten()
        if len(sizes) > self._drawn:
            drawn = torch.randint(len(sizes), (self._drawn,), generator=self._generator)
            sizes = sizes[drawn.to(sizes.device)]
        self._sizes.append(sizes.double())

    def values(self) -> dict[str, float]:
        """What the maps are like.

        ``mean``, ``std``: over all values. ``abs_q50``, ``abs_q95``, ``abs_q99``: quantiles of |x|.
        ``dc_share``, ``low_frequency_share``: see ``power_shares``. ``effective_rank``: see there.
        """
        mean = float(self._sums.mean() / self._count)
        square = float(self._products.diagonal().mean() / self._count)
        variance = square - mean**2
        found = {"mean": mean, "std": math.sqrt(variance) if not variance < 0 else 0.0}
        sizes = torch.cat(self._sizes)
        wanted = torch.tensor(QUANTILES, dtype=sizes.dtype, device=sizes.device)
        found["abs_q50"], found["abs_q95"], found["abs_q99"] = torch.quantile(sizes, wanted).tolist()
        found["dc_share"], found["low_frequency_share"] = power_shares(self._power)
        found["effective_rank"] = effective_rank(self._covariance())
        return found

    def _covariance(self) -> Tensor:
        mean = self._sums / self._count
        return self._products / self._count - torch.outer(mean, mean)


def power_shares(power: Tensor) -> tuple[float, float]:
    """(share at frequency zero, share at low frequencies of the rest) of a power spectrum.

    The first is P(0) / sum P, which is 1 for maps that are constant in space: what a flat object looks
    like. The second is the sum of P over 0 < |k| <= 1/8 cycle per pixel, a quarter of Nyquist, divided
    by the sum over all k but 0. White noise has about pi / 64 = 0.049 there. NaN where there is no
    power, and the second also for maps with a side below 8 pixels, which hold no such frequency.

    Args:
        power: (H, W), in the order of ``fftfreq``.
    """
    H, W = power.shape
    rows = torch.fft.fftfreq(H, dtype=torch.float64, device=power.device)
    columns = torch.fft.fftfreq(W, dtype=torch.float64, device=power.device)
    low = rows[:, None].square() + columns.square() <= LOW_FREQUENCY**2
    total, constant = float(power.sum()), float(power[0, 0])
    varying = total - constant
    # Rounding leaves a constant some 1e-13 of its power elsewhere.
    known = min(H, W) >= 1 / LOW_FREQUENCY and varying > 1e-11 * total
    low_share = (float(power[low].sum()) - constant) / varying if known else math.nan
    return constant / total if total > 0 else math.nan, low_share


def effective_rank(covariance: Tensor) -> float:
    """exp of the entropy of the eigenvalues, normalised to sum 1 (Roy and Vetterli 2007, definition 1).

    1 when all channels carry one pattern, C when they are uncorrelated and equally strong. There it is
    defined by singular values of a matrix; here these are the eigenvalues of the covariance (C, C).
    """
    if not torch.isfinite(covariance).all():
        return math.nan
    eigenvalues = torch.linalg.eigvalsh(covariance.double()).clamp(min=0)
    total = eigenvalues.sum()
    if not total > 0:
        return math.nan
    share = eigenvalues / total
    return math.exp(-float(torch.special.xlogy(share, share).sum()))
