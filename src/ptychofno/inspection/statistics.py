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
        self._sums = self._products = self._power = torch.zeros((), dtype=torch.float64)
        self.shape = (0, 0, 0)

    def add(self, maps: Tensor) -> None:
        """Take one batch into account."""
        maps = maps.detach()
        B, C, H, W = maps.shape
        values = maps.double().transpose(0, 1).reshape(C, B * H * W)
        self._count += B * H * W
        self._sums = self._sums + values.sum(1)
        self._products = self._products + values @ values.T
        self._power = self._power + torch.fft.fft2(maps).abs().double().square().sum((0, 1)) / (H * W)
        self.shape = (C, H, W)
        sizes = maps.abs().flatten()
        if len(sizes) > self._drawn:
            drawn = torch.randint(len(sizes), (self._drawn,), generator=self._generator)
            sizes = sizes[drawn.to(sizes.device)]
        self._sizes.append(sizes.double())

    def values(self) -> dict[str, float]:
        """``mean``, ``std``: over all values. ``abs_q50``, ``abs_q95``, ``abs_q99``: quantiles of |x|.
        ``dc_share``, ``low_frequency_share``: see ``power_shares``. ``effective_rank``: see there."""
        means = self._sums / self._count
        mean = float(means.mean())
        variance = float(self._products.diagonal().mean() / self._count) - mean**2
        sizes = torch.cat(self._sizes)
        quantiles = torch.quantile(sizes, sizes.new_tensor(QUANTILES)).tolist()
        dc_share, low_frequency_share = power_shares(self._power)
        return {
            "mean": mean,
            "std": math.sqrt(variance) if not variance < 0 else 0.0,
            **dict(zip(("abs_q50", "abs_q95", "abs_q99"), quantiles, strict=True)),
            "dc_share": dc_share,
            "low_frequency_share": low_frequency_share,
            "effective_rank": effective_rank(self._products / self._count - torch.outer(means, means)),
        }


def power_shares(power: Tensor) -> tuple[float, float]:
    """Shares of a power spectrum (H, W), in the order of ``fftfreq``: at frequency zero; of the rest, at low.

    The first is 1 for maps that are constant in space, as a flat object is. The second is the sum over
    0 < |k| <= 1/8 cycle per pixel by that over all k but 0; white noise has about pi / 64 = 0.049 there.
    NaN without power, the second also for maps with a side below 8 pixels, which hold no such frequency.
    """
    H, W = power.shape
    rows, columns = (torch.fft.fftfreq(side, dtype=torch.float64, device=power.device) for side in (H, W))
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
    if not eigenvalues.sum() > 0:
        return math.nan
    share = eigenvalues / eigenvalues.sum()
    return math.exp(-float(torch.special.xlogy(share, share).sum()))
