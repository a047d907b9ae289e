"""Partially coherent light: modes whose intensities add."""

import math

import pytest
import torch
from test_overlap import SIZE, N, object_and_probe, raster
from torch import Tensor

from ptychofno import physics
from ptychofno.metrics import phase_ramp, phase_slopes
from ptychofno.physics import overlap


def modes_and_object() -> tuple[Tensor, Tensor]:
    """Three modes of unequal light, neither orthogonal nor symmetric."""
    obj, probe = object_and_probe()
    row = (torch.arange(N) - N // 2)[:, None] / 4
    return torch.stack([probe, 0.5 * row * probe, (0.3 + 0.2j) * row.T * probe]), obj


def scan_of(obj: Tensor, modes: Tensor, positions: Tensor) -> overlap.Scan:
    corners, fractions = physics.split_positions(positions, N, (SIZE, SIZE))
    probes = modes if fractions is None else physics.shift(modes, fractions[:, None])
    waves = probes * physics.extract_patches(obj, corners, N)[:, None]
    amplitude = physics.far_field(waves).abs().square().sum(1).sqrt()
    return physics.make_scan(amplitude, positions, (SIZE, SIZE))


def test_intensities_of_modes_add_and_mixing_them_changes_nothing() -> None:
    modes, obj = modes_and_object()
    patch = obj[3 : 3 + N, 5 : 5 + N]
    expected = sum(physics.far_field(mode * patch).abs().square() for mode in modes)
    amplitude = physics.diffraction_amplitude(patch, modes)
    torch.testing.assert_close(amplitude.square(), expected)
    mixing = torch.linalg.qr(torch.tensor([[1, 2j, 0], [1j, 1, 3], [0, 1, 1j]])).Q
    mixed = torch.einsum("ij,jrc->irc", mixing, modes)
    torch.testing.assert_close(physics.diffraction_amplitude(patch, mixed), amplitude, rtol=1e-4, atol=1e-5)
    several = physics.diffraction_amplitude(patch.expand(2, 3, N, N), modes)
    torch.testing.assert_close(several, amplitude.expand(2, 3, N, N))


def test_one_mode_is_a_plain_probe_bit_by_bit() -> None:
    obj, probe = object_and_probe()
    scan = scan_of(obj, probe[None], raster(5))
    plain, single = (
        physics.refine(scan, physics.flat_estimate(scan, one), 6, probe_from=2)
        for one in (probe, probe[None])
    )
    assert torch.equal(plain.estimate.object, single.estimate.object) and plain.misfit == single.misfit
    assert torch.equal(plain.estimate.probe, single.estimate.probe[0])


def test_a_dark_prediction_has_a_gradient() -> None:
    modes, _ = modes_and_object()
    patch = torch.zeros(N, N, dtype=torch.complex64, requires_grad=True)
    physics.diffraction_amplitude(patch, modes).sum().backward()
    assert patch.grad is not None and bool(torch.isfinite(patch.grad.abs()).all())
    assert float(patch.grad.abs().max()) > 0


def test_orthogonal_modes_make_the_same_light_the_strongest_first() -> None:
    modes, obj = modes_and_object()
    found = physics.orthogonal_modes(modes.flip(0))
    flat = found.flatten(1)
    products = (flat @ flat.mH).abs()
    torch.testing.assert_close(products, torch.diag(products.diagonal()), atol=1e-4, rtol=0)
    shares = physics.mode_shares(found)
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1)
    patch = obj[:N, :N]
    torch.testing.assert_close(
        physics.diffraction_amplitude(patch, found), physics.diffraction_amplitude(patch, modes)
    )


