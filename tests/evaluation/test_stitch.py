from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from ptychofno.evaluation import lit_pixels, scanned_region, stitch
from ptychofno.physics import extract_patches, lay


def disturbed(patches, seed=3, level=0.3):
    """Patches whose phases carry smooth errors, as a network's do."""
    error = gaussian_filter(np.random.default_rng(seed).normal(size=patches.shape), (0, 2, 2))
    return patches * torch.exp(1j * torch.from_numpy((level * error / error.std()).astype(np.float32)))


def plain_rounds(patches, positions, probe, shape, rounds):
    """The textbook iteration: correlate every patch with the stitched object, restitch."""
    weight = probe.abs().square()
    illumination = lay(weight.expand(len(patches), -1, -1), positions.long(), shape)
    turns = torch.ones(len(patches), dtype=torch.complex64)
    for _ in range(rounds):
        obj = lay(weight * patches * turns[:, None, None], positions.long(), shape) / illumination
        overlap = (weight * patches).conj() * extract_patches(obj, positions, patches.shape[-1])
        turns = torch.sgn(overlap.sum(dim=(1, 2)))
    return turns


def agreement(patches, positions, probe, shape, turns):
    """sum |sum_i u_i w patch_i|^2 / illumination, what synchronisation maximises."""
    weight = probe.abs().square()
    illumination = lay(weight.expand(len(patches), -1, -1), positions.long(), shape).double()
    total = lay((weight * patches * turns[:, None, None]).to(torch.complex128), positions.long(), shape)
    return float((total.abs().square() / illumination).sum())


def turns_of(stitched):
    return torch.from_numpy(np.exp(-1j * stitched.patch_phases).astype(np.complex64))


def test_true_patches_with_unknown_phases_give_the_object(scan, make):
    phases = make.phases(len(scan.patches))
    result = stitch(make.turned(scan.patches, phases), scan.positions, scan.probe, shape=scan.shape)
    truth = scan.object.numpy()
    np.testing.assert_allclose(make.up_to_phase(result.object, truth), truth, atol=2e-5)
    found = np.exp(1j * (result.patch_phases - phases))
    np.testing.assert_allclose(found, found[0], atol=1e-4)


def test_without_rounds_unknown_phases_blur(scan, make):
    patches = make.turned(scan.patches, make.phases(len(scan.patches)))
    result = stitch(patches, scan.positions, scan.probe, shape=scan.shape, sync_rounds=0)
    assert np.abs(result.object).mean() < 0.7 * scan.object.abs().mean()
    assert not result.patch_phases.any()


def test_patches_in_phase_stay_as_they_are(scan):
    kept = stitch(scan.patches, scan.positions, scan.probe, shape=scan.shape)
    untouched = stitch(scan.patches, scan.positions, scan.probe, shape=scan.shape, sync_rounds=0)
    np.testing.assert_allclose(kept.patch_phases, 0, atol=1e-5)
    np.testing.assert_allclose(kept.object, untouched.object, atol=1e-5)


def test_fractional_positions_cost_no_more_than_interpolation(make):
    rng = np.random.default_rng(2)
    obj, probe = make.object(smoothness=4.0), make.probe()
    positions = torch.from_numpy(rng.uniform(0, 39, size=(300, 2)))
    phases = make.phases(len(positions))
    patches = make.turned(extract_patches(obj, positions, 16), phases)
    result = stitch(patches, positions, probe, shape=(56, 56))
    inner = (slice(8, 48), slice(8, 48))
    truth = obj.numpy()[inner]
    # Linear interpolation errs by at most 1/8 of the second difference along each axis, and
    # is applied twice: once in cutting the patch, once in laying it down.
    bend = max(np.abs(np.diff(obj.numpy(), 2, axis=axis)).max() for axis in (0, 1))
    assert np.abs(make.up_to_phase(result.object[inner], truth) - truth).max() < 4 * bend / 8
    found = np.exp(1j * (result.patch_phases - phases))
    centre = np.exp(1j * np.angle(found.mean()))
    np.testing.assert_allclose(found, centre, atol=4 * bend / 8)


def test_synchronisation_reaches_at_least_sixty_plain_rounds(scan, make):
    patches = disturbed(make.turned(scan.patches, make.phases(len(scan.patches))))
    arguments = (patches, scan.positions, scan.probe, scan.shape)
    result = stitch(patches, scan.positions, scan.probe, shape=scan.shape, sync_rounds=60)
    plain = agreement(*arguments, plain_rounds(*arguments, rounds=60))
    assert agreement(*arguments, turns_of(result)) >= plain * (1 - 1e-6)


def test_a_round_never_lowers_the_agreement(scan, make):
    patches = disturbed(make.turned(scan.patches, make.phases(len(scan.patches))), level=1.0)
    arguments = (patches, scan.positions, scan.probe, scan.shape)
    reached = [
        agreement(*arguments, turns_of(stitch(*arguments[:3], shape=scan.shape, sync_rounds=rounds)))
        for rounds in (1, 2, 4, 8, 60)
    ]
    assert all(later >= earlier * (1 - 1e-6) for earlier, later in pairwise(reached))
    assert reached[-1] > reached[0]


def test_converged_phases_solve_the_fixed_point(scan, make):
    patches = disturbed(make.turned(scan.patches, make.phases(len(scan.patches))))
    result = stitch(patches, scan.positions, scan.probe, shape=scan.shape, sync_rounds=200)
    weight = scan.probe.abs().square()
    windows = extract_patches(torch.from_numpy(result.object), scan.positions, weight.shape[-1])
    overlap = ((weight * patches).conj() * windows).sum(dim=(1, 2)).numpy()
    off = np.angle(overlap * np.exp(1j * result.patch_phases))
    np.testing.assert_allclose(off, 0, atol=2e-3)


