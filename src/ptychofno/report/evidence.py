"""How sure a comparison of few runs is.

Crash rates: Wilson's interval (Wilson 1927) and Fisher's exact test. Losses: the exact test of Mann and
Whitney. Both say too how many runs the observed difference would need.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.special import gammaln
from scipy.stats import binom, binomtest, fisher_exact, mannwhitneyu, norm

LEVEL = 0.05
POWER = 0.8
MOST_SEEDS = 400
"""Beyond this nobody trains; ``seeds_to_tell_rates`` gives up."""


def beyond_chance(p: float) -> bool:
    """Whether p is at most 5 %, which a rounding error does not decide."""
    return p <= LEVEL * (1 + 1e-9)


def wilson(events: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a rate; everything, (0, 1), without trials."""
    if trials == 0:
        return 0.0, 1.0
    interval = binomtest(events, trials).proportion_ci(confidence_level=1 - LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def fewer(events: int, trials: int, others: int, other_trials: int) -> float:
    """One-sided p of Fisher's exact test that the first rate is not below the second."""
    table = [[events, trials - events], [others, other_trials - others]]
    return float(fisher_exact(table, alternative="less").pvalue)


@lru_cache(maxsize=256)
def seeds_to_tell_rates(rate: float, other: float) -> int | None:
    """Runs per arm after which ``fewer`` is at most 5 % in 80 % of all studies, if the rates are these.

    The smallest number from which on a doubling and bisection finds that power; None when ``rate`` is
    not below ``other`` or the number is above 400.
    """
    if not rate < other:
        return None
    enough = 2
    while _power(enough, rate, other) < POWER:
        enough *= 2
        if enough > 2 * MOST_SEEDS:
            return None
    short = enough // 2
    while enough - short > 1:
        middle = (short + enough) // 2
        short, enough = (short, middle) if _power(middle, rate, other) >= POWER else (middle, enough)
    return enough if enough <= MOST_SEEDS else None


def seeds_to_bound(rate: float) -> int:
    """Runs without a single crash after which Wilson's interval ends below ``rate``: z² / (n + z²)."""
    square = float(norm.isf(LEVEL / 2)) ** 2
    return int(np.floor(square * (1 - rate) / rate)) + 1


def differ(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p of the Mann-Whitney test that two samples come from one distribution."""
    tied = len({*first, *second}) < len(first) + len(second)
    return float(mannwhitneyu(first, second, method="asymptotic" if tied else "exact").pvalue)


def seeds_to_tell_losses(first: Sequence[float], second: Sequence[float]) -> int | None:
    """Runs per arm that show a difference of this size at 5 % in 80 % of all studies.

    Noether (1987), eq. for the Wilcoxon test with equal samples: n = (z_α/2 + z_β)² / (6 (P − ½)²) with
    P the share of pairs in which the first is smaller. None when the samples do not differ at all.
    """
    pairs = np.subtract.outer(np.asarray(second), np.asarray(first))
    share = float((np.sign(pairs).mean() + 1) / 2)
    if share == 0.5:
        return None
    quantiles = float(norm.isf(LEVEL / 2) + norm.isf(1 - POWER))
    return int(np.ceil(quantiles**2 / (6 * (share - 0.5) ** 2)))


def _power(trials: int, rate: float, other: float) -> float:
    """How often Fisher's one-sided test shows ``rate`` < ``other`` with this many runs of each."""
    first = np.arange(trials + 1)
    # Rows: crashes in both arms together; columns: crashes in the first. Hypergeometric, summed along.
    total = np.arange(2 * trials + 1)[:, None]
    second = total - first
    possible = (second >= 0) & (second <= trials)
    chances = np.exp(
        _log_choose(trials, first)
        + _log_choose(trials, second.clip(0, trials))
        - _log_choose(2 * trials, total)
    )
    p = np.cumsum(np.where(possible, chances, 0.0), axis=1)
    rejected = p[first[:, None] + first, first[:, None]] <= LEVEL * (1 + 1e-9)
    likely = np.outer(binom.pmf(first, trials, rate), binom.pmf(first, trials, other))
    return float(likely[rejected].sum())


def _log_choose(whole: int, part: np.ndarray) -> np.ndarray:
    return np.asarray(gammaln(whole + 1) - gammaln(part + 1) - gammaln(whole - part + 1))
