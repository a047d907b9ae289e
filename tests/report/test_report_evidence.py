"""Statistics against closed forms and exhaustive counting."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def test_fisher_counts_the_ways_to_deal_the_crashes() -> None:
    """0 of 3 against 3 of 3: one of the C(6, 3) ways."""
    assert evidence.fewer(0, 3, 3, 3) == pytest.approx(1 / math.comb(6, 3))
    assert evidence.fewer(0, 3, 1, 3) == pytest.approx(0.5)
    assert evidence.fewer(1, 5, 1, 5) > 0.5


@pytest.mark.parametrize(("rate", "other"), [(0.0, 1.0), (0.0, 0.5), (0.1, 0.7)])
def test_seeds_to_tell_rates_is_where_the_power_passes(rate: float, other: float) -> None:
    """Against counting every outcome with Fisher's test itself."""

    def power(trials: int) -> float:
        def chance(k: int, p: float) -> float:
            return math.comb(trials, k) * p**k * (1 - p) ** (trials - k)

        return sum(
            chance(a, rate) * chance(b, other)
            for a in range(trials + 1)
            for b in range(trials + 1)
            if evidence.beyond_chance(evidence.fewer(a, trials, b, trials))
        )

    seeds = evidence.seeds_to_tell_rates(rate, other)
    assert seeds is not None
    assert power(seeds) >= 0.8 > power(seeds - 1)


def test_no_number_of_seeds_shows_what_is_not_there() -> None:
    assert evidence.seeds_to_tell_rates(0.2, 0.2) is None
    assert evidence.seeds_to_tell_rates(0.5, 0.2) is None
    assert evidence.seeds_to_tell_rates(0.200, 0.201) is None, "more than anybody trains"


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3])
def test_seeds_to_bound_is_the_first_that_bounds(rate: float) -> None:
    seeds = evidence.seeds_to_bound(rate)
    assert evidence.wilson(0, seeds)[1] < rate <= evidence.wilson(0, seeds - 1)[1]


def test_mann_whitney_counts_the_orders() -> None:
    """Fully separated samples of 3 and 4: two of the C(7, 3) orders."""
    assert evidence.differ([1, 2, 3], [4, 5, 6, 7]) == pytest.approx(2 / len(list(combinations(range(7), 3))))


def test_more_seeds_for_a_smaller_difference() -> None:
    apart = evidence.seeds_to_tell_losses([1, 2, 3], [4, 5, 6])
    assert apart == math.ceil((Z + 0.8416212335729143) ** 2 / (6 * 0.25))
    mixed = evidence.seeds_to_tell_losses([1, 2, 5], [3, 4, 6])
    assert apart is not None and mixed is not None and mixed > apart
    assert evidence.seeds_to_tell_losses([1, 4], [2, 3]) is None


@given(st.lists(st.floats(0.001, 1), min_size=2, max_size=8, unique=True))
def test_order_of_the_samples_does_not_matter(values: list[float]) -> None:
    half = len(values) // 2
    first, second = values[:half], values[half:]
    assert evidence.differ(first, second) == pytest.approx(evidence.differ(second, first))
    assert evidence.seeds_to_tell_losses(first, second) == evidence.seeds_to_tell_losses(second, first)


def test_power_is_a_probability() -> None:
    assert np.isclose(evidence._power(6, 0.0, 1.0), 1.0)
    assert evidence._power(6, 0.5, 0.5) <= 0.05, "the test keeps its level"