def test_the_order_of_patches_does_not_matter(scan, make):
    patches = make.turned(scan.patches, make.phases(len(scan.patches)))
    one = stitch(patches, scan.positions, scan.probe, shape=scan.shape)
    shuffle = torch.randperm(len(patches), generator=torch.Generator().manual_seed(1))
    other = stitch(patches[shuffle], scan.positions[shuffle], scan.probe, shape=scan.shape)
    np.testing.assert_allclose(make.up_to_phase(other.object, one.object), one.object, atol=1e-4)


def test_a_ring_of_patches_closes(make):
    """Patches only overlap with their neighbours on a ring: a start with seams could wind up."""
    obj, probe = make.object(size=120), make.probe()
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    positions = np.rint(52 + 45 * np.stack([np.sin(angle), np.cos(angle)], axis=1))
    patches = extract_patches(obj, torch.from_numpy(positions), 16)
    patches = disturbed(make.turned(patches, make.phases(60)), level=0.1)
    result = stitch(patches, positions, probe, shape=(120, 120))
    lit = result.illumination > 0.1
    error = np.angle(result.object[lit] * obj.numpy()[lit].conj())
    assert np.abs(np.exp(1j * error).mean()) > 0.95


def test_separate_islands_are_each_in_phase(make):
    probe = make.probe()
    obj = make.object(size=100)
    corners = torch.cartesian_prod(torch.arange(0.0, 13, 4), torch.arange(0.0, 13, 4))
    positions = torch.cat([corners, corners + 60])
    patches = make.turned(extract_patches(obj, positions, 16), make.phases(len(positions)))
    result = stitch(patches, positions, probe, shape=(100, 100))
    for island in ((slice(0, 28),) * 2, (slice(60, 88),) * 2):
        truth = obj.numpy()[island]
        np.testing.assert_allclose(make.up_to_phase(result.object[island], truth), truth, atol=1e-4)
    assert not result.object[30:58].any()


@pytest.mark.parametrize("shift", [0.0, 0.37])
def test_illumination_is_the_summed_probe_intensity(scan, shift):
    positions = scan.positions + shift
    result = stitch(scan.patches, positions, scan.probe)
    height, width = result.illumination.shape
    assert (height, width) == ((56, 56) if shift == 0 else (57, 57))
    expected = len(positions) * float(scan.probe.abs().square().sum())
    assert result.illumination.sum() == pytest.approx(expected, rel=1e-5)
    assert result.object.dtype == np.complex64


def test_inputs_that_do_not_fit_are_named(scan):
    with pytest.raises(ValueError, match=r"complex \(n, N, N\)"):
        stitch(scan.patches.real, scan.positions, scan.probe)
    with pytest.raises(ValueError, match="positions of shape"):
        stitch(scan.patches, scan.positions[1:], scan.probe)
    with pytest.raises(ValueError, match=r"probe \(15, 15\) and patches \(16, 16\)"):
        stitch(scan.patches, scan.positions, scan.probe[1:, 1:])
    with pytest.raises(ValueError, match="leaves the object"):
        stitch(scan.patches, scan.positions, scan.probe, shape=(50, 50))


def test_the_scanned_region_is_the_rectangle_that_was_lit():
    illumination = np.zeros((40, 50), dtype=np.float32)
    illumination[5:30, 8:41] = 2.0
    illumination[4, 8:41] = 0.19
    illumination[30, 8:41] = 0.21
    assert scanned_region(illumination) == (slice(5, 31), slice(8, 41))
    assert scanned_region(1e-6 * illumination) == (slice(5, 31), slice(8, 41))
    # How far the object reaches beyond the scan does not matter.
    wide = np.pad(illumination, ((0, 0), (0, 200)))
    assert scanned_region(wide) == (slice(5, 31), slice(8, 41))


def test_nothing_scanned_is_an_error():
    for judge in (scanned_region, lit_pixels):
        with pytest.raises(ValueError, match="zero everywhere"):
            judge(np.zeros((4, 4)))


def test_lit_is_what_has_a_hundredth_of_the_interior():
    illumination = np.full((20, 30), 2.0, dtype=np.float32)
    illumination[3, 4:9] = [0.0, 0.019, 0.021, 0.5, 200.0]
    # Only the brightest pixels make the interior: here one of them, and its hundredth is 2.
    assert lit_pixels(illumination).sum() == 600 - 4
    illumination[3, 8] = 2.0
    dark = [(3, 4), (3, 5)]
    for scale in (1, 1e-6):
        assert [tuple(place) for place in np.argwhere(~lit_pixels(scale * illumination))] == dark


@pytest.mark.parametrize("step", [16, 20])
def test_patches_that_touch_no_other_are_not_turned(make, step):
    axis = torch.arange(0, 65, step, dtype=torch.float64)
    positions = torch.cartesian_prod(axis, axis)
    field, probe = make.object(size=80), make.probe()
    patches = extract_patches(field, positions, 16) * complex(np.exp(2j))
    stitched = stitch(patches, positions, probe, shape=(80, 80))
    lit = stitched.illumination > 0
    np.testing.assert_allclose(
        make.up_to_phase(stitched.object, field.numpy())[lit], field.numpy()[lit], atol=1e-5
    )
