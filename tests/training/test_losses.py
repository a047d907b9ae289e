"""Units and zero points of the losses, and the flat baseline."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ptychofno.models import AmplitudeInput, HybridUNOGenerator, PatchOutput, ProjectedOutput, made
from ptychofno.physics import diffraction_amplitude, error_reduction
from ptychofno.training import schedules
from ptychofno.training.clipping import NoClip
from ptychofno.training.losses import MAELoss, PoissonLoss, flat_baseline
from ptychofno.training.module import PhysicsSupervised, Spread
from ptychofno.training.schedules import Schedule

LOSSES: dict[str, Callable[..., nn.Module]] = {"mae": MAELoss, "poisson": PoissonLoss}


def make(name: str, measured: Tensor, photon_scale: float = 1e4) -> nn.Module:
    of_data = {
        "mean_amplitude": float(measured.mean()),
        "rms_amplitude": float(measured.square().mean().sqrt()),
        "photon_scale": photon_scale,
    }
    return made(LOSSES[name], of_data)


@pytest.mark.parametrize("name", LOSSES)
def test_the_true_object_scores_zero(name: str, scan: dict[str, Tensor]) -> None:
    predicted = diffraction_amplitude(scan["patches"], scan["probe"])
    assert float(make(name, scan["amplitude"])(predicted, scan["amplitude"])) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_does_not_know_the_batch_size(name: str, scan: dict[str, Tensor]) -> None:
    measured = scan["amplitude"]
    loss = make(name, measured)
    one = loss(1.1 * measured[:1], measured[:1])
    many = loss(1.1 * measured[:1].repeat(7, 1, 1, 1), measured[:1].repeat(7, 1, 1, 1))
    torch.testing.assert_close(one, many)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("unit", [1e-2, 1e2])
def test_the_loss_does_not_know_the_unit(name: str, unit: float, scan: dict[str, Tensor]) -> None:
    measured = scan["amplitude"]
    here = make(name, measured)(1.1 * measured, measured)
    # In a unit u times smaller, amplitudes are u times larger and the photon scale u times smaller.
    there = make(name, unit * measured, 1e4 / unit)(1.1 * unit * measured, unit * measured)
    torch.testing.assert_close(here, there)


def test_mae_of_a_known_error() -> None:
    measured = torch.full((2, 1, 4, 4), 2.0)
    assert float(make("mae", measured)(measured + 0.5, measured)) == pytest.approx(0.25)


def test_poisson_is_the_likelihood_of_the_counts() -> None:
    scale, measured = 10.0, torch.rand(3, 1, 8, 8) + 0.5
    predicted = measured + 0.2 * torch.rand(3, 1, 8, 8)
    counts, rate = (scale * measured).square(), (scale * predicted).square()
    nll = nn.functional.poisson_nll_loss(rate, counts, log_input=False)
    at_truth = nn.functional.poisson_nll_loss(counts, counts, log_input=False)
    expected = (nll - at_truth) / counts.mean()
    torch.testing.assert_close(
        make("poisson", measured, scale)(predicted, measured), expected, rtol=0.05, atol=0
    )


@pytest.mark.parametrize("name", LOSSES)
@given(error=st.floats(-0.5, 0.5).filter(lambda e: abs(e) > 1e-2))
def test_the_minimum_is_at_the_measurement(name: str, error: float) -> None:
    measured = torch.rand(2, 1, 6, 6) + 0.6
    loss = make(name, measured)
    assert loss(measured + error, measured) > loss(measured, measured)


def test_poisson_is_finite_for_a_dark_prediction() -> None:
    measured = torch.ones(1, 1, 4, 4)
    predicted = torch.zeros(1, 1, 4, 4, requires_grad=True)
    loss = make("poisson", measured)(predicted, measured)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(predicted.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_no_flat_object_beats_the_flat_baseline(name: str, scan: dict[str, Tensor]) -> None:
    measured, probe = scan["amplitude"], scan["probe"]
    loss = make(name, measured)
    best, amplitude = flat_baseline(loss, measured, probe)
    bare = diffraction_amplitude(torch.ones_like(probe), probe)
    for other in torch.linspace(0.3, 1.7, 57):
        assert float(loss((other * bare).expand_as(measured), measured)) >= best - 1e-5
    assert best > 10 * float(loss(measured, measured)) and 0.7 < amplitude < 1.3


def test_the_flat_baseline_finds_a_flat_object(scan: dict[str, Tensor]) -> None:
    bare = diffraction_amplitude(torch.ones_like(scan["probe"]), scan["probe"])
    measured = (0.6 * bare).expand(3, 1, -1, -1)
    best, amplitude = flat_baseline(make("mae", measured), measured, scan["probe"])
    assert amplitude == pytest.approx(0.6, abs=1e-3) and best == pytest.approx(0.0, abs=2e-3)


def test_a_network_that_sees_nothing_has_the_flat_baseline_whatever_its_output(
    scan: dict[str, Tensor],
) -> None:
    """Rounds towards the measurement bring out lines by themselves; a dead network must not pass by them."""
    measured, probe = scan["amplitude"], scan["probe"]
    loss = make("mae", measured)
    plain, amplitude = flat_baseline(loss, measured, probe)
    output = ProjectedOutput(probe, error_reduction, rounds=3, epsilon=0.01)
    baseline, _ = flat_baseline(loss, measured, probe, output)
    assert baseline < 0.8 * plain
    inputs = AmplitudeInput(1.0)
    dead = HybridUNOGenerator(inputs, 1, probe.shape[-1], fno_blocks=2, hidden_channels=2, output=output)
    with torch.no_grad():
        for weight in dead.parameters():
            weight.zero_()
        dead.head.bias.copy_(torch.tensor([amplitude, 0.0]))
        patch = torch.view_as_complex(dead(measured).contiguous()).movedim(-1, 1)
        assert float(loss(diffraction_amplitude(patch, probe), measured)) == pytest.approx(baseline, rel=1e-5)
    assert flat_baseline(loss, measured, probe, PatchOutput())[0] == pytest.approx(plain, rel=1e-5)

    # The rounds make its patterns differ; the instruments look at what its layers put out.
    module = PhysicsSupervised(dead, probe, loss, torch.optim.Adam, Schedule(schedules.constant), NoClip(), 1)
    module.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    patch = module.validation_step(measured, 0)
    assert module.predicted_contrast() < 1e-6 and module.predicted_amplitude_std() < 1e-6
    assert patch.abs().std(0).max() > 0.01


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
