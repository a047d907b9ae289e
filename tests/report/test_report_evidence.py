"""Statistics against closed forms, exhaustive counting and simulated studies."""

from __future__ import annotations

import math
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import CensoredData, binom

from ptychofno.report import evidence

Z = 1.959963984540054


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_ends_where_the_score_test_does(counts: tuple[int, int]) -> None:
    """Both ends solve (p̂ − p)² = z² p (1 − p) / n."""
    events, trials = counts
    share = events / trials
    low, high = evidence.wilson(events, trials)
    for end in (low, high):
        assert (share - end) ** 2 == pytest.approx(Z**2 * end * (1 - end) / trials, abs=1e-12)
    assert -1e-12 <= low <= share <= high <= 1 + 1e-12


def test_without_runs_every_rate_is_possible() -> None:
    assert evidence.wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("events", "trials"), [(0, 3), (0, 59), (2, 10)])
def test_the_bound_leaves_five_percent_to_what_was_seen(events: int, trials: int) -> None:
    bound = evidence.upper_bound(events, trials)
    assert binom.cdf(events, trials, bound) == pytest.approx(0.05)
    assert evidence.upper_bound(trials, trials) == 1


@pytest.mark.parametrize(("rate", "seeds"), [(0.05, 59), (0.1, 29)])
def test_seeds_to_bound_is_the_first_that_bounds(rate: float, seeds: int) -> None:
    assert evidence.seeds_to_bound(rate) == seeds
    assert evidence.upper_bound(0, seeds) <= rate < evidence.upper_bound(0, seeds - 1)


def rejections(trials: int) -> list[tuple[int, int]]:
    pairs = product(range(trials + 1), repeat=2)
    return [(a, b) for a, b in pairs if evidence.beyond_chance(evidence.fewer(a, trials, b, trials))]


def chance(outcomes: list[tuple[int, int]], trials: int, rate: float, other: float) -> float:
    return sum(binom.pmf(a, trials, rate) * binom.pmf(b, trials, other) for a, b in outcomes)


def test_boschloo_keeps_its_level_at_every_common_rate() -> None:
    """And is closed where only one outcome is as extreme: 0 of 3 against 3 of 3, at most (½)⁶."""
    assert evidence.fewer(0, 3, 3, 3) == pytest.approx(1 / 64)
    assert evidence.fewer(0, 3, 0, 3) == evidence.fewer(3, 3, 3, 3) == 1
    found = rejections(5)
    assert 0.02 < max(chance(found, 5, rate, rate) for rate in np.linspace(0, 1, 51)) <= 0.05


@pytest.mark.parametrize(("rate", "other"), [(0.05, 0.6), (0.2, 0.8)])
def test_seeds_to_tell_rates_give_about_the_power(rate: float, other: float) -> None:
    seeds = evidence.seeds_to_tell_rates(rate, other)
    assert 0.7 < chance(rejections(seeds), seeds, rate, other) < 0.9


def test_holm_multiplies_down_the_order() -> None:
    assert evidence.holm([0.02, 0.01, 0.6]) == pytest.approx([0.04, 0.03, 0.6])
    assert evidence.holm([0.01, 0.03, 0.031]) == pytest.approx([0.03, 0.06, 0.06]), "never out of order"
    assert evidence.holm([]) == [] and evidence.holm([0.9, 0.8]) == [1, 1]


def test_one_false_claim_among_many_is_rare() -> None:
    """Uniform p values of 10 arms that are as the control: at least one claim in 5 % of all studies."""
    p = np.random.default_rng(0).random((4000, 10))
    assert np.mean([min(evidence.holm(row)) <= 0.05 for row in p]) == pytest.approx(0.05, abs=0.012)


def test_mann_whitney_counts_the_orders() -> None:
    """Fully separated samples of 3 and 4: two of the C(7, 3) orders, the first the better in all pairs."""
    share, p = evidence.beats(np.array([1.0, 2, 3]), np.array([4.0, 5, 6, 7]))
    assert share == 1 and p == pytest.approx(2 / len(list(combinations(range(7), 3))))
    assert evidence.beats(np.array([1.0, 2]), np.array([1.0, 2]))[0] == 0.5


@given(st.lists(st.floats(0.001, 1), min_size=2, max_size=8))
def test_one_of_two_is_the_better(values: list[float]) -> None:
    half = len(values) // 2
    first, second = np.array(values[:half]), np.array(values[half:])
    (share, p), (other, same) = evidence.beats(first, second), evidence.beats(second, first)
    assert share + other == pytest.approx(1)
    assert p == pytest.approx(same, nan_ok=True)


def test_more_seeds_for_a_smaller_difference() -> None:
    apart = evidence.seeds_to_tell_losses(1.0)
    assert apart == math.ceil((Z + 0.8416212335729143) ** 2 / (6 * 0.25))
    assert apart < (evidence.seeds_to_tell_losses(0.7) or 0)
    assert evidence.seeds_to_tell_losses(0.5) is None


@pytest.mark.slow
def test_the_bootstrap_covers_the_true_difference() -> None:
    """Of 200 studies of twice 12 runs, medians 1 apart: at least nine in ten intervals hold it."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        change, low, high = evidence.medians_apart(rng.normal(1, 1, 12), rng.normal(0, 1, 12))
        assert low <= change <= high
        held += low <= 1 <= high
    assert held >= 180
    assert evidence.medians_apart(np.array([2.0]), np.array([1.0, 1.0])) == pytest.approx(
        (1, math.nan, math.nan), nan_ok=True
    )


def test_survival_multiplies_the_shares_that_stay() -> None:
    """Kaplan and Meier: of 5 one leaves at 2; one ends at 3; of the 3 left one leaves at 4."""
    epochs, share, half = evidence.survival(CensoredData(uncensored=[2, 4], right=[3, 6, 6]))
    assert dict(zip(epochs, share, strict=True)) == pytest.approx(
        {2: 4 / 5, 3: 4 / 5, 4: 4 / 5 * 2 / 3, 6: 4 / 5 * 2 / 3}
    )
    assert half == math.inf
    assert evidence.survival(CensoredData(uncensored=[1, 2, 3, 4]))[2] == 2


def test_time_to_leave_is_compared_with_those_that_never_did() -> None:
    early, never = CensoredData(uncensored=[1, 2, 2, 3, 3]), CensoredData(right=[20] * 5)
    assert evidence.differ_in_time(early, never) < 0.01
    assert math.isnan(evidence.differ_in_time(never, never))
