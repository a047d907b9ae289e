"""How sure a comparison of few runs is: effects with intervals, exact tests, and what more runs would show.

Rates: Wilson's interval (1927), the one-sided bound of Clopper and Pearson (1934), the exact test of Boschloo
(1970), Holm's step-down (1979) across arms. Losses: bootstrap, Mann and Whitney (1947). Time on the plateau:
Kaplan and Meier (1958).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import (
    CensoredData,
    binomtest,
    bootstrap,
    boschloo_exact,
    ecdf,
    logrank,
    mannwhitneyu,
    norm,
)

LEVEL = 0.05
POWER = 0.8

Numbers = NDArray[np.float64]


def beyond_chance(p: float) -> bool:
    """Whether p is at most 5 %, which a rounding error does not decide."""
    return p <= LEVEL * (1 + 1e-9)


def wilson(events: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a rate; everything, (0, 1), without trials."""
    if trials == 0:
        return 0.0, 1.0
    interval = binomtest(events, trials).proportion_ci(confidence_level=1 - LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def upper_bound(events: int, trials: int) -> float:
    """What the rate is below with 95 % confidence, exactly: 1 − 0.05^(1/n) without an event in n trials."""
    test = binomtest(events, trials, alternative="less")
    return float(test.proportion_ci(confidence_level=1 - LEVEL, method="exact").high)


def seeds_to_bound(rate: float) -> int:
    """Runs without a single crash after which ``upper_bound`` is at most ``rate``."""
    return int(np.ceil(np.log(LEVEL) / np.log1p(-rate)))


@lru_cache(maxsize=256)
def fewer(events: int, trials: int, others: int, other_trials: int) -> float:
    """One-sided p of Boschloo's exact test that the first rate is not below the second."""
    if events + others in (0, trials + other_trials):
        return 1.0
    table = [[events, others], [trials - events, other_trials - others]]
    return float(boschloo_exact(table, alternative="less").pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values raised so that the chance of one false claim among all of them is at most the level."""
    order = np.argsort(p_values)
    raised = np.sort(p_values) * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(raised), 1)
    return adjusted.tolist()


def seeds_to_tell_rates(rate: float, other: float) -> int:
    """Runs per arm that show at 5 %, in 80 % of all studies, that the first rate is below the other one.

    Fleiss (1981), without correction, as of Boschloo's test: the sum of z_α √(2 p̄ (1 − p̄)) and
    z_β √(p₁ (1 − p₁) + p₂ (1 − p₂)), squared, over (p₁ − p₂)².
    """
    mean = (rate + other) / 2
    deviations = np.sqrt([2 * mean * (1 - mean), rate * (1 - rate) + other * (1 - other)])
    return int(np.ceil((norm.isf([LEVEL, 1 - POWER]) @ deviations / (rate - other)) ** 2))


def medians_apart(first: Numbers, second: Numbers) -> tuple[float, float, float]:
    """Median of the first minus that of the second, and the ends of its 95 % interval.

    The percentiles of 9,999 resamples; NaN with fewer than two values of each.
    """
    difference = float(np.median(first) - np.median(second))
    if min(len(first), len(second)) < 2:
        return difference, np.nan, np.nan
    found = bootstrap(
        (first, second),
        lambda one, two, axis: np.median(one, axis=axis) - np.median(two, axis=axis),
        confidence_level=1 - LEVEL,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return difference, float(found.low), float(found.high)


def beats(first: Numbers, second: Numbers) -> tuple[float, float]:
    """The chance that a value of the first is below one of the second, ties half; p of Mann and Whitney."""
    tied = len({*first.tolist(), *second.tolist()}) < len(first) + len(second)
    test = mannwhitneyu(first, second, method="asymptotic" if tied else "exact")
    return float(1 - test.statistic / (len(first) * len(second))), float(test.pvalue)


def seeds_to_tell_losses(share: float) -> int | None:
    """Runs per arm that show at 5 %, in 80 % of all studies, that one ``beats`` the other in this share.

    Noether (1987), for equal samples: n = (z_α/2 + z_β)² / (6 (share − ½)²); None for one half.
    """
    quantiles = float(norm.isf(LEVEL / 2) + norm.isf(1 - POWER))
    return None if share == 0.5 else int(np.ceil(quantiles**2 / (6 * (share - 0.5) ** 2)))


def survival(times: CensoredData) -> tuple[Numbers, Numbers, float]:
    """When the share of runs that are still there drops, to what, and when to half or less (else inf)."""
    share = ecdf(times).sf
    half = share.quantiles[share.probabilities <= 0.5]
    return share.quantiles, share.probabilities, float(half[0]) if half.size else np.inf


def differ_in_time(first: CensoredData, second: CensoredData) -> float:
    """Two-sided p of the log-rank test; NaN where nothing happens in either."""
    with np.errstate(all="ignore"):
        return float(logrank(first, second).pvalue)
