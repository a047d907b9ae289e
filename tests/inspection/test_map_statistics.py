"""Statistics of feature maps against what is known of them."""

import math

import pytest
import torch

from ptychofno.inspection.statistics import MapStatistics, effective_rank, power_shares


def values_of(*batches: torch.Tensor) -> dict[str, float]:
    statistics = MapStatistics(len(batches))
    for batch in batches:
        statistics.add(batch)
    return statistics.values()


def gaussian(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_a_gaussian_has_its_moments_quantiles_and_spectrum() -> None:
    found = values_of(*(3 + 2 * gaussian(16, 4, 32, 32)).split(4))
    assert found["mean"] == pytest.approx(3, abs=0.03)
    assert found["std"] == pytest.approx(2, rel=0.01)
    # |x - 3| would be half normal; |x| itself is 3 + 2 z but for the tail below 0.
    assert found["abs_q95"] == pytest.approx(3 + 2 * 1.645, rel=0.01)
    assert found["abs_q99"] == pytest.approx(3 + 2 * 2.326, rel=0.01)
    assert found["dc_share"] == pytest.approx(9 / 13, rel=0.02)
    assert found["low_frequency_share"] == pytest.approx(math.pi / 64, rel=0.1)
    assert found["effective_rank"] == pytest.approx(4, rel=1e-3)


def test_quantiles_of_few_values_are_exact() -> None:
    x = torch.arange(-50.0, 51.0).reshape(1, 1, 1, 101)
    found = values_of(x)
    assert (found["abs_q50"], found["abs_q95"]) == (25.0, torch.quantile(x.abs(), 0.95).item())


def test_batches_add_up() -> None:
    x = gaussian(8, 3, 8, 8) + gaussian(3, 1, 1)
    whole, parts = values_of(x), values_of(*x.split(3))
    assert parts == pytest.approx(whole, rel=1e-6)


def test_a_constant_map_is_all_dc() -> None:
    found = values_of(torch.tensor([1.0, -2.0]).reshape(1, 2, 1, 1).expand(3, 2, 16, 16))
    assert found["dc_share"] == pytest.approx(1, abs=1e-12)
    assert math.isnan(found["low_frequency_share"])


@pytest.mark.parametrize(("cycles", "share"), [(1, 1.0), (4, 1.0), (5, 0.0), (16, 0.0)])
def test_a_wave_is_low_up_to_a_quarter_of_nyquist(cycles: int, share: float) -> None:
    wave = torch.cos(2 * math.pi * cycles * torch.arange(32) / 32).expand(1, 1, 32, 32)
    found = values_of(1 + wave)
    assert found["low_frequency_share"] == pytest.approx(share, abs=1e-6)
    # cos^2 has the mean 1/2; at Nyquist it is 1.
    assert found["dc_share"] == pytest.approx(1 / (1 + wave.square().mean().item()), rel=1e-5)


def test_maps_too_small_for_a_low_frequency_have_no_share_of_it() -> None:
    assert math.isnan(values_of(gaussian(2, 2, 4, 4))["low_frequency_share"])


def test_nothing_has_no_shares() -> None:
    dc, low = power_shares(torch.zeros(8, 8))
    assert math.isnan(dc) and math.isnan(low)
    assert math.isnan(values_of(torch.zeros(1, 2, 8, 8))["effective_rank"])


@pytest.mark.parametrize("channels", [1, 5])
def test_effective_rank_between_one_pattern_and_white(channels: int) -> None:
    direction = gaussian(channels)
    assert effective_rank(torch.outer(direction, direction)) == pytest.approx(1, abs=1e-5)
    assert effective_rank(3.0 * torch.eye(channels)) == pytest.approx(channels)


def test_effective_rank_of_two_unequal_directions() -> None:
    # Entropy of (3/4, 1/4).
    assert effective_rank(torch.diag(torch.tensor([3.0, 1.0, 0.0]))) == pytest.approx(
        math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    )


def test_the_mean_of_a_channel_is_no_direction_of_its_own() -> None:
    pattern = gaussian(4, 1, 8, 8)
    maps = pattern * torch.tensor([1.0, 2.0, -1.0]).reshape(3, 1, 1) + torch.tensor([5.0, 0.0, 9.0]).reshape(
        3, 1, 1
    )
    assert values_of(maps)["effective_rank"] == pytest.approx(1, abs=1e-4)


def test_what_is_not_finite_has_no_value() -> None:
    found = values_of(torch.full((1, 2, 8, 8), math.nan))
    assert all(math.isnan(value) for value in found.values())
