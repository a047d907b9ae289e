"""An instrument against its closed form."""

import pytest
import torch

from ptychofno.training.instruments import Spread


def test_spread_is_the_standard_deviation_over_patterns() -> None:
    amplitude = torch.rand(12, 2, 8, 8, generator=torch.Generator().manual_seed(1)) + 1e3
    spread = Spread()
    for batch in amplitude.split((5, 4, 3)):
        spread.add(batch)
    pixels = amplitude.double().flatten(0, 1)
    assert spread.root_sum_square() == pytest.approx(
        float(pixels.var(0, correction=0).sum().sqrt()), rel=1e-9
    )
    same = Spread()
    same.add(amplitude[:1, :1].expand(7, 1, 8, 8))
    assert same.root_sum_square() < 1e-3
    assert Spread().root_sum_square() == 0
