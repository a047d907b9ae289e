"""The far field against closed forms and invariants."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptychofno.physics import (
    back_projection,
    diffraction_amplitude,
    error_reduction,
    far_field,
    inverse_far_field,
    modulus,
    photon_scale,
)


def random_wave(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


@given(size=st.integers(2, 33), seed=st.integers(0, 99))
def test_parseval(size: int, seed: int) -> None:
    wave = random_wave(2, size, size, seed=seed)
    torch.testing.assert_close(far_field(wave).abs().square().sum(), wave.abs().square().sum())


@given(size=st.integers(2, 33))
def test_inverse(size: int) -> None:
    wave = random_wave(size, size)
    torch.testing.assert_close(inverse_far_field(far_field(wave)), wave)


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("frequency", [(0, 0), (2, -3), (-1, 1)])
def test_a_plane_wave_is_one_pixel_counted_from_the_centre(size: int, frequency: tuple[int, int]) -> None:
    axis = torch.arange(size, dtype=torch.float64)
    wave = torch.exp(2j * math.pi * (frequency[0] * axis[:, None] + frequency[1] * axis) / size)
    field = far_field(wave)
    expected = torch.zeros_like(field)
    expected[size // 2 + frequency[0], size // 2 + frequency[1]] = size
    torch.testing.assert_close(field, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_the_modulus_is_exact_and_leaves_zero(dtype: torch.dtype) -> None:
    field = torch.tensor([0.0, 3 + 4j, -2.0, 1e-30j], dtype=dtype, requires_grad=True)
    value = modulus(field)
    torch.testing.assert_close(value, torch.tensor([0.0, 5.0, 2.0, 1e-30], dtype=field.real.dtype))
    value.sum().backward()
    expected = torch.tensor([1.0, 0.6 + 0.8j, -1.0, 1j], dtype=dtype)
    torch.testing.assert_close(field.grad, expected)


def test_a_dark_prediction_gets_a_gradient() -> None:
    patch = torch.zeros(8, 8, dtype=torch.complex64, requires_grad=True)
    probe = torch.ones(8, 8, dtype=torch.complex64)
    (diffraction_amplitude(patch, probe) - 1.0).abs().sum().backward()
    assert patch.grad is not None
    assert torch.isfinite(patch.grad.abs()).all() and patch.grad.abs().max() > 0


def test_modulus_ignores_the_phase_of_a_patch() -> None:
    patch, probe = random_wave(3, 16, 16), random_wave(16, 16, seed=1)
    turned = patch * torch.exp(torch.tensor(1j * 0.7))
    torch.testing.assert_close(diffraction_amplitude(turned, probe), diffraction_amplitude(patch, probe))


def test_back_projection_of_a_flat_object_is_flat_where_the_probe_is_bright() -> None:
    axis = torch.arange(32, dtype=torch.float64) - 16
    square = axis[:, None] ** 2 + axis**2
    probe = torch.exp(-square / 50) * torch.exp(1j * square / 40)
    guess = back_projection(diffraction_amplitude(torch.full_like(probe, 0.8), probe), probe, epsilon=1e-6)
    bright = probe.abs() > 0.1
    torch.testing.assert_close(guess[bright], torch.full_like(guess[bright], 0.8), atol=1e-3, rtol=0)


def test_iterations_bring_the_guess_to_what_was_measured(scan: dict[str, torch.Tensor]) -> None:
    """Error reduction never raises the error that it is named after (Fienup 1982)."""
    probe = scan["probe"].to(torch.complex128)
    patch = scan["object"][8:24, 8:24].to(torch.complex128)
    measured = diffraction_amplitude(patch, probe)
    guess = back_projection(measured, probe, 1e-6)
    guesses = [error_reduction(guess, measured, probe, 1e-6, rounds) for rounds in (0, 1, 4, 16, 64)]
    errors = [float((diffraction_amplitude(guess, probe) - measured).square().sum()) for guess in guesses]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.1 * errors[0]


@pytest.mark.parametrize("iterations", [0, 3])
@given(unit=st.floats(1e-3, 1e3))
def test_back_projection_does_not_depend_on_the_unit_of_the_probe(iterations: int, unit: float) -> None:
    probe, patch = random_wave(16, 16, seed=1), random_wave(16, 16)
    guesses = []
    for lit in (probe, unit * probe):
        measured = diffraction_amplitude(patch, lit)
        guess = back_projection(measured, lit, 0.01)
        guesses.append(error_reduction(guess, measured, lit, 0.01, iterations))
    torch.testing.assert_close(guesses[0], guesses[1])


def test_the_true_patch_stays_where_it_is(scan: dict[str, torch.Tensor]) -> None:
    probe, patch = scan["probe"], scan["object"][8:24, 8:24]
    after = error_reduction(patch, diffraction_amplitude(patch, probe), probe, 1e-3, rounds=8)
    torch.testing.assert_close(after, patch, atol=1e-4, rtol=0)


@pytest.mark.parametrize("dark", ["pixel", "pattern", "patch", "all"])
def test_error_reduction_has_a_bounded_gradient_where_it_is_dark(dark: str) -> None:
    """The phase factor has none at 0, and one that grows without bounds near it."""
    probe, patch = random_wave(16, 16, seed=1), random_wave(16, 16)
    measured = diffraction_amplitude(patch, probe)
    if dark in ("pattern", "all"):
        measured = torch.zeros_like(measured)
    if dark in ("patch", "all"):
        patch = torch.zeros_like(patch)
    if dark == "pixel":
        field = far_field(probe * patch)
        field[3, 5] = 1e-30
        patch = inverse_far_field(field) / probe
    patch = patch.clone().requires_grad_()
    after = error_reduction(patch, measured, probe, 1e-2, rounds=2)
    diffraction_amplitude(after, probe).sum().backward()
    assert patch.grad is not None
    assert torch.isfinite(torch.view_as_real(after)).all() and torch.isfinite(patch.grad.abs()).all()
    assert patch.grad.abs().max() < 1e4  # tenfold a round, in all pixels; without a floor 1e16


@pytest.mark.parametrize("unit", [1.0, 1e-6, 1e-12])
def test_error_reduction_and_its_gradient_are_finite_in_any_unit_and_for_a_blank_frame(unit: float) -> None:
    """In single precision, with a probe of a hard edge; a file may hold amplitudes down to 1e-12."""
    axis = torch.arange(16) - 7.5
    probe = (unit * (axis[:, None].square() + axis.square() < 30)).to(torch.complex64)
    truth = random_wave(2, 16, 16).to(torch.complex64)
    measured = diffraction_amplitude(truth, probe)
    measured[1] = 0
    gradients = []
    for scale in (1.0, 1 / unit):
        patch = random_wave(2, 16, 16, seed=3).to(torch.complex64).requires_grad_()
        after = error_reduction(patch, scale * measured, scale * probe, 1e-3, rounds=8)
        (diffraction_amplitude(after, scale * probe).sum() / (unit * scale)).backward()
        assert patch.grad is not None and torch.isfinite(torch.view_as_real(patch.grad)).all()
        gradients.append(patch.grad)
    torch.testing.assert_close(gradients[0][0], gradients[1][0], rtol=1e-2, atol=1e-2)


def test_photon_scale_gives_the_photons_asked_for() -> None:
    wave = random_wave(5, 16, 16)
    intensity = float(wave.abs().square().sum((-2, -1)).mean())
    scale = photon_scale(intensity, nphotons=1e6)
    counts = (scale * far_field(wave).abs()).square().sum((-2, -1)).mean()
    assert float(counts) == pytest.approx(1e6)