def test_further_modes_of_a_gaussian_are_hermite_functions() -> None:
    axis = torch.arange(64, dtype=torch.float64) - 30
    gaussian = torch.exp(-(axis[:, None] ** 2 + axis**2) / 50).to(torch.complex128)
    found = physics.further_modes(gaussian, 6, 0.02)
    x = axis / math.sqrt(12.5)  # in widths of the intensity
    down, up = (x + x[:, None]) / math.sqrt(2), (x - x[:, None]) / math.sqrt(2)
    of_order = (lambda along: torch.ones_like(along), lambda along: along, lambda along: along**2 - 1)
    for mode, (i, j) in zip(found, ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)), strict=True):
        expected = gaussian * of_order[i](down) * of_order[j](up)
        torch.testing.assert_close(mode / mode.norm(), expected / expected.norm(), atol=1e-6, rtol=0)
    assert physics.mode_shares(found)[1:] == pytest.approx([0.02 / 1.1] * 5)


@pytest.mark.parametrize("fraction", [0.0, 0.3])
def test_the_true_object_is_a_fixed_point(fraction: float) -> None:
    modes, obj = modes_and_object()
    positions = raster().double()
    positions = positions[(positions < SIZE - N).all(1)] + fraction
    scan = scan_of(obj, modes, positions)
    true = physics.Estimate(obj, modes)
    assert physics.misfit_and_tilt(scan, true)[0] < 1e-5
    for found in (
        overlap.sweep(scan, true, 0.1, range(len(scan.blocks)), refine_probe=True),
        overlap.average(scan, true, refine_probe=True),
    ):
        assert physics.misfit_and_tilt(scan, found)[0] < 1e-4
    fractions = overlap.moved(scan, true).fractions
    assert fractions is not None and float((fractions - fraction).abs().max()) < 1e-4


@pytest.mark.parametrize("together", [False, True])
def test_true_patches_are_kept_by_error_reduction(together: bool) -> None:
    modes, obj = modes_and_object()
    positions = torch.tensor([[[4.0, 4.0], [4.0, 7.0], [8.0, 5.0]]])
    patches = physics.extract_patches(obj, positions[0], N)[None]
    measured = physics.diffraction_amplitude(patches, modes)
    found = physics.error_reduction(
        patches, measured, modes, 1e-3, 2, None, positions + 0.25 if together else None
    )
    torch.testing.assert_close(physics.diffraction_amplitude(found, modes), measured, atol=2e-3, rtol=0)


def test_the_first_guess_of_a_flat_object_is_flat() -> None:
    modes, _ = modes_and_object()
    seen = physics.diffraction_amplitude(torch.ones(N, N), modes)
    guess = physics.back_projection(seen, modes, 1e-6)
    lit = modes.abs().square().sum(0) > 0.05
    torch.testing.assert_close(guess[lit], torch.ones_like(guess[lit]), atol=1e-3, rtol=0)


def phase_error(found: Tensor, truth: Tensor, light: Tensor) -> float:
    """Mean, rad, where it is lit, but for a plane."""
    lit = light > 0.2 * light.max()
    both = (found * truth.conj() * lit).numpy()
    both = torch.from_numpy(both * phase_ramp(phase_slopes(both), both.shape).conj())
    return float((both * torch.exp(-1j * both.sum().angle())).angle()[lit].abs().mean())


@pytest.mark.slow
def test_modes_make_the_object_that_one_mode_cannot() -> None:
    """As good as coherent light where they are known, nearly so where they are found from one."""
    modes, obj = modes_and_object()
    positions = raster(3)
    held_out = torch.arange(len(positions)) % 12 == 6

    def solved(light: Tensor, start: Tensor, **how: int) -> tuple[float, float]:
        known, unseen = (scan_of(obj, light, positions[which]) for which in (~held_out, held_out))
        found = physics.refine(known, physics.flat_estimate(known, start), 40, tolerance=1e-4, **how).estimate
        lit = overlap.illumination(known, found.probe)
        return physics.misfit_and_tilt(unseen, found)[0], phase_error(found.object, obj, lit)

    (_, coherent), (known, of_known) = solved(modes[:1], modes[:1]), solved(modes, modes)
    one, of_one = solved(modes, modes[0], probe_from=2)
    refined, of_refined = solved(modes, physics.further_modes(modes[0], 3, 0.02), probe_from=2)
    assert of_known < coherent + 0.005
    assert known < refined < 0.3 * one and of_refined < 0.7 * of_one
