"""Patches of one sample as those of one object, and detector pixels that say nothing."""

import pytest
import torch
from torch import Tensor

from ptychofno.physics import back_projection, diffraction_amplitude, error_reduction, extract_patches, shift

N = 24
OFFSETS = torch.tensor([[0, 0], [0, 5], [5, 0], [6, 7]], dtype=torch.float64)


@pytest.fixture(scope="module")
def probe() -> Tensor:
    axis = torch.arange(N, dtype=torch.float64) - N / 2
    square = axis[:, None] ** 2 + axis**2
    return torch.exp(-square / 25) * torch.exp(0.03j * square)


@pytest.fixture(scope="module")
def obj() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return 1 + 0.3 * torch.randn(40, 40, dtype=torch.complex128, generator=generator)


def random_phases(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    angle = 2 * torch.pi * torch.rand(*shape, generator=generator, dtype=torch.float64)
    return torch.polar(torch.ones_like(angle), angle)[..., None, None]


def sample(obj: Tensor) -> tuple[Tensor, Tensor]:
    """True patches (2, 4, N, N) and where they lie."""
    positions = torch.stack((OFFSETS + 2, OFFSETS.flip(0) + 1))
    return extract_patches(obj, positions.reshape(-1, 2), N).reshape(2, 4, N, N), positions


@pytest.mark.parametrize("rounds", [0, 3])
def test_patches_of_one_object_agree_whatever_their_phases(obj: Tensor, probe: Tensor, rounds: int) -> None:
    patches, positions = sample(obj)
    measured = diffraction_amplitude(patches, probe)
    found = error_reduction(patches * random_phases(2, 4), measured, probe, 1e-3, rounds, None, positions)
    torch.testing.assert_close(diffraction_amplitude(found, probe), measured, atol=1e-3, rtol=0)
    turns = (found * patches.conj() * probe.abs() ** 2).sum((-2, -1))
    common = torch.sgn(turns[:, :1]).expand_as(turns)
    torch.testing.assert_close(torch.sgn(turns), common, atol=1e-3, rtol=0)


def test_only_positions_relative_to_each_other_count(obj: Tensor, probe: Tensor) -> None:
    patches, positions = sample(obj)
    measured = diffraction_amplitude(patches, probe)
    here, elsewhere = (
        error_reduction(patches, measured, probe, 1e-3, 2, None, positions + by) for by in (0.0, 1000.25)
    )
    torch.testing.assert_close(here, elsewhere)


def test_overlapping_patches_are_equal_where_they_overlap(probe: Tensor) -> None:
    generator = torch.Generator().manual_seed(3)
    patches = torch.randn(1, 2, N, N, dtype=torch.complex128, generator=generator)
    positions = torch.tensor([[[0.0, 0.0], [0.0, 4.0]]])
    found = error_reduction(patches, patches.abs(), probe, 1e-3, 2, None, positions)[0]
    torch.testing.assert_close(found[0][:, 4:], found[1][:, :-4])


def test_at_fractional_positions_exit_waves_of_one_object_stay(obj: Tensor, probe: Tensor) -> None:
    """The model of a scan: the object at whole pixels, the probe shifted by what is left."""
    corners = torch.tensor([[0, 0], [0, 5], [6, 0], [7, 6]])
    fractions = torch.tensor([[0, 0], [0.3, -0.2], [-0.4, 0.1], [0.25, 0.45]], dtype=torch.float64)
    waves = shift(shift(probe, fractions) * extract_patches(obj, corners, N), -fractions)
    patches = waves * probe.conj() / (probe.abs() ** 2 + 1e-12)
    measured = diffraction_amplitude(patches, probe)
    turned = (patches * random_phases(4))[None]
    found = error_reduction(turned, measured[None], probe, 1e-3, 2, None, (corners + fractions)[None])
    error = (diffraction_amplitude(found[0], probe) - measured).abs().sum() / measured.sum()
    assert error < 1e-3


def test_rounds_over_all_patterns_lower_the_error(obj: Tensor, probe: Tensor) -> None:
    patches, positions = sample(obj)
    measured = diffraction_amplitude(patches, probe)
    errors = []
    for rounds in (0, 1, 4, 16, 64):
        found = error_reduction(torch.ones_like(patches), measured, probe, 1e-3, rounds, None, positions)
        errors.append(float((diffraction_amplitude(found, probe) - measured).square().sum()))
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.1 * errors[0]


@pytest.mark.parametrize("case", ["opposite", "dark", "apart", "one dark"])
def test_the_common_object_and_its_gradient_are_finite(probe: Tensor, case: str) -> None:
    probe = probe.to(torch.complex64) * (probe.abs() > 0.1)
    positions = OFFSETS[None].clone()
    patches = torch.ones(1, 4, N, N, dtype=torch.complex64)
    if case == "opposite":
        patches[:, ::2] *= -1
    if case == "dark":
        patches *= 0
    if case == "one dark":
        patches[:, 1] = 0
    if case == "apart":
        positions = 10.0 * N * positions
    patches.requires_grad_()
    found = error_reduction(patches, torch.ones(1, 4, N, N), probe, 1e-3, 2, None, positions)
    diffraction_amplitude(found, probe).sum().backward()
    assert patches.grad is not None
    assert torch.isfinite(torch.view_as_real(found)).all() and torch.isfinite(patches.grad.abs()).all()
    if case == "opposite":
        agreed = error_reduction(patches, patches.abs(), probe, 1e-3, 0, None, positions).abs()
        torch.testing.assert_close(agreed[..., 8:16, 8:16], torch.ones(1, 4, 8, 8), atol=1e-3, rtol=0)


def test_what_an_invalid_pixel_holds_does_not_matter(obj: Tensor, probe: Tensor) -> None:
    patches, positions = sample(obj)
    valid = torch.ones(N, N)
    valid[8:12, 5:9] = 0
    measured = diffraction_amplitude(patches, probe)
    garbage = torch.where(valid > 0, measured, 1e3)
    start = patches * random_phases(2, 4) + 0.1
    for where in (None, positions):
        one, other = (
            error_reduction(start, amplitude, probe, 1e-3, 3, valid, where)
            for amplitude in (measured, garbage)
        )
        torch.testing.assert_close(one, other)
    one, other = (back_projection(amplitude, probe, 1e-3, valid) for amplitude in (measured, garbage))
    torch.testing.assert_close(one, other)


def test_the_true_patch_stays_where_a_mask_hides_pixels(obj: Tensor, probe: Tensor) -> None:
    patches, _ = sample(obj)
    valid = torch.ones(N, N)
    valid[8:12, 5:9] = 0
    hidden = diffraction_amplitude(patches, probe) * valid
    found = error_reduction(patches, hidden, probe, 1e-3, 4, valid)
    torch.testing.assert_close(found, patches, atol=1e-6, rtol=0)
