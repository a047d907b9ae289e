"""How far two images agree per spatial frequency. Images are real (H, W), frequencies cycles/pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.floating]


def fourier_ring_correlation(image: Real, reference: Real) -> tuple[Real, Real]:
    """Correlation of two images (H, W) per ring of spatial frequency.

    Re sum F conj(G) / sqrt(sum |F|^2 sum |G|^2) over each ring (Saxton and Baumeister 1982;
    van Heel and Schatz 2005). The mean is removed and a Hann window applied before the
    transform, as the jump between opposite edges would correlate at every frequency. Rings are
    one frequency step of the shorter side wide, from the first above 0 to 0.5 cycles/pixel.
    An image without contrast correlates with nothing: 0 in every ring.

    Returns:
        Ring frequencies in cycles/pixel and correlations, each (rings,).
    """
    height, width = image.shape
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    transforms = [np.fft.rfft2(window * (one - one.mean())) for one in (image, reference)]
    steps = min(height, width)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    ring = np.rint(frequency * steps).astype(np.int64)
    # The half spectrum holds columns 0 and Nyquist once and stands for the others twice.
    copies = np.full(width // 2 + 1, 2.0)
    copies[0] = 1.0
    if width % 2 == 0:
        copies[-1] = 1.0

    def per_ring(value: Real) -> Real:
        sums = np.bincount(ring.ravel(), (value * copies).ravel())
        return np.asarray(sums[1 : steps // 2 + 1], dtype=np.float64)

    cross = per_ring((transforms[0] * np.conj(transforms[1])).real)
    powers = [per_ring(np.abs(transform) ** 2) for transform in transforms]
    # Below this the power is rounding of a constant, whose correlation would be a coin toss.
    floors = [1e-13 * one.size * np.square(one).sum() for one in (image, reference)]
    contrast = all(power.sum() > floor for power, floor in zip(powers, floors, strict=True))
    norm = np.sqrt(powers[0] * powers[1]) * contrast
    correlation = np.divide(cross, norm, out=np.zeros_like(cross), where=norm > 0)
    return np.arange(1, steps // 2 + 1) / steps, correlation


def resolved_frequency(frequency: Real, correlation: Real, threshold: float) -> float:
    """Where the ring correlation first falls below ``threshold``, cycles/pixel.

    Linear between rings; 0 when already the first ring is below, 0.5 (Nyquist) when none is.
    A threshold of 1/7 is the usual 0.143 (Rosenthal and Henderson 2003).
    """
    below = np.flatnonzero(correlation < threshold)
    if below.size == 0:
        return 0.5
    end = int(below[0])
    if end == 0:
        return 0.0
    start = end - 1
    fraction = (correlation[start] - threshold) / (correlation[start] - correlation[end])
    return float(frequency[start] + fraction * (frequency[end] - frequency[start]))


def found_shares(image: Real, reference: Real, bands: Sequence[tuple[float, float]]) -> list[float]:
    """How much of ``reference`` is in ``image``, both (H, W), in bands of spatial frequency.

    Re sum F conj(G) / sum |G|^2 over each band above its lower and up to its upper end, in cycles/pixel,
    after a Hann window: 1 where all of it is there, 0 where nothing, 0.5 also where it is there at half its
    height. Ring correlation, which normalises both, does not see that. NaN for a band that holds no frequency
    or nothing of the reference.
    """
    window = np.outer(*(np.hanning(side) for side in reference.shape))
    found, true = (np.fft.fft2(window * (one - one.mean())) for one in (image, reference))
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(side) for side in reference.shape), indexing="ij"))
    shares = []
    for low, high in bands:
        band = (frequency > low) & (frequency <= high)
        power = float(np.square(np.abs(true[band])).sum())
        shares.append(float((found * np.conj(true))[band].real.sum()) / power if power > 0 else math.nan)
    return shares
