"""Photons split between what a network sees and what its loss compares with."""

from collections.abc import Iterator

import pytest
import torch
from scipy import stats
from torch import Tensor

from ptychofno.training.batches import ResidentBatches, Thinned, Thinning, compared, parts
from ptychofno.training.fit import ResidentData

SCALE = 3.0
SHARE = 0.3


@pytest.fixture(scope="module")
def counts() -> Tensor:
    """Of 64 patterns, dark and bright."""
    generator = torch.Generator().manual_seed(5)
    rate = torch.logspace(-2, 3, 256).reshape(1, 1, 16, 16).expand(64, -1, -1, -1)
    return torch.poisson(rate, generator)


@pytest.fixture(scope="module")
def amplitude(counts: Tensor) -> Tensor:
    return counts.sqrt() / SCALE


def numbers(thinned: Thinned, share: float) -> tuple[Tensor, Tensor]:
    """The counts behind what is seen and what is not."""
    (seen,) = parts(thinned)
    one, other = ((SCALE * part.double()).square() for part in (seen, compared(thinned)))
    return share * one, (1 - share) * other


def test_the_parts_are_whole_numbers_of_photons_and_sum_to_the_counts(amplitude, counts) -> None:
    seen, unseen = numbers(Thinning(SHARE, SCALE)(amplitude, 0), SHARE)
    for part in (seen, unseen):
        torch.testing.assert_close(part, part.round(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(seen.round() + unseen.round(), counts.double(), rtol=0, atol=0)


def test_the_parts_are_binomial(amplitude, counts) -> None:
    """Mean p n and variance n p (1 - p), and as the binomial distribution has it, pixel by pixel."""
    seen = numbers(Thinning(SHARE, SCALE)(amplitude, 1), SHARE)[0].round()
    n = counts.double()
    standard = ((seen - SHARE * n) / (n * SHARE * (1 - SHARE)).sqrt())[n > 0]
    assert abs(float(standard.mean())) < 4 / len(standard) ** 0.5
    kurtosis = float((standard**4).mean()) - 1
    assert abs(float(standard.square().mean()) - 1) < 4 * (kurtosis / len(standard)) ** 0.5
    often = n == 2
    observed = [int((seen[often] == k).sum()) for k in range(3)]
    expected = stats.binom.pmf(range(3), 2, SHARE) * int(often.sum())
    assert stats.chisquare(observed, expected).pvalue > 1e-3


def test_the_parts_of_poisson_counts_are_independent() -> None:
    """Noise that is seen says nothing of the noise that the loss is computed on."""
    counts = torch.poisson(torch.full((400, 1, 16, 16), 2.0), torch.Generator().manual_seed(0))
    seen, unseen = numbers(Thinning(0.5, SCALE)(counts.sqrt() / SCALE, 0), 0.5)
    correlation = torch.corrcoef(torch.stack((seen.flatten(), unseen.flatten())))[0, 1]
    assert abs(float(correlation)) < 4 / seen.numel() ** 0.5


def shown(seed: int, epoch: int, consumed: int = 0, **processes: int) -> Iterator[Thinned]:
    samples = (torch.arange(20.0).reshape(20, 1, 1, 1).expand(-1, 1, 8, 8), torch.zeros(20, 1, 2))
    thin = Thinning(0.5, SCALE)
    batches = ResidentBatches(samples, 8, seed=seed, drop_last=False, thin=thin, **processes)
    batches.load_state_dict({"epoch": epoch, "consumed": consumed})
    return iter(batches)


def equal(one: Thinned, other: Thinned) -> bool:
    return torch.equal(parts(one)[0], parts(other)[0]) and torch.equal(compared(one), compared(other))


def test_a_split_follows_seed_epoch_and_step_alone() -> None:
    whole, resumed = list(shown(1, 2)), list(shown(1, 2, consumed=1))
    assert all(equal(one, other) for one, other in zip(whole[1:], resumed, strict=True))
    assert not equal(whole[0], next(shown(2, 2)))
    assert not equal(whole[0], next(shown(1, 3)))
    same = torch.ones(16, 1, 8, 8)
    first, second = ResidentBatches(same, 8, seed=1, drop_last=False, thin=Thinning(0.5, SCALE))
    assert not equal(first, second)


def test_processes_share_the_batch_of_one() -> None:
    for batch, *halves in zip(
        shown(1, 2), *(shown(1, 2, rank=rank, processes=2) for rank in (0, 1)), strict=True
    ):
        assert torch.equal(compared(batch), torch.cat([compared(half) for half in halves]))
        assert torch.equal(parts(batch)[0], torch.cat([parts(half)[0] for half in halves]))


def test_positions_stay_with_what_is_seen() -> None:
    batch = next(shown(1, 0))
    _, positions = parts(batch)
    assert positions.shape == (8, 1, 2)


def test_validation_is_split_once_whatever_the_seed(amplitude) -> None:
    one, other = (
        ResidentData(amplitude, amplitude, 8, False, seed=seed, thin=Thinning(SHARE, SCALE)).validation
        for seed in (0, 1)
    )
    assert isinstance(one, Thinned) and isinstance(other, Thinned)
    assert equal(one, other)
    assert not torch.equal(parts(one)[0], amplitude)


def test_by_default_network_and_loss_take_the_whole_pattern(amplitude) -> None:
    data = ResidentData(amplitude, amplitude, 8, False, seed=0)
    assert data.validation is amplitude
    batch = next(iter(ResidentBatches(amplitude, 8, seed=0, drop_last=False)))
    assert compared(batch) is batch
